"""A unit of systemd with Type=notify and Restart=always around a program that is a coroutine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from labkit.twin.guests.changes import unwatched
from labkit.twin.guests.guest import Guest
from labkit.twin.guests.units import Unit, UnitError
from labkit.twin.k3s.errors import Fatal, log_line
from labkit.twin.k3s.places import RETRY

_log = logging.getLogger(__name__)
Program = Callable[["Service"], Awaitable[None]]


class Service:
    """Keep a program running: it calls `ready` when it is, and raises Fatal when it ends with an error.

    `systemctl start` waits for `ready` or for the first end; after an end the program is started again.
    """

    def __init__(self, guest: Guest, name: str, description: str, program: Program) -> None:
        self._guest = guest
        self._name = name
        self._description = description
        self._program = program
        self._task: asyncio.Task[None] | None = None
        self._outcome: asyncio.Future[None] | None = None
        self._hurry = asyncio.Event()
        self.unit = Unit(f"{name}.service", description, start=self.start, stop=self.stop, joined=self._join)

    def log(self, text: str, level: str = "info") -> None:
        """Write a line to the unit's journal as k3s does."""
        self._guest.units.log(self._name, log_line(self._guest.now(), level, text))

    def systemd(self, text: str) -> None:
        """Write a line of systemd to the unit's journal."""
        self._guest.units.log(self._name, text)

    def ready(self) -> None:
        """Tell systemd that the program is up."""
        self.unit.state, self.unit.since = "active", self._guest.now()
        self.unit.again, self.unit.result = False, "success"
        self.systemd(f"Started {self.unit.name} - {self._description}.")
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(None)

    async def start(self) -> None:
        """Start the program and wait until it is ready; raise UnitError when it ends before."""
        await self.stop()
        self.unit.restarts, self.unit.again = 0, False
        self._new_outcome()
        with unwatched():
            self._task = self._guest.spawn(self._keep())
        await self._join()

    async def stop(self) -> None:
        """End the program, and the attempts to start it."""
        if await self.kill():
            self.systemd(f"Stopped {self.unit.name} - {self._description}.")
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_exception(UnitError(f"{self.unit.name}: Job canceled."))

    async def kill(self) -> bool:
        """End the program without a word; return whether it ran."""
        task, self._task = self._task, None
        self.unit.again = False
        if task is None or task.done():
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    async def _join(self) -> None:
        if self._outcome is None or (self._outcome.done() and self.unit.again):
            self._new_outcome()  # a start in the pause between two attempts begins the next one
            self._hurry.set()
        assert self._outcome is not None  # noqa: S101  # made above
        await asyncio.shield(self._outcome)

    def _new_outcome(self) -> None:
        self._outcome = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(_look)

    async def _keep(self) -> None:
        while True:
            self.systemd(f"Starting {self.unit.name} - {self._description}...")
            try:
                await self._program(self)
            except Fatal as exc:
                self.log(str(exc), "fatal")
            except OSError as exc:
                self.log(f"{exc.filename}: {(exc.strerror or str(exc)).lower()}", "fatal")
            except Exception as exc:  # noqa: BLE001  # logged here, and for the guest a crash
                _log.exception("%s: %s", self._guest.name, self.unit.name)
                self.log(f"panic: {exc}", "fatal")
            await self._pause()

    async def _pause(self) -> None:
        """Tell that the program ended, and wait as RestartSec says."""
        unit = self.unit
        self.systemd(f"{unit.name}: Main process exited, code=exited, status=1/FAILURE")
        unit.again, unit.main_pid, unit.result = True, 0, "exit-code"
        unit.state, unit.since = "activating", self._guest.now()
        self._hurry.clear()
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_exception(UnitError(f"{unit.name}: Failed with result 'exit-code'."))
        sleep = asyncio.ensure_future(self._guest.world.clock.sleep(RETRY))
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait((sleep, hurry), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            hurry.cancel()
        unit.restarts += 1
        unit.again = False
        self.systemd(f"{unit.name}: Scheduled restart job, restart counter is at {unit.restarts}.")
        if self._outcome is None or self._outcome.done():
            self._new_outcome()


def _look(outcome: asyncio.Future[None]) -> None:
    """Take note of how it ended, when nobody else waits for that."""
    if not outcome.cancelled():
        outcome.exception()
