"""What the health report looks at on Proxmox: hosts with their disks and certificates, storages, VMs, backups.

Sizes are bytes. What one host did not tell is left out, and its `problem` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from labkit.facts.proxmox import Fact, VmRow


class HostCertificate(Fact):
    """A certificate that a host shows."""

    file: str
    """For example pve-ssl.pem."""
    expires: datetime


class HostDisk(Fact):
    """A disk of a host, as SMART tells of it."""

    device: str
    model: str = ""
    serial: str = ""
    size: int = 0
    kind: str = ""
    """ssd, nvme, hdd, usb."""
    used: str = ""
    """What is on it, for example LVM or ZFS."""
    health: str = ""
    """PASSED or OK; FAILED or another word; UNKNOWN or empty when it does not tell."""
    wear: int | None = None
    """How much of its life is used up, in percent; None when it does not tell."""


class HostPool(Fact):
    """A ZFS pool of a host."""

    name: str
    health: str = ""
    size: int = 0
    free: int = 0


class HostHealth(Fact):
    """One Proxmox host."""

    name: str
    online: bool
    ip: str = ""
    problem: str = ""
    """Why its details could not be read."""
    maxcpu: int = 0
    maxmem: int = 0
    mem: int = 0
    uptime: int = 0
    """Seconds since its start."""
    version: str = ""
    """Of Proxmox, for example 9.1.1."""
    kernel: str = ""
    """The one that runs, for example 6.14.8-2-pve."""
    root_total: int = 0
    root_used: int = 0
    certificates: tuple[HostCertificate, ...] = ()
    disks: tuple[HostDisk, ...] = ()
    pools: tuple[HostPool, ...] = ()


class StorageHealth(Fact):
    """One storage as one host sees it."""

    node: str
    name: str
    type: str = ""
    content: tuple[str, ...] = ()
    available: bool = True
    shared: bool = False
    total: int = 0
    used: int = 0

    @property
    def percent(self) -> float:
        """How full it is; 0 when it does not tell its size."""
        return 100 * self.used / self.total if self.total else 0.0


class VmBackup(Fact):
    """One backup of a VM on a storage."""

    vmid: int
    made: datetime
    storage: str
    node: str = ""
    size: int = 0
    verified: str = ""
    """What the backup server's verification said: ok, failed, or empty."""


class TaskRow(Fact):
    """One of the latest tasks of the cluster; `status` is empty while it runs."""

    node: str
    kind: str
    id: str = ""
    user: str = ""
    started: datetime
    status: str = ""


class PveHealth(Fact):
    """What was seen of one Proxmox cluster at one moment."""

    version: str = ""
    quorate: bool = True
    hosts: tuple[HostHealth, ...] = ()
    storages: tuple[StorageHealth, ...] = ()
    """One for each host that has it, shared ones too."""
    vms: tuple[VmRow, ...] = ()
    """Every guest that the token may see, templates too, by VMID."""
    backups: tuple[VmBackup, ...] = ()
    """All that the token may see, the newest first."""
    backup_jobs: int | None = None
    """How many backup jobs are switched on; None when the token may not look."""
    unread: tuple[str, ...] = ()
    """Backup storages whose content could not be read, with the reason."""
    tasks: tuple[TaskRow, ...] = ()
    """The latest ones, the newest first."""
    read_at: datetime

    def host(self, name: str) -> HostHealth | None:
        """The host of that name, or None."""
        return next((host for host in self.hosts if host.name == name), None)

    @property
    def online(self) -> frozenset[str]:
        """The names of the hosts that are there."""
        return frozenset(host.name for host in self.hosts if host.online)

    def named(self, name: str) -> tuple[VmRow, ...]:
        """All guests of that name, without templates and without clones that died half-way."""
        found = tuple(vm for vm in self.vms if vm.name == name and not vm.template)
        return tuple(vm for vm in found if vm.lock != "clone") or found

    def vm(self, name: str) -> VmRow | None:
        """The guest of that name when there is exactly one, else None."""
        found = self.named(name)
        return found[0] if len(found) == 1 else None

    def is_up(self, name: str) -> bool:
        """Whether the VM of that name runs on a host that is there."""
        vm = self.vm(name)
        return vm is not None and vm.status == "running" and vm.node in self.online

    def distinct_storages(self) -> Iterator[StorageHealth]:
        """Each storage once: a shared one as the first host that reaches it sees it."""
        told: set[str] = set()
        for storage in sorted(self.storages, key=lambda one: not one.available):
            if storage.shared and storage.name in told:
                continue
            told.add(storage.name)
            yield storage

    def last_backup(self, vmid: int) -> VmBackup | None:
        """The newest backup of a VM, or None."""
        return next((backup for backup in self.backups if backup.vmid == vmid), None)
