"""Wait for tasks: one watcher asks each host once for all of its tasks that are waited for and due."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import LabError, StepFailed
from labkit.systems.access import Clock
from labkit.systems.proxmox.client import Client
from labkit.systems.proxmox.errors import ProxmoxError

SOON, LATER, SELDOM = 0.25, 0.6, 10.0  # lab seconds between two questions about one task
YOUNG = 3.0  # lab seconds in which a short task is expected to end
NEARLY = 0.9  # of the time that the last such task took: until then there is little to ask
LEAST = 0.02  # real seconds between two rounds, however fast the lab's time runs
PATIENCE = 60.0  # lab seconds without any answer after which waiting ends


@dataclass(frozen=True)
class TaskEnd:
    """How a task ended well: its id, and the warnings in its log."""

    upid: str
    warnings: tuple[str, ...] = ()


@dataclass
class _Waiter:
    kind: tuple[str, str]
    since: float
    due: float
    done: threading.Event = field(default_factory=threading.Event)
    exitstatus: str = ""
    last: str = "no answer yet"
    silent_since: float | None = None
    error: LabError | None = None


class Tasks:
    """The tasks that somebody waits for; safe to use from many threads."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._waiting: dict[str, _Waiter] = {}
        self._guard = threading.Lock()
        self._watching = False
        self._took: dict[tuple[str, str], float] = {}

    def wait(self, upid: str, *, what: str, deadline: float) -> TaskEnd:
        """Wait until a task has ended well.

        Args:
            upid: the task's id, as a call returned it.
            what: what the task does, for messages.
            deadline: lab seconds.

        Raises:
            ProxmoxError: the task failed; its reason is the exit status.
            StepFailed: it did not end within the deadline; it goes on.
            SystemDown: Proxmox stopped answering.
        """
        waiter = self._join(upid)
        if not waiter.done.wait(deadline * self._clock.scale):
            self._leave(upid)
            raise StepFailed(
                f"{what}: expected its task to end within {deadline:g} s, last seen: {waiter.last}",
                next_step=f"the task goes on: look at it in Proxmox ({upid}), then run again",
            )
        if waiter.error is not None:
            raise waiter.error
        if waiter.exitstatus == "OK":
            return TaskEnd(upid)
        if waiter.exitstatus.startswith("WARNINGS"):
            return TaskEnd(upid, self._warnings(upid))
        raise ProxmoxError(what, waiter.exitstatus)

    def running(self, node: str, kind: str, vmid: int) -> str | None:
        """Return the id of a task of that kind for that guest that runs right now, or None."""
        rows = self._client.get(f"nodes/{node}/tasks", source="active", vmid=vmid, limit=200)
        matching = (row for row in rows if row.get("type") == kind and str(row.get("id")) == str(vmid))
        return next((str(row["upid"]) for row in matching if _is_running(row)), None)

    def _join(self, upid: str) -> _Waiter:
        parts, now = upid.split(":"), self._clock.monotonic()
        with self._guard:
            waiter = self._waiting.setdefault(upid, _Waiter((parts[1], parts[5]), now, now))
            waiter.due = now + self._pause(waiter, now)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="proxmox-tasks", daemon=True).start()
            return waiter

    def _leave(self, upid: str) -> None:
        with self._guard:
            self._waiting.pop(upid, None)

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(max(LEAST, self._next_due() * self._clock.scale))
            now = self._clock.monotonic()
            groups: dict[str, list[str]] = defaultdict(list)
            with self._guard:
                if not self._waiting:
                    self._watching = False
                    return
                for upid, waiter in self._waiting.items():
                    if waiter.due <= now:
                        groups[waiter.kind[0]].append(upid)
                        waiter.due = now + self._pause(waiter, now)
            for node, upids in groups.items():
                self._ask(node, upids)

    def _next_due(self) -> float:
        """Lab seconds until a question is due; never long, as a new task may come meanwhile."""
        now = self._clock.monotonic()
        with self._guard:
            return min([SOON, *(max(0.0, waiter.due - now) for waiter in self._waiting.values())])

    def _pause(self, waiter: _Waiter, now: float) -> float:
        """Lab seconds until a task is asked for again: seldom at first when the last one of its kind took long."""
        age, usual = now - waiter.since, self._took.get(waiter.kind)
        if usual is None:
            return SOON if age < YOUNG else LATER
        if age < NEARLY * usual:
            return min(NEARLY * usual - age, SELDOM)
        return SOON if age < 2 * usual else LATER

    def _ask(self, node: str, upids: list[str]) -> None:
        try:
            for upid, exitstatus in self._ended(node, upids).items():
                self._finish(upid, exitstatus)
        except LabError as exc:  # the next interval asks again, until patience ends
            self._note(upids, exc)

    def _ended(self, node: str, upids: list[str]) -> dict[str, str]:
        """The exit status of those that have ended."""
        ended = {}
        rows = self._rows(node, upids)
        for upid in upids:
            row = rows.get(upid) or self._client.get(f"nodes/{node}/tasks/{upid}/status")
            if not _is_running(row):
                ended[upid] = str(row.get("exitstatus") or row.get("status") or "")
            else:
                self._saw(upid)
        return ended

    def _rows(self, node: str, upids: list[str]) -> dict[str, dict[str, Any]]:
        if len(upids) == 1:
            return {}
        since = min(int(upid.split(":")[4], 16) for upid in upids)
        rows = self._client.get(f"nodes/{node}/tasks", source="all", since=since, limit=500)
        return {str(row["upid"]): row for row in rows}

    def _saw(self, upid: str) -> None:
        with self._guard:
            if waiter := self._waiting.get(upid):
                waiter.last, waiter.silent_since = "it runs", None

    def _finish(self, upid: str, exitstatus: str) -> None:
        with self._guard:
            if waiter := self._waiting.pop(upid, None):
                self._took[waiter.kind] = self._clock.monotonic() - waiter.since
                waiter.exitstatus = exitstatus
                waiter.done.set()

    def _note(self, upids: list[str], exc: LabError) -> None:
        now = self._clock.monotonic()
        with self._guard:
            for upid in upids:
                waiter = self._waiting.get(upid)
                if waiter is None:
                    continue
                waiter.last = exc.message
                waiter.silent_since = now if waiter.silent_since is None else waiter.silent_since
                if now - waiter.silent_since >= PATIENCE:
                    waiter.error = exc
                    del self._waiting[upid]
                    waiter.done.set()

    def _warnings(self, upid: str) -> tuple[str, ...]:
        node = upid.split(":")[1]
        lines = self._client.get(f"nodes/{node}/tasks/{upid}/log", limit=500)
        texts = [str(line.get("t", "")) for line in lines]
        return tuple(text for text in texts if text.upper().startswith("WARN")) or ("see the task's log",)


def _is_running(row: dict[str, Any]) -> bool:
    """Lists have the exit status as `status`, and leave it out or say RUNNING while a task runs."""
    if "exitstatus" in row or "endtime" in row:
        return False
    return str(row.get("status") or "running").lower() == "running"
