"""Storage per host: how large it is, what fills it, and the backups on it; some are shared by all hosts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labkit.lab.models import Lab
from labkit.twin.faults import Faults
from labkit.twin.proxmox.errors import PveError
from labkit.twin.proxmox.inventory import Inventory, Vm
from labkit.twin.targets import LOCAL, storages_of

GIB = 1024**3
_LOCAL_SIZE = 94 * GIB
_LOCAL_USED = 11 * GIB
_SPARE = 1.5
_LEAST_GIB = 256


def storage_type(name: str) -> str:
    """Guess from its name what kind of storage holds the disks."""
    for word, kind in (("zfs", "zfspool"), ("ceph", "rbd"), ("rbd", "rbd"), ("nfs", "nfs")):
        if word in name:
            return kind
    return "dir" if name == LOCAL else "lvmthin"


@dataclass(frozen=True)
class Shared:
    """A storage that all hosts have in common, beside the lab's own: its kind, what it is for, its size in bytes."""

    kind: str = "nfs"
    content: str = "backup"
    total: int = 1024 * GIB
    used: int = 200 * GIB


@dataclass
class Storages:
    """The storages of all hosts: `local` for files, one for disks as the lab names it, and what was added.

    Attributes:
        backups: what lies on them.
        shared: those that all hosts have in common, by name.
        full: how full some are in percent, whatever is on them, by host and name.
        away: those that some hosts cannot reach, by host and name.
    """

    lab: Lab
    inventory: Inventory
    faults: Faults
    backups: list[dict[str, Any]] = field(default_factory=list)
    shared: dict[str, Shared] = field(default_factory=dict)
    full: dict[tuple[str, str], float] = field(default_factory=dict)
    away: set[tuple[str, str]] = field(default_factory=set)

    def names(self, node: str) -> tuple[str, ...]:
        """Return the storages of a host."""
        return (*storages_of(self.lab, node), *self.shared)

    def takes_backups(self, name: str) -> bool:
        """Tell whether backups may be put onto a storage."""
        return name == LOCAL or (name in self.shared and "backup" in self.shared[name].content)

    def status(self, node: str, name: str) -> dict[str, Any]:
        """Return the status of one storage as Proxmox shows it; raise PveError when it is not there."""
        if name not in self.names(node):
            raise PveError(500, f"storage '{name}' does not exist")
        total, used = self._space(node, name)
        common = self.shared.get(name)
        active = int((node, name) not in self.away)
        return {
            "storage": name, "type": common.kind if common else storage_type(name), "active": active, "enabled": 1,
            "shared": int(common is not None), "content": common.content if common else self._content(node, name),
            "total": total * active, "used": used * active, "avail": max(total - used, 0) * active,
            "used_fraction": round(min(used / total, 1.0), 6),
        }  # fmt: skip

    def resource(self, node: str, name: str) -> dict[str, Any]:
        """Return one storage as /cluster/resources shows it."""
        status = self.status(node, name)
        return {
            "id": f"storage/{node}/{name}", "type": "storage", "node": node, "storage": name,
            "status": "available" if status["active"] else "unknown", "plugintype": status["type"],
            "shared": status["shared"], "content": status["content"],
            "disk": status["used"], "maxdisk": status["total"],
        }  # fmt: skip

    def content(self, node: str, name: str) -> list[dict[str, Any]]:
        """Return the volumes of a storage: disks of VMs, and backups."""
        if not self.status(node, name)["active"]:
            raise PveError(500, f"storage '{name}' is not online")
        places = {(node, name)} | {(host, name) for host in self.lab.hosts if name in self.shared}
        images = [
            {"volid": volume, "content": "images", "format": "raw", "size": size, "vmid": vm.vmid}
            for vm in self.inventory if vm.node == node
            for storage, volume, size in vm.disks() if storage == name
        ]  # fmt: skip
        return images + [
            {key: value for key, value in backup.items() if key not in {"node", "storage"}}
            for backup in self.backups if (backup["node"], backup["storage"]) in places
        ]  # fmt: skip

    def check_room(self, node: str, name: str, vm: Vm) -> str | None:
        """Return the error of a clone onto a storage without room for it, or None."""
        status = self.status(node, name)
        if status["avail"] >= vm.gib * GIB:
            return None
        disk = f"vm-{vm.vmid}-disk-0"
        return {
            "lvmthin": f"clone failed: lvcreate 'pve/{disk}' error:   Cannot create new thin volume, "
                       "free space in thin pool pve/data reached threshold.",
            "zfspool": f"clone failed: zfs error: cannot create 'rpool/data/{disk}': out of space",
        }.get(status["type"], f"clone failed: unable to create image '{name}:{vm.vmid}/{disk}.raw': "
                              "No space left on device")  # fmt: skip

    def _content(self, node: str, name: str) -> str:
        files = "iso,vztmpl,backup,snippets,import"
        if name != LOCAL:
            return "images,rootdir"
        return f"{files},images" if storages_of(self.lab, node) == (LOCAL,) else files

    def _space(self, node: str, name: str) -> tuple[int, int]:
        if name in self.shared:
            total, used = self.shared[name].total, self.shared[name].used
            return total, int(total * self.full.get((node, name), 100 * used / total) / 100)
        total, used = self._size(node, name), _LOCAL_USED if name == LOCAL else 0
        used += sum(size for vm in self.inventory if vm.node == node
                    for storage, _, size in vm.disks() if storage == name)  # fmt: skip
        if self.faults.has("storage-full", name, node) or (name,) in self.faults.arguments("storage-full"):
            used = total - GIB // 2
        elif (node, name) in self.full:
            used = int(total * self.full[node, name] / 100)
        return total, min(used, total)

    def _size(self, node: str, name: str) -> int:
        """Room for the lab's VMs of this host and half as much again, in steps of 64 GiB."""
        if name == LOCAL and storages_of(self.lab, node) != (LOCAL,):
            return _LOCAL_SIZE
        wanted = sum(machine.disk for machine in self.lab.machines if machine.host == node) / 1024
        return max((int(wanted * _SPARE + 64) // 64 + 1) * 64, _LEAST_GIB) * GIB
