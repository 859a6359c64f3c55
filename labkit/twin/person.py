"""What a person does outside labkit: in Proxmox's web interface, or with a hand on the power switch.

None of it counts as a write, and no fault stands in its way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from labkit.errors import StepFailed
from labkit.twin.proxmox.access import ROOT
from labkit.twin.proxmox.calls import Call
from labkit.twin.proxmox.conditions import Conditions
from labkit.twin.proxmox.configs import Configs
from labkit.twin.proxmox.inventory import Vm
from labkit.twin.proxmox.system import Proxmox

_FOREIGN = {"memory": "2048", "cores": "2", "ostype": "l26", "agent": "enabled=1", "ciuser": "somebody"}


class Person:
    """Act on VMs by name; every action takes and returns plain data."""

    def __init__(self, proxmox: Proxmox) -> None:
        self._proxmox = proxmox
        self._core = proxmox.core
        self.actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "move": self.move, "delete": self.delete, "add": self.add, "configure": self.configure,
            "unlock": self.unlock, "power": self.power, **Conditions(self._core).actions,
        }  # fmt: skip

    async def move(self, given: dict[str, Any]) -> None:
        """Migrate a VM to another host (`name`, `host`)."""
        if (host := str(given["host"])) not in self._core.world.lab.hosts:
            raise StepFailed(f"move: expected a host of the lab, got {host}")
        self._vm(given).node = host

    async def delete(self, given: dict[str, Any]) -> None:
        """Delete a VM (`name`), running or not, locked or not."""
        vm = self._vm(given)
        if vm.running:
            await self._core.guests.power_off(vm.vmid, orderly=False)
            await self._core.power_off(vm)
        await self._core.pve.ask("DELETE", self._core.path(vm))
        self._core.inventory.remove(vm.vmid)
        self._core.guests.delete(vm.vmid)

    async def add(self, given: dict[str, Any]) -> int:
        """Make a VM that is not the lab's (`name`, and perhaps `vmid`, `host`, `address`), and start it."""
        vmid = int(given.get("vmid") or self._core.inventory.free_id())
        host = str(given.get("host") or next(iter(self._core.world.lab.hosts)))
        params: dict[str, object] = dict(_FOREIGN)
        params["net0"] = f"virtio={self._core.world.seed.mac(vmid, 'foreign')},bridge=vmbr0"
        if address := given.get("address"):
            network = self._core.world.lab.network
            params["ipconfig0"] = f"ip={address}/{network.cidr.prefixlen},gw={network.gateway}"
        vm = await self._proxmox.add_vm(vmid, str(given["name"]), host, params)
        if given.get("running", True):
            await self._switch_on(vm)
        return vmid

    async def configure(self, given: dict[str, Any]) -> None:
        """Set keys of a VM (`name`, `values`); unless `restart` is false a running VM is restarted for it."""
        vm = self._vm(given)
        call = Call("PUT", "", dict(given["values"]), ROOT, vm.node, {"node": vm.node, "vmid": str(vm.vmid)})
        again = vm.running and given.get("restart", True)
        if again:
            await self._switch_off(vm)
        await Configs(self._core).put(call)
        if again:
            await self._switch_on(vm)

    async def unlock(self, given: dict[str, Any]) -> None:
        """Clear the lock of a VM (`name`), as `qm unlock` does."""
        self._vm(given).lock = ""

    async def power(self, given: dict[str, Any]) -> None:
        """Switch a VM (`name`) on or off (`on`)."""
        vm = self._vm(given)
        if given["on"] and not vm.running:
            await self._switch_on(vm)
        elif not given["on"] and vm.running:
            await self._switch_off(vm)

    def _vm(self, given: dict[str, Any]) -> Vm:
        vm = self._core.inventory.named(str(given["name"]))
        if vm is None:
            raise StepFailed(f"expected a VM of the twin, got {given['name']}")
        return vm

    async def _switch_off(self, vm: Vm) -> None:
        await self._core.guests.power_off(vm.vmid, orderly=False)
        await self._core.power_off(vm)

    async def _switch_on(self, vm: Vm) -> None:
        await self._core.task_of(vm, "POST", "/status/start", {})
        await self._core.inventory.refresh(vm)
        vm.running, vm.started = True, self._core.world.clock.now()
        self._core.guests.power_on(vm.vmid, vm.name, vm.settings)
