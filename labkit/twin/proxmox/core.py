"""What the handlers of the proxy share: fakepve, the VMs, the tasks, the storages, the guests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.guests import Guests
from labkit.twin.proxmox.access import Access
from labkit.twin.proxmox.calls import Call
from labkit.twin.proxmox.errors import PveError, TaskError, lock_timeout
from labkit.twin.proxmox.fakepve import FakePve
from labkit.twin.proxmox.hosts import Hosts
from labkit.twin.proxmox.inventory import Inventory, Vm
from labkit.twin.proxmox.storage import Storages
from labkit.twin.proxmox.tasks import Tasks
from labkit.twin.world import World


@dataclass
class Core:
    """The state of the twin's Proxmox cluster."""

    world: World
    pve: FakePve
    inventory: Inventory
    tasks: Tasks
    storages: Storages
    access: Access
    guests: Guests
    hosts: Hosts
    busy: dict[int, asyncio.Lock] = field(default_factory=dict)
    """Per VMID: held while a clone copies from it."""

    def is_down(self, node: str) -> bool:
        """Tell whether a host is off."""
        return self.world.faults.has("host-down", node)

    @property
    def quorate(self) -> bool:
        """Whether more than half of the hosts are there, and no fault says otherwise."""
        online = sum(not self.is_down(node) for node in self.world.lab.hosts)
        return 2 * online > len(self.world.lab.hosts) and not self.world.faults.has("no-quorum")

    def vm(self, call: Call) -> Vm:
        """Return the VM that the path names."""
        return self.inventory.at(call.node, call.names["vmid"])

    def path(self, vm: Vm, rest: str = "") -> str:
        """Return the path of a VM as fakepve knows it."""
        return f"/nodes/{vm.home}/qemu/{vm.vmid}{rest}"

    async def task_of(self, vm: Vm, method: str, rest: str, params: dict[str, Any]) -> str:
        """Have fakepve do something with a VM that makes a task; return how that task ended."""
        upid = await self.pve.ask(method, self.path(vm, rest), params)
        return await self.outcome(vm.home, upid)

    async def outcome(self, home: str, upid: str | None) -> str:
        """Return the exit status of a task of fakepve, which has ended already."""
        if upid is None:
            return "OK"
        return str((await self.pve.ask("GET", f"/nodes/{home}/tasks/{upid}/status"))["exitstatus"])

    async def lock(self, vmid: int, wait: float) -> asyncio.Lock:
        """Take the lock of a configuration; raise the time-out of Proxmox after `wait` twin seconds."""
        lock = self.busy.setdefault(vmid, asyncio.Lock())
        try:
            await asyncio.wait_for(lock.acquire(), wait * self.world.clock.scale)
        except TimeoutError:
            raise lock_timeout(vmid) from None
        return lock

    async def power_off(self, vm: Vm) -> None:
        """Record that a VM has stopped by itself or was stopped."""
        vm.running = False
        vm.live.clear()
        try:
            await self.pve.ask("POST", self.path(vm, "/status/stop"))
            await self.inventory.refresh(vm)
        except PveError as exc:
            raise TaskError(exc.message) from exc
