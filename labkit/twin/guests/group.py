"""All guests of a twin: they come with their VMs, boot and go down with them, and are deleted with them."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping

from labkit.twin.guests.guest import Guest, Hook
from labkit.twin.world import World

_log = logging.getLogger(__name__)


class Guests:
    """Know the guests by VMID.

    `on_create` is told of every new guest before it first boots: the place to add units, files and hooks.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._all: dict[int, Guest] = {}
        self._jobs: set[asyncio.Future[None]] = set()
        self._made: Counter[tuple[int, str]] = Counter()
        self.on_create: list[Callable[[Guest], None]] = []
        self.powered_off: Callable[[int], Awaitable[None]] | None = None
        world.faults.follow(self._follow_faults)

    def __iter__(self) -> Iterator[Guest]:
        return iter(list(self._all.values()))

    def get(self, vmid: int) -> Guest | None:
        """Return the guest of a VM, or None."""
        return self._all.get(vmid)

    def named(self, name: str) -> Guest | None:
        """Return the guest of a name, or None."""
        return next((guest for guest in self if guest.name == name), None)

    def at(self, address: str) -> Guest | None:
        """Return the guest that is up at an address, or None."""
        return next((guest for guest in self if guest.phase == "up" and guest.address == address), None)

    def create(self, vmid: int, name: str) -> Guest:
        """Make the guest of a new VM: fresh, whatever was there before."""
        folder = self._world.options.state / "guests" / str(vmid)
        shutil.rmtree(folder, ignore_errors=True)
        self._made[vmid, name] += 1
        guest = Guest(self._world, vmid, name, folder, number=self._made[vmid, name])
        guest.on_reboot, guest.on_power_off = self._reboot, self._power_off
        guest.on_boot.append(_open_door)
        for tell in self.on_create:
            tell(guest)
        self._all[vmid] = guest
        return guest

    def delete(self, vmid: int) -> None:
        """Delete a guest and its files."""
        guest = self._all.pop(vmid, None)
        if guest is not None:
            shutil.rmtree(guest.folder, ignore_errors=True)

    def power_on(self, vmid: int, name: str, settings: Mapping[str, str], *, at_once: bool = False) -> Guest:
        """Boot the guest of a VM."""
        guest = self._all.get(vmid) or self.create(vmid, name)
        guest.name = name
        guest.power_on(settings, at_once=at_once)
        return guest

    async def power_off(self, vmid: int, *, orderly: bool = True) -> None:
        """Let the guest of a VM go down."""
        guest = self._all.get(vmid)
        if guest is not None:
            await guest.power_off(orderly=orderly)

    async def stop(self) -> None:
        """End all guests, without ceremony."""
        await asyncio.gather(*(guest.power_off(orderly=False) for guest in self))

    def everywhere(self, hook: Hook, *, at: str = "boot") -> None:
        """Have a hook on every guest that is made from now on."""
        self.on_create.append(lambda guest: (guest.on_boot if at == "boot" else guest.on_shutdown).append(hook))

    async def _follow_faults(self) -> None:
        for guest in self:
            self._hush_agent(guest)
            if guest.phase == "up":
                await _open_door(guest)

    def _hush_agent(self, guest: Guest) -> None:
        """Have systemd in the guest show what Proxmox hears of its agent."""
        unit, silent = guest.units.get("qemu-guest-agent"), self._world.faults.has("agent-silent", guest.name)
        if unit is not None and silent:
            unit.state = "inactive"
        elif unit is not None and guest.phase == "up" and unit.enabled and unit.state == "inactive":
            unit.state = "active"

    def _reboot(self, guest: Guest) -> None:
        self._later(self._cycle(guest))

    async def _cycle(self, guest: Guest) -> None:
        settings = guest.settings
        await self._world.clock.sleep(self._world.pace.stop)
        await guest.power_off()
        await self._world.clock.sleep(self._world.pace.shutdown)
        if self._all.get(guest.vmid) is guest:
            guest.power_on(settings)

    def _power_off(self, guest: Guest) -> None:
        self._later(self._end(guest))

    async def _end(self, guest: Guest) -> None:
        await self._world.clock.sleep(self._world.pace.shutdown)
        await guest.power_off()
        if self.powered_off is not None:
            await self.powered_off(guest.vmid)

    def _later(self, work: Awaitable[None]) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)


async def _open_door(guest: Guest) -> None:
    from labkit.twin.guests.ssh import open_door  # noqa: PLC0415  # asyncssh is slow to import

    await open_door(guest)
