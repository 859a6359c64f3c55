"""Checks on the Proxmox cluster: may a runbook start, and is there room for the VMs that are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from labkit.checks.base import Check, error, info, warning
from labkit.checks.privileges import check_privileges
from labkit.facts.proxmox import ProxmoxFacts, Storage
from labkit.lab import Lab, Machine
from labkit.lab.pveformat import MIB, has_cloud_init_drive
from labkit.plan import Finding

SUPPORTED = (8, 9)
THICK = frozenset({"lvm", "iscsi", "iscsidirect"})
"""Storage types that take the whole size of a disk at once; the others take what is written."""


def missing_machines(lab: Lab, facts: ProxmoxFacts, only: Iterable[str] = ()) -> tuple[Machine, ...]:
    """Return the VMs of the lab that exist nowhere in the cluster, of those in `only` when it is not empty."""
    chosen = set(only) or set(lab.vms)
    return tuple(m for m in lab.machines if m.name in chosen and not facts.named(m.name))


def check_version(_lab: Lab, facts: ProxmoxFacts) -> Iterator[Finding]:
    """Expect a major version that labkit knows."""
    if facts.major not in SUPPORTED:
        known = " or ".join(str(version) for version in SUPPORTED)
        yield warning("proxmox.version", "Proxmox", f"version {known}", facts.version, "labkit was not tried on it")


def check_quorum(_lab: Lab, facts: ProxmoxFacts) -> Iterator[Finding]:
    """Expect a cluster that accepts writes."""
    if not facts.quorate:
        away = ", ".join(node.name for node in facts.nodes if not node.online) or "none seen"
        yield error(
            "proxmox.quorum",
            "Proxmox cluster",
            "a quorum of its hosts",
            f"none; hosts away: {away}",
            "bring the hosts back, or look at `pvecm status` on one of them",
        )


def check_hosts(lab: Lab, facts: ProxmoxFacts, machines: Iterable[Machine] | None = None) -> Iterator[Finding]:
    """Expect every host that carries a VM of the lab to be in the cluster and online."""
    chosen = lab.machines if machines is None else machines
    for host in dict.fromkeys(machine.host for machine in chosen):
        node = facts.node(host)
        if node is None:
            known = ", ".join(sorted(n.name for n in facts.nodes))
            yield error(
                "proxmox.host", f"host {host}", "a host of the cluster", f"only {known}", "correct the lab file"
            )
        elif not node.online:
            yield error("proxmox.host", f"host {host}", "it online", "offline", f"bring {host} back, then run again")


def check_templates(lab: Lab, facts: ProxmoxFacts, machines: Iterable[Machine] | None = None) -> Iterator[Finding]:
    """Expect one template with a cloud-init drive on each host that VMs are to be cloned on."""
    chosen = lab.machines if machines is None else machines
    for host, name in dict.fromkeys((machine.host, machine.template) for machine in chosen):
        node = facts.node(host)
        if node is not None and node.online:
            yield from _check_template(facts, host, name)


def _check_template(facts: ProxmoxFacts, host: str, name: str) -> Iterator[Finding]:
    found, subject = facts.templates(host, name), f"template {name}"
    if not found:
        near = [vm for vm in facts.vms if vm.name == name or (vm.template and vm.node == host)]
        got = f"none there, but {', '.join(str(vm) for vm in near)}" if near else "none"
        yield error("proxmox.template", subject, f"a template on {host}", got, "make it, or correct the lab file")
    elif len(found) > 1:
        got = ", ".join(str(vm.vmid) for vm in found)
        yield error("proxmox.template", subject, f"one on {host}", f"VMIDs {got}", "rename all but one")
    elif (config := facts.config(found[0]).wanted) and not has_cloud_init_drive(config):
        remedy = f"on {host}: qm set {found[0].vmid} --ide2 STORAGE:cloudinit"
        yield error("proxmox.template", subject, "a cloud-init drive", "none", remedy)


def check_storage(lab: Lab, facts: ProxmoxFacts, machines: Iterable[Machine] | None = None) -> Iterator[Finding]:
    """Expect each storage that disks go to: active, for VM images, with room for what is still to be cloned."""
    chosen = missing_machines(lab, facts) if machines is None else machines
    groups: dict[tuple[str, str], list[Machine]] = defaultdict(list)
    for machine in chosen:
        node = facts.node(machine.host)
        if node is not None and node.online:
            groups[(machine.host, machine.storage)].append(machine)
    for (host, name), users in groups.items():
        storage = facts.storage(host, name)
        if storage is None or not (storage.active and storage.enabled and "images" in storage.content):
            yield _unusable(facts, host, name, storage)
        else:
            yield from _check_room(facts, storage, users)


def _unusable(facts: ProxmoxFacts, host: str, name: str, storage: Storage | None) -> Finding:
    if storage is None:
        others = ", ".join(s.name for s in facts.storages if s.node == host and "images" in s.content) or "none"
        got = f"no such storage; for images there: {others}"
    elif not storage.enabled:
        got = "disabled"
    elif not storage.active:
        got = "inactive"
    else:
        got = f"only content {', '.join(storage.content)}"
    expected = "active, with content images"
    return error("proxmox.storage", f"storage {name} on {host}", expected, got, f"look at `pvesm status` on {host}")


def _check_room(facts: ProxmoxFacts, storage: Storage, users: list[Machine]) -> Iterator[Finding]:
    """Thin storages take what is written: at first the template's disk, later up to the whole size."""
    whole = sum(machine.disk for machine in users) * MIB
    templates = (facts.templates(machine.host, machine.template) for machine in users)
    first = sum(found[0].maxdisk for found in templates if found)
    subject = f"storage {storage.name} on {storage.node}"
    names = ", ".join(machine.name for machine in users)
    got = f"{_gib(storage.avail)} free of {_gib(storage.total)}"
    at_once = whole if storage.type in THICK else first
    if at_once > storage.avail:
        expected = f"{_gib(at_once)} of room for {names}"
        yield error("proxmox.storage-room", subject, expected, got, "free room there, or use another storage")
    elif whole > storage.avail:
        expected = f"{_gib(whole)} for {names} when their disks are full"
        yield info("proxmox.storage-room", subject, expected, f"{got}, thin", "watch its use: it can run full")


