"""What was read from Proxmox: the cluster, its hosts and storages, all VMs, and the configuration of the lab's own.

Complete enough to rebuild what a runbook looks at: a twin can start in a state that was read from a real lab.
Sizes are bytes, as Proxmox gives them, unless a name says otherwise.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Fact(BaseModel):
    """The base of all facts: frozen, and what is unknown is left out."""

    model_config = ConfigDict(frozen=True)


class Node(Fact):
    """One Proxmox host."""

    name: str
    online: bool
    ip: str = ""
    maxcpu: int = 0
    maxmem: int = 0
    mem: int = 0


class Storage(Fact):
    """One storage as one host sees it."""

    node: str
    name: str
    type: str
    content: tuple[str, ...] = ()
    active: bool = True
    enabled: bool = True
    shared: bool = False
    total: int = 0
    used: int = 0
    avail: int = 0


class VmRow(Fact):
    """One guest as the cluster lists it; `status` is `unknown` while its host is away."""

    vmid: int
    name: str
    node: str
    kind: Literal["qemu", "lxc"] = "qemu"
    status: str = "unknown"
    template: bool = False
    lock: str = ""
    tags: tuple[str, ...] = ()
    maxcpu: int = 0
    maxmem: int = 0
    maxdisk: int = 0
    ha: str = ""
    """The state that HA wants; empty when HA does not manage it."""
    pool: str = ""

    def __str__(self) -> str:
        kind = "template" if self.template else "VM" if self.kind == "qemu" else "container"
        return f"{kind} {self.vmid} ({self.name}) on {self.node}"


class VmConfig(Fact):
    """The configuration of a VM: what it runs with, and what waits for its next start (None: a removal)."""

    values: dict[str, str] = Field(default_factory=dict)
    pending: dict[str, str | None] = Field(default_factory=dict)

    @property
    def wanted(self) -> dict[str, str]:
        """What the VM will have after its next start."""
        merged: dict[str, str | None] = {**self.values, **self.pending}
        return {key: value for key, value in merged.items() if value is not None}


class ProxmoxFacts(Fact):
    """What was seen of one Proxmox cluster at one moment."""

    version: str
    """For example 8.4.14."""
    major: int
    quorate: bool
    nodes: tuple[Node, ...] = ()
    storages: tuple[Storage, ...] = ()
    """Of the lab's hosts that are online."""
    vms: tuple[VmRow, ...] = ()
    """Every guest of the cluster that the token may see, by VMID."""
    configs: dict[int, VmConfig] = Field(default_factory=dict)
    """By VMID: VMs with a name of the lab or with labkit's tag; all guests while a VM of the lab is missing."""
    privileges: dict[str, tuple[str, ...]] | None = None
    """What the writing token may do: path -> privileges; None when the token that reads may not ask."""
    read_at: datetime

    def node(self, name: str) -> Node | None:
        """The host of that name, or None."""
        return next((node for node in self.nodes if node.name == name), None)

    def storage(self, node: str, name: str) -> Storage | None:
        """That storage as that host sees it, or None."""
        return next((s for s in self.storages if (s.node, s.name) == (node, name)), None)

    def named(self, name: str) -> tuple[VmRow, ...]:
        """All guests of that name, anywhere in the cluster, without templates.

        A clone that died half-way does not count beside another one: nobody but root can remove it.
        """
        found = tuple(vm for vm in self.vms if vm.name == name and not vm.template)
        return tuple(vm for vm in found if vm.lock != "clone") or found

    def vm(self, name: str) -> VmRow | None:
        """The guest of that name when there is exactly one, else None."""
        found = self.named(name)
        return found[0] if len(found) == 1 else None

    def by_id(self, vmid: int) -> VmRow | None:
        """The guest with that VMID, or None."""
        return next((vm for vm in self.vms if vm.vmid == vmid), None)

    def templates(self, node: str, name: str) -> tuple[VmRow, ...]:
        """The templates of that name on that host."""
        return tuple(vm for vm in self.vms if vm.template and (vm.node, vm.name) == (node, name))

    def config(self, vm: VmRow) -> VmConfig:
        """The configuration of a guest; empty when it was not read."""
        return self.configs.get(vm.vmid, VmConfig())

    def tagged(self, tag: str) -> tuple[VmRow, ...]:
        """The guests that carry a tag, without templates."""
        return tuple(vm for vm in self.vms if tag in vm.tags and not vm.template)

    def static_addresses(self) -> Iterator[tuple[VmRow, ipaddress.IPv4Address]]:
        """Each fixed IPv4 address in a configuration that was read, with its guest."""
        for vm in self.vms:
            keys = "ipconfig" if vm.kind == "qemu" else "net"
            for key, value in self.config(vm).wanted.items():
                address = _static_address(value) if key.startswith(keys) else None
                if address is not None:
                    yield vm, address

    def may(self, path: str, privilege: str) -> bool:
        """Whether the writing token has a privilege on a path; the nearest path above that is listed decides."""
        listed = self.privileges or {}
        place = path
        while place not in listed and place not in ("", "/"):
            place = place.rpartition("/")[0] or "/"
        return privilege in listed.get(place, ())


def _static_address(ipconfig: str) -> ipaddress.IPv4Address | None:
    for part in ipconfig.split(","):
        key, _, value = part.partition("=")
        if key == "ip" and value != "dhcp":
            try:
                return ipaddress.IPv4Interface(value).ip
            except ValueError:
                return None
    return None
