"""systemd in a guest: units that start and stop, and a journal per unit.

Who adds software to a guest adds a `Unit` with what happens at its start and stop; systemctl and journalctl
then work on it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["active", "inactive", "failed", "activating", "deactivating"]
Action = Callable[[], Awaitable[None]]


class UnitError(Exception):
    """The start of a unit that went wrong; the text goes to the journal."""


@dataclass
class Unit:
    """One unit: what its start and stop do, whether it starts at boot, and how it stands.

    `start` raises UnitError when it goes wrong. `main_pid` is made up when it runs. With `again` a unit that failed
    is about to be started again (Restart=always). `joined` waits for the end of a start that is under way.
    """

    name: str
    description: str = ""
    start: Action | None = None
    stop: Action | None = None
    joined: Action | None = None
    again: bool = False
    enabled: bool = True
    state: State = "inactive"
    since: float = 0.0
    result: str = "success"
    restarts: int = 0
    main_pid: int = 0

    @property
    def sub_state(self) -> str:
        """What systemctl shows in brackets."""
        return {"active": "running", "inactive": "dead", "failed": "failed",
                "activating": "start", "deactivating": "stop"}[self.state]  # fmt: skip


@dataclass
class Units:
    """All units of a guest, and what they wrote."""

    now: Callable[[], float] = time.time
    _all: dict[str, Unit] = field(default_factory=dict)
    _journal: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def add(self, unit: Unit) -> Unit:
        """Make a unit known, in place of one of the same name."""
        self._all[unit.name] = unit
        return unit

    def remove(self, name: str) -> None:
        """Forget a unit; its journal stays."""
        self._all.pop(_full(name), None)

    def get(self, name: str) -> Unit | None:
        """Return a unit by name, with or without `.service`."""
        return self._all.get(_full(name))

    def all(self) -> list[Unit]:
        """Return all units in order of their names."""
        return [self._all[name] for name in sorted(self._all)]

    def log(self, name: str, text: str) -> None:
        """Write lines to the journal of a unit."""
        lines = self._journal.setdefault(_full(name), [])
        lines.extend((self.now(), line) for line in text.splitlines())

    def journal(self, name: str) -> list[tuple[float, str]]:
        """Return the time and the text of each line of a unit, the oldest first."""
        return self._journal.get(_full(name), [])

    async def start(self, unit: Unit) -> None:
        """Start a unit that does not run; raise UnitError."""
        if unit.state in {"active", "activating"}:
            if unit.state == "activating" and unit.joined is not None:
                await unit.joined()
            return
        self._become(unit, "activating")
        try:
            if unit.start is not None:
                await unit.start()
        except UnitError as exc:
            self.log(unit.name, str(exc))
            unit.result = "exit-code"
            self._become(unit, "activating" if unit.again else "failed")
            raise
        unit.result = "success"
        unit.main_pid = 900 + sum(map(ord, unit.name)) % 5000
        self._become(unit, "active")

    async def stop(self, unit: Unit) -> None:
        """Stop a unit; one that failed becomes inactive."""
        if unit.state in {"active", "activating"}:
            self._become(unit, "deactivating")
            if unit.stop is not None:
                await unit.stop()
        unit.main_pid = 0
        self._become(unit, "inactive")

    def fail(self, unit: Unit, text: str) -> None:
        """Record that a running unit died."""
        self.log(unit.name, text)
        unit.result, unit.main_pid = "exit-code", 0
        self._become(unit, "failed")

    def lose_power(self) -> None:
        """Forget what ran, as a machine does that is switched off."""
        for unit in self._all.values():
            unit.state, unit.main_pid = "inactive", 0

    def _become(self, unit: Unit, state: State) -> None:
        unit.state, unit.since = state, self.now()


def _full(name: str) -> str:
    return name if "." in name else f"{name}.service"
