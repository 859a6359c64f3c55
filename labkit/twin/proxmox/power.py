"""Power: start, stop, shutdown, reboot, reset, delete and backup, with their tasks and locks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from labkit.twin.proxmox.calls import Call
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.errors import PveError, TaskError, parameter_error
from labkit.twin.proxmox.inventory import Vm
from labkit.twin.proxmox.privileges import Need
from labkit.twin.proxmox.privileges import vm as vm_need
from labkit.twin.proxmox.tasks import Task
from labkit.twin.targets import LOCAL


class Power:
    """The calls below `status`, and those that end a VM's life or copy it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def start(self, call: Call) -> str:
        """Switch a VM on."""
        vm = self._core.vm(call)

        async def work(task: Task) -> None:
            end = self._core.world.clock.monotonic() + self._core.world.pace.start
            if vm.lock:
                raise TaskError(f"VM is locked ({vm.lock})")
            if (status := await self._core.task_of(vm, "POST", "/status/start", call.params)) != "OK":
                raise TaskError(status)
            task.log.append("generating cloud-init ISO")
            vm.running = True
            vm.live.clear()
            await self._core.inventory.refresh(vm)
            await self._core.world.clock.sleep_until(end)
            self._boot(vm)

        return self._task(call, "qmstart", vm, work)

    async def stop(self, call: Call) -> str:
        """Pull the plug."""
        call.allow("skiplock", "timeout", "keepActive", "migratedfrom", "overrule-shutdown")
        vm = self._core.vm(call)
        vm.need_unlocked()

        async def work(_task: Task) -> None:
            await self._core.world.clock.sleep(self._core.world.pace.stop)
            await self._off(vm)

        return self._task(call, "qmstop", vm, work)

    async def shutdown(self, call: Call) -> str:
        """Ask the guest to power off."""
        call.allow("skiplock", "timeout", "keepActive", "forceStop")
        vm = self._running(call)

        async def work(_task: Task) -> None:
            await self._core.world.clock.sleep(self._core.world.pace.shutdown)
            await self._off(vm)

        return self._task(call, "qmshutdown", vm, work)

    async def reboot(self, call: Call) -> str:
        """Shut down and start again, with what was pending."""
        call.allow("timeout")
        vm = self._running(call)

        async def work(_task: Task) -> None:
            await self._core.world.clock.sleep(self._core.world.pace.shutdown)
            await self._core.guests.power_off(vm.vmid)
            await self._core.task_of(vm, "POST", "/status/reboot", {})
            await self._is_on(vm)

        return self._task(call, "qmreboot", vm, work)

    async def reset(self, call: Call) -> str:
        """Press the reset button."""
        call.allow("skiplock")
        vm = self._running(call)

        async def work(_task: Task) -> None:
            await self._core.guests.power_off(vm.vmid)
            await self._core.task_of(vm, "POST", "/status/reset", {})
            self._boot(vm)

        return self._task(call, "qmreset", vm, work)

    async def delete(self, call: Call) -> str:
        """Delete a VM and its disks."""
        vm = self._core.vm(call)

        async def work(_task: Task) -> None:
            vm.need_unlocked()
            await self._core.world.clock.sleep(self._core.world.pace.delete)
            self._core.inventory.remove(vm.vmid)
            self._core.guests.delete(vm.vmid)

        if not vm.lock:
            status = await self._core.task_of(vm, "DELETE", "", call.params)
            if status != "OK":
                raise PveError(500, status)
        return self._task(call, "qmdestroy", vm, work)

    async def backup(self, call: Call) -> str:
        """Back up one VM onto a storage."""
        vm = self._core.inventory.at(call.node, call.text("vmid"))
        storage = call.text("storage", LOCAL)
        if not self._core.storages.takes_backups(storage):
            raise parameter_error(storage=f"storage '{storage}' does not support backups")
        call.caller.check(
            [*vm_need("VM.Backup"), Need(f"/storage/{storage}", ("Datastore.AllocateSpace",))], call.params
        )

        async def work(_task: Task) -> None:
            vm.need_unlocked()
            vm.lock = "backup"
            try:
                await self._core.world.clock.sleep(self._core.world.pace.backup)
            finally:
                vm.lock = ""
            self._core.storages.backups.append(archive(vm, storage, self._core.world.clock.now()))

        return self._task(call, "vzdump", vm, work)

    def _running(self, call: Call) -> Vm:
        vm = self._core.vm(call)
        if not vm.running:
            raise PveError(500, f"VM {vm.vmid} not running")
        vm.need_unlocked()
        return vm

    async def _is_on(self, vm: Vm) -> None:
        vm.live.clear()
        await self._core.inventory.refresh(vm)
        self._boot(vm)

    def _boot(self, vm: Vm) -> None:
        vm.running, vm.started = True, self._core.world.clock.now()
        self._core.guests.power_on(vm.vmid, vm.name, vm.settings)

    async def _off(self, vm: Vm) -> None:
        await self._core.guests.power_off(vm.vmid)
        await self._core.power_off(vm)

    def _task(self, call: Call, kind: str, vm: Vm, work: Callable[[Task], Awaitable[None]]) -> str:
        return self._core.tasks.start(vm.node, kind, vm.vmid, call.caller.user, work)


def archive(vm: Vm, storage: str, moment: float) -> dict[str, Any]:
    """Return a backup of a VM as a storage lists it."""
    made = int(moment)
    return {
        "node": vm.node, "storage": storage, "content": "backup", "format": "vma.zst", "vmid": vm.vmid,
        "volid": f"{storage}:backup/vzdump-qemu-{vm.vmid}-{made}.vma.zst", "subtype": "qemu",
        "ctime": made, "size": int(vm.gib * 0.4 * 1024**3), "notes": vm.name,
    }  # fmt: skip