def check_memory(lab: Lab, facts: ProxmoxFacts) -> Iterator[Finding]:
    """Expect each host to have the memory that the lab's VMs on it may take."""
    wanted: dict[str, int] = defaultdict(int)
    for machine in lab.machines:
        wanted[machine.host] += machine.memory * MIB
    for host, need in wanted.items():
        node = facts.node(host)
        if node is not None and 0 < node.maxmem < need:
            expected = f"{_gib(need)} of memory for its VMs"
            yield warning("proxmox.memory", f"host {host}", expected, _gib(node.maxmem), "give the VMs less")


def check_clashes(lab: Lab, facts: ProxmoxFacts, machines: Iterable[Machine] | None = None) -> Iterator[Finding]:
    """Expect no other guest with the name, the VMID or the address of a VM of the lab."""
    addresses = list(facts.static_addresses())
    for machine in lab.machines if machines is None else machines:
        subject = f"VM {machine.name}"
        found = facts.named(machine.name)
        if len(found) > 1:
            got = ", ".join(str(vm) for vm in found)
            yield error("vm.name", subject, "one VM of that name", got, "rename or remove all but one")
        elif found and found[0].kind != "qemu":
            yield error("vm.name", subject, "a VM", str(found[0]), "rename or remove that container")
        holder = facts.by_id(machine.vmid) if machine.vmid is not None else None
        if holder is not None and (holder.template or holder.name != machine.name):
            remedy = "give the VM another vmid in the lab file, or none"
            yield error("vm.vmid", subject, f"VMID {machine.vmid} for itself", f"{holder} has it", remedy)
        for vm, address in addresses:
            if address == machine.address and vm.name != machine.name and not vm.template:
                remedy = "change one of the two addresses"
                yield error("vm.address", subject, f"{address} for itself", f"{vm} has it", remedy)


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"


_PREFLIGHT: Mapping[str, tuple[str, Callable[[Lab, ProxmoxFacts], Iterator[Finding]]]] = {
    "proxmox-version": ("Proxmox has a version that labkit knows", check_version),
    "proxmox-quorum": ("the Proxmox cluster has a quorum", check_quorum),
    "proxmox-hosts": ("every host of the lab is in the cluster and online", check_hosts),
    "proxmox-templates": ("every host has its template, with a cloud-init drive", check_templates),
    "proxmox-storage": ("every storage is active and has room for the VMs that are missing", check_storage),
    "proxmox-memory": ("every host has the memory that its VMs may take", check_memory),
    "proxmox-clashes": ("no other guest has a name, a VMID or an address of the lab", check_clashes),
    "proxmox-privileges": ("the writing token may do what the runbooks need", check_privileges),
}


def preflight_checks(lab: Lab) -> tuple[Check, ...]:
    """Return the checks of Proxmox before anything is built, for `run.verify`."""

    def bind(
        find: Callable[[Lab, ProxmoxFacts], Iterator[Finding]],
    ) -> Callable[[Mapping[str, Any]], Iterator[Finding]]:
        return lambda facts: find(lab, facts["proxmox"])

    return tuple(Check(name, sentence, ("proxmox",), bind(find)) for name, (sentence, find) in _PREFLIGHT.items())
