"""Tasks of the twin's Proxmox: they take time, keep a log and end with OK, WARNINGS or an error."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.clock import TwinClock
from labkit.twin.proxmox.errors import PveError, TaskError, TaskVanishedError

OK = "OK"


@dataclass
class Task:
    """One task: who asked for what and where, its log, and how it ended (None: it runs)."""

    upid: str
    node: str
    type: str
    id: str
    user: str
    pid: int
    start: int
    log: list[str] = field(default_factory=list)
    end: int | None = None
    exitstatus: str | None = None
    job: asyncio.Task[None] | None = None

    def view(self) -> dict[str, Any]:
        """Return it as Proxmox's status call shows it."""
        user, _, token = self.user.partition("!")
        shown: dict[str, Any] = {
            "upid": self.upid, "node": self.node, "pid": self.pid, "pstart": self.pid * 7, "type": self.type,
            "id": self.id, "user": user, "starttime": self.start,
            "status": "running" if self.exitstatus is None else "stopped",
        }  # fmt: skip
        if token:
            shown["tokenid"] = token
        if self.exitstatus is not None:
            shown["exitstatus"] = self.exitstatus
        return shown

    def line(self) -> dict[str, Any]:
        """Return it as Proxmox's task list shows it: `status` is the exit status."""
        shown = self.view()
        del shown["status"]
        if self.exitstatus is not None:
            del shown["exitstatus"]
            shown.update(status=self.exitstatus, endtime=self.end)
        return shown


class Tasks:
    """Start tasks, and know all of them."""

    def __init__(self, clock: TwinClock, *, with_warnings: Callable[[], bool]) -> None:
        self._clock = clock
        self._with_warnings = with_warnings
        self._pids = itertools.count(1200, 7)
        self._all: dict[str, Task] = {}

    def start(self, node: str, kind: str, target: object, user: str, work: Callable[[Task], Awaitable[None]]) -> str:
        """Start a task and return its UPID; `work` raises TaskError to end it with an error."""
        pid, start = next(self._pids), int(self._clock.now())
        upid = f"UPID:{node}:{pid:08X}:{pid * 7:08X}:{start:08X}:{kind}:{target}:{user}:"
        task = Task(upid, node, kind, str(target), user, pid, start)
        self._all[upid] = task
        task.job = asyncio.get_running_loop().create_task(self._run(task, work))
        return upid

    def record(self, node: str, kind: str, target: object, user: str, *, start: float, status: str) -> str:
        """Note a task that has ended long ago; return its UPID."""
        pid, begun = next(self._pids), int(start)
        upid = f"UPID:{node}:{pid:08X}:{pid * 7:08X}:{begun:08X}:{kind}:{target}:{user}:"
        self._all[upid] = Task(upid, node, kind, str(target), user, pid, begun, end=begun + 60, exitstatus=status)
        return upid

    def get(self, node: str, upid: str) -> Task:
        """Return a task of a node; raise PveError when there is none."""
        task = self._all.get(upid)
        if task is None or task.node != node:
            raise PveError(500, f"unable to parse worker upid '{upid}'")
        return task

    def of(self, node: str | None = None) -> list[Task]:
        """Return the tasks of one node or of all, the newest first."""
        return [task for task in reversed(self._all.values()) if node in {None, task.node}]

    def lose(self, node: str) -> None:
        """End all running tasks of a node without a word, as when its power fails."""
        for task in self.of(node):
            if task.exitstatus is None and task.job is not None:
                task.job.cancel()

    async def _run(self, task: Task, work: Callable[[Task], Awaitable[None]]) -> None:
        try:
            await work(task)
            self._end(task, "WARNINGS: 1" if self._with_warnings() else OK)
        except TaskError as exc:
            self._end(task, str(exc))
        except PveError as exc:
            self._end(task, exc.message)
        except (TaskVanishedError, asyncio.CancelledError):
            task.exitstatus, task.end = "unexpected status", int(self._clock.now())

    def _end(self, task: Task, status: str) -> None:
        if status.startswith("WARNINGS"):
            task.log.append("WARN: the twin was asked for a warning")
        plain = status == OK or status.startswith("WARNINGS")
        task.log.append(f"TASK {status}" if plain else f"TASK ERROR: {status}")
        task.exitstatus, task.end = status, int(self._clock.now())
