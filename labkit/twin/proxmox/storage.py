"""Storage per host: how large it is, what fills it, and the backups on it."""

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


@dataclass
class Storages:
    """The storages of all hosts: `local` for files, and one for disks as the lab names it."""

    lab: Lab
    inventory: Inventory
    faults: Faults
    backups: list[dict[str, Any]] = field(default_factory=list)

    def names(self, node: str) -> tuple[str, ...]:
        """Return the storages of a host."""
        return storages_of(self.lab, node)

    def status(self, node: str, name: str) -> dict[str, Any]:
        """Return the status of one storage as Proxmox shows it; raise PveError when it is not there."""
        if name not in self.names(node):
            raise PveError(500, f"storage '{name}' does not exist")
        total, used = self._space(node, name)
        content = "iso,vztmpl,backup,snippets,import" + (",images" if self.names(node) == (LOCAL,) else "")
        return {
            "storage": name, "type": storage_type(name), "active": 1, "enabled": 1,
            "shared": 0, "content": content if name == LOCAL else "images,rootdir",
            "total": total, "used": used, "avail": max(total - used, 0),
            "used_fraction": round(min(used / total, 1.0), 6),
        }  # fmt: skip

    def resource(self, node: str, name: str) -> dict[str, Any]:
        """Return one storage as /cluster/resources shows it."""
        status = self.status(node, name)
        return {
            "id": f"storage/{node}/{name}", "type": "storage", "node": node, "storage": name,
            "status": "available", "plugintype": status["type"], "shared": 0, "content": status["content"],
            "disk": status["used"], "maxdisk": status["total"],
        }  # fmt: skip

    def content(self, node: str, name: str) -> list[dict[str, Any]]:
        """Return the volumes of a storage: disks of VMs, and backups."""
        self.status(node, name)
        images = [
            {"volid": volume, "content": "images", "format": "raw", "size": size, "vmid": vm.vmid}
            for vm in self.inventory if vm.node == node
            for storage, volume, size in vm.disks() if storage == name
        ]  # fmt: skip
        return images + [
            {key: value for key, value in backup.items() if key not in {"node", "storage"}}
            for backup in self.backups if (backup["node"], backup["storage"]) == (node, name)
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

    def _space(self, node: str, name: str) -> tuple[int, int]:
        total, used = self._size(node, name), _LOCAL_USED if name == LOCAL else 0
        used += sum(size for vm in self.inventory if vm.node == node
                    for storage, _, size in vm.disks() if storage == name)  # fmt: skip
        if self.faults.has("storage-full", name, node) or (name,) in self.faults.arguments("storage-full"):
            used = total - GIB // 2
        return total, min(used, total)

    def _size(self, node: str, name: str) -> int:
        """Room for the lab's VMs of this host and half as much again, in steps of 64 GiB."""
        if name == LOCAL and self.names(node) != (LOCAL,):
            return _LOCAL_SIZE
        wanted = sum(machine.disk for machine in self.lab.machines if machine.host == node) / 1024
        return max((int(wanted * _SPARE + 64) // 64 + 1) * 64, _LEAST_GIB) * GIB
