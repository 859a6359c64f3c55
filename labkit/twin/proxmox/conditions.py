"""How the hosts, storages and backups of the twin are doing, as a test, a scenario or a fault wishes.

Every action takes plain data; ages are real hours or days, for dates are the wall's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

from labkit.errors import StepFailed
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.hosts import DAY, GIB, Disk
from labkit.twin.proxmox.inventory import Vm
from labkit.twin.proxmox.power import archive
from labkit.twin.proxmox.storage import Shared

_HOUR = 3600
_ROOT = "root@pam"


class Conditions:
    """Set the state of what is no VM.

    `host`: `name`, and any of `version`, `kernel`, `up_days`, `certificate_days`, `root_percent`, `memory_gib`,
    `disk` (fields of its first disk: `health`, `left`, `used`, `kind` ...), `pools` (rows of disks/zfs).
    `storage`: `name`, perhaps `host`; `percent` (None: as before), `available`; with `content` a shared one is made.
    `backup`: `vm`, `hours` old, on `storage`; `hours` None removes all of the VM's.
    `backup-job`: `enabled`, `storage`. `task`: `host`, `kind`, `id`, `status`, `hours`. `lock`: `vm`, `lock`.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "host": self.host, "storage": self.storage, "backup": self.backup, "backup-job": self.backup_job,
            "task": self.task, "lock": self.lock,
        }  # fmt: skip

    async def host(self, given: dict[str, Any]) -> None:
        """Change the state of a host."""
        host, now = self._core.hosts[self._host(given["name"])], self._core.world.clock.now()
        for key in ("version", "kernel"):
            if key in given:
                setattr(host, key, str(given[key]))
        if "up_days" in given:
            host.booted = now - float(given["up_days"]) * DAY
        if "certificate_days" in given:
            host.certificate_ends = now + float(given["certificate_days"]) * DAY
        if "root_percent" in given:
            host.root_used = int(94 * GIB * float(given["root_percent"]) / 100)
        if "memory_gib" in given:
            host.memory = None if given["memory_gib"] is None else int(float(given["memory_gib"]) * GIB)
        if "pools" in given:
            host.pools = [dict(row) for row in given["pools"]]
        _set(host.disks[0], given.get("disk") or {})

    async def storage(self, given: dict[str, Any]) -> None:
        """Change the state of a storage on one host or on all that have it, or make a shared one."""
        storages, name = self._core.storages, str(given["name"])
        if "content" in given:
            storages.shared[name] = Shared(str(given.get("kind", "nfs")), str(given["content"]))
        asked = [self._host(given["host"])] if "host" in given else list(self._core.world.lab.hosts)
        hosts = [host for host in asked if name in storages.names(host)]
        if not hosts:
            raise StepFailed(f"storage: expected one of the lab's, got {name}")
        for place in ((host, name) for host in hosts):
            if "percent" in given:
                storages.full.pop(place, None)
            if given.get("percent") is not None:
                storages.full[place] = float(given["percent"])
            if "available" in given:
                (storages.away.discard if given["available"] else storages.away.add)(place)

    async def backup(self, given: dict[str, Any]) -> None:
        """Put a backup of a VM onto a storage, or remove all of its backups."""
        storages, vm = self._core.storages, self._vm(given["vm"])
        if given["hours"] is None:
            storages.backups[:] = [one for one in storages.backups if one["vmid"] != vm.vmid]
            return
        storage = str(given.get("storage", "local"))
        if not storages.takes_backups(storage):
            raise StepFailed(f"backup: expected a storage that takes backups, got {storage}")
        moment = self._core.world.clock.now() - float(given["hours"]) * _HOUR
        storages.backups.append(archive(vm, storage, moment))

    async def backup_job(self, given: dict[str, Any]) -> None:
        """Have one backup job for all VMs, switched on or off."""
        self._core.hosts.jobs[:] = [{
            "id": "backup-nightly", "type": "vzdump", "enabled": int(given.get("enabled", True)), "all": 1,
            "schedule": str(given.get("schedule", "21:00")), "storage": str(given.get("storage", "local")),
            "mode": "snapshot", "next-run": int(self._core.world.clock.now()) + 12 * _HOUR,
        }]  # fmt: skip

    async def task(self, given: dict[str, Any]) -> str:
        """Note a task that ended some hours ago."""
        start = self._core.world.clock.now() - float(given.get("hours", 8)) * _HOUR
        return self._core.tasks.record(
            self._host(given["host"]), str(given.get("kind", "vzdump")), given.get("id", ""), _ROOT,
            start=start, status=str(given["status"]),
        )  # fmt: skip

    async def lock(self, given: dict[str, Any]) -> None:
        """Give a VM a lock that nobody holds any more."""
        self._vm(given["vm"]).lock = str(given["lock"])

    def _host(self, name: object) -> str:
        if str(name) not in self._core.world.lab.hosts:
            raise StepFailed(f"expected a host of the lab, got {name}")
        return str(name)

    def _vm(self, name: object) -> Vm:
        found = self._core.inventory.named(str(name))
        if found is None:
            raise StepFailed(f"expected a VM of the twin, got {name}")
        return found


def _set(disk: Disk, values: dict[str, Any]) -> None:
    known = {field.name for field in fields(Disk)}
    for key, value in values.items():
        if key not in known:
            raise StepFailed(f"disk: expected one of {', '.join(sorted(known))}, got {key}")
        setattr(disk, key, value)
