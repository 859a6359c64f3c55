"""Clones: they take time, hold the lock of their template, need room, and can go wrong half-way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from labkit.lab.pveformat import parse_props, render_props
from labkit.twin.proxmox.calls import Call
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.errors import PveError, TaskError, TaskVanishedError, lock_timeout
from labkit.twin.proxmox.inventory import Vm
from labkit.twin.proxmox.privileges import Need
from labkit.twin.proxmox.tasks import Task

_STEPS = 8
_COPY_FAILED = "clone failed: copy failed: qemu-img: error while writing: Input/output error"


@dataclass(frozen=True)
class _Copy:
    """One clone under way: since when, from what to what, and the lock of its source."""

    source: Vm
    new: Vm
    storage: str
    lock: asyncio.Lock
    begin: float


class Clones:
    """The clone call and its task."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def clone(self, call: Call) -> str:
        """Start a clone; refused at once for everything that Proxmox refuses at once."""
        core, source = self._core, self._core.vm(call)
        self._check_rights(call, source)
        if core.world.faults.strike("template-locked"):
            await core.world.clock.sleep(core.world.pace.clone_lock_wait)
            raise lock_timeout(source.vmid)
        source.need_unlocked()
        target = call.text("target", call.node)
        if target != call.node:
            raise PveError(500, f"can't clone VM to node '{target}' (VM uses local storage)")
        lock = await core.lock(source.vmid, core.world.pace.clone_lock_wait)
        begin = core.world.clock.monotonic()
        try:
            new = await self._begin(call, source)
        except BaseException:
            lock.release()
            raise
        storage = call.text("storage") or next((name for name, volume, _ in source.disks() if "base-" in volume), "")
        copy = _Copy(source, new, storage, lock, begin)
        user = call.caller.user
        return core.tasks.start(call.node, "qmclone", source.vmid, user, lambda task: self._work(task, copy))

    def _check_rights(self, call: Call, source: Vm) -> None:
        storages = {call.text("storage")} - {""} or {name for name, _, _ in source.disks()}
        needs = [Need(f"/storage/{name}", ("Datastore.AllocateSpace",)) for name in sorted(storages)]
        bridge = parse_props(source.settings.get("net0", "")).get("bridge")
        if bridge:
            needs.append(Need(f"/sdn/zones/localnetwork/{bridge}", ("SDN.Use",)))
        target = Need("/pool/{pool}" if call.text("pool") else "/vms/{newid}", ("VM.Allocate",))
        call.caller.check([*needs, target], call.params)

    async def _begin(self, call: Call, source: Vm) -> Vm:
        """Let fakepve make the clone, and give it the same addresses and ids in every run."""
        core, params = self._core, dict(call.params)
        params.pop("target", None)
        upid = await core.pve.ask("POST", core.path(source, "/clone"), params)
        if (status := await core.outcome(source.home, upid)) != "OK":
            raise PveError(500, status)
        vmid = call.number("newid")
        new = Vm(vmid, call.text("name"), call.node, source.home, lock="clone", pool=call.text("pool"))
        new.config = {key: value for key, value in source.settings.items() if key != "template"}
        core.inventory.add(new)
        await core.pve.ask("PUT", core.path(new, "/config"), self._own_identity(new))
        await core.inventory.refresh(new)
        core.guests.create(vmid, new.name)
        return new

    def _own_identity(self, new: Vm) -> dict[str, Any]:
        seed, settings = self._core.world.seed, new.settings
        own: dict[str, Any] = {"smbios1": f"uuid={seed.uuid('smbios', new.vmid, new.name)}"}
        for key, value in settings.items():
            if key.startswith("net") and key[3:].isdecimal():
                props = parse_props(value)
                model = next(iter(props))
                own[key] = render_props({**props, model: seed.mac(new.vmid, new.name, key)})
            elif "cloudinit" in value and "media=cdrom" in value:
                storage = value.partition(":")[0]
                own[key] = f"{storage}:vm-{new.vmid}-cloudinit,media=cdrom"
        return own

    async def _work(self, task: Task, copy: _Copy) -> None:
        counters, faults = self._core.world.counters, self._core.world.faults
        counters.clone_begins()
        disk = copy.source.settings.get("scsi0", "").partition(",")[0]
        task.log.append(f"create full clone of drive scsi0 ({disk})")
        try:
            dies, fails = faults.strike("clone-dies"), faults.strike("clone-fails")
            full = self._core.storages.check_room(copy.new.node, copy.storage, copy.new) if copy.storage else None
            await self._transfer(task, copy, half=dies or fails or bool(full))
            if dies:
                raise TaskVanishedError
            if full or fails:
                await self._remove(copy.new)
                raise TaskError(full or _COPY_FAILED)
            copy.new.lock = "backup" if faults.has("vm-locked", copy.new.name) else ""
        finally:
            counters.clone_ends()
            copy.lock.release()

    async def _transfer(self, task: Task, copy: _Copy, *, half: bool) -> None:
        gib = copy.source.gib
        seconds = self._core.world.pace.clone_seconds(gib)
        for step in range(1, (_STEPS // 2 if half else _STEPS) + 1):
            await self._core.world.clock.sleep_until(copy.begin + seconds * step / _STEPS)
            done = gib * step / _STEPS
            task.log.append(f"transferred {done:.1f} GiB of {gib:.1f} GiB ({100 * step / _STEPS:.2f}%)")

    async def _remove(self, new: Vm) -> None:
        self._core.inventory.remove(new.vmid)
        self._core.guests.delete(new.vmid)
        await self._core.pve.ask("DELETE", self._core.path(new))
