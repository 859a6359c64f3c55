"""How full and how well a guest is, beside what runs in it; and the actions that set it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import StepFailed
from labkit.twin.guests.units import State, Unit

if TYPE_CHECKING:
    from labkit.twin.guests.group import Guests
    from labkit.twin.guests.guest import Guest

_DAY = 86400
REBOOT = "/run/reboot-required"


@dataclass
class Condition:
    """What tools in a guest tell of its room, in percent; `disk_percent` None for a disk that nobody filled."""

    disk_percent: int | None = None
    inode_percent: int = 6
    memory_percent: int = 20
    read_only: bool = False


class GuestConditions:
    """Set the state of guests by name.

    `guest`: `name`, and any of `disk_percent`, `inode_percent`, `memory_percent`, `read_only`, `reboot_days` (since
    when a restart is asked for; None takes that back), `failed_unit` (its name), `mended_unit`.
    """

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self.actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {"guest": self.guest}

    async def guest(self, given: dict[str, Any]) -> None:
        """Change the state of a guest."""
        guest = self._guests.named(str(given["name"]))
        if guest is None:
            raise StepFailed(f"guest: expected one of the twin's, got {given['name']}")
        for key in ("disk_percent", "inode_percent", "memory_percent", "read_only"):
            if key in given:
                setattr(guest.condition, key, given[key])
        if "reboot_days" in given:
            _ask_for_reboot(guest, given["reboot_days"])
        if "failed_unit" in given:
            _set_unit(guest, str(given["failed_unit"]), "failed")
        if "mended_unit" in given:
            _set_unit(guest, str(given["mended_unit"]), "active")


def _ask_for_reboot(guest: Guest, days: float | None) -> None:
    if days is None:
        guest.files.locate(REBOOT).unlink(missing_ok=True)
        return
    guest.files.put(REBOOT, "*** System restart required ***\n")
    guest.files.put(f"{REBOOT}.pkgs", "linux-image-6.8.0-88-generic\nlinux-base\n")
    moment = guest.world.clock.now() - float(days) * _DAY
    os.utime(guest.files.locate(REBOOT), (moment, moment))


def _set_unit(guest: Guest, name: str, state: State) -> None:
    unit = guest.units.get(name) or guest.units.add(Unit(name if "." in name else f"{name}.service", name))
    unit.state = state
