"""Who may do what: the privileges of the lab's two tokens, and what each call of Proxmox asks for.

The names differ between the major versions: 8 has VM.Monitor, 9 has VM.GuestAgent.* in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from labkit.twin.options import Version

AUDITOR = frozenset({
    "Sys.Audit", "VM.Audit", "Datastore.Audit", "Pool.Audit", "SDN.Audit", "Mapping.Audit",
})  # fmt: skip
_PROVISIONER = AUDITOR | {
    "VM.Clone", "VM.Allocate", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Disk", "VM.Config.Network",
    "VM.Config.Options", "VM.Config.Cloudinit", "VM.Config.HWType", "VM.Config.CDROM", "VM.PowerMgmt",
    "VM.Snapshot", "VM.Migrate", "VM.Backup", "Datastore.AllocateSpace", "SDN.Use", "Pool.Allocate",
}  # fmt: skip
_AGENT: Mapping[Version, frozenset[str]] = {
    "8.4": frozenset({"VM.Monitor"}),
    "9.1": frozenset({"VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.Unrestricted"}),
}
_AGENT_READ: Mapping[Version, frozenset[str]] = {
    "8.4": frozenset(),
    "9.1": frozenset({"VM.GuestAgent.Audit"}),
}
PATHS = ("/", "/access", "/access/groups", "/mapping", "/nodes", "/pool", "/sdn", "/storage", "/vms")
"""The paths that /access/permissions shows."""


def writer_privileges(version: Version) -> frozenset[str]:
    """Return what the token has that writes."""
    return _PROVISIONER | _AGENT[version]


def reader_privileges(version: Version) -> frozenset[str]:
    """Return what the token has that only reads."""
    return AUDITOR | _AGENT_READ[version]


@dataclass(frozen=True)
class Need:
    """Privileges on a path (`{vmid}` and the like come from the call): all of them, or any one."""

    path: str
    privileges: tuple[str, ...]
    any: bool = False


def vm(*privileges: str, any_of: bool = False) -> tuple[Need, ...]:
    """Need privileges on the VM of the call."""
    return (Need("/vms/{vmid}", privileges, any_of),)


def agent_need(version: Version, *privileges: str) -> tuple[Need, ...]:
    """Need a privilege of the guest agent, by version."""
    if version == "8.4":
        return vm("VM.Monitor")
    return vm(*privileges, "VM.GuestAgent.Unrestricted", any_of=True)


_BY_KEY: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"cores|sockets|vcpus|cpu|cpulimit|cpuunits|numa\d*|affinity", ("VM.Config.CPU",)),
    (r"memory|balloon|shares|hugepages", ("VM.Config.Memory",)),
    (r"net\d+", ("VM.Config.Network",)),
    (r"ciuser|cipassword|citype|ciupgrade|cicustom|sshkeys|ipconfig\d+|nameserver|searchdomain",
     ("VM.Config.Cloudinit", "VM.Config.Network")),
    (r"(scsi|virtio|sata|ide|unused)\d+|efidisk0|tpmstate0|boot|bootdisk", ("VM.Config.Disk",)),
    (r"scsihw|bios|machine|vga|serial\d+|parallel\d+|usb\d+|hostpci\d+|audio0|rng0|watchdog|tablet|keyboard|arch",
     ("VM.Config.HWType",)),
)  # fmt: skip
_ROOT_ONLY = re.compile(r"args|hookscript|lock|parent|snaptime|vmstate")


def config_needs(key: str, value: str) -> Need | None:
    """Return what setting or deleting one key of a VM asks for; None when only root may."""
    if _ROOT_ONLY.fullmatch(key):
        return None
    if key.startswith("ide") and "media=cdrom" in value:
        return Need("/vms/{vmid}", ("VM.Config.CDROM",))
    for pattern, privileges in _BY_KEY:
        if re.fullmatch(pattern, key):
            return Need("/vms/{vmid}", privileges, any=True)
    return Need("/vms/{vmid}", ("VM.Config.Options",))
