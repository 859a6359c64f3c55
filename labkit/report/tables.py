"""Facts as pandas tables, in the order of the lab file. Pure."""

from __future__ import annotations

import pandas as pd

from labkit.facts.endpoints import EndpointFacts
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab
from labkit.lab.models import Host

_GIB = 1024**3


def endpoint_table(facts: EndpointFacts) -> pd.DataFrame:
    """Return one row per address: whether it answers and how its certificate stands."""
    rows: list[dict[str, object]] = [
        {
            "address": one.name,
            "purpose": one.purpose,
            "answers": "yes" if one.reachable else "no",
            "certificate": "verified" if one.verified else one.problem or "not verified",
            "valid until": "" if one.expires is None else f"{one.expires:%Y-%m-%d}",
        }
        for one in facts.endpoints
    ]
    return _table(rows, "address")


def host_table(lab: Lab, facts: ProxmoxFacts) -> pd.DataFrame:
    """Return one row per host of the lab; sizes in GiB; VMs of the lab that are there of those it is to have."""
    rows: list[dict[str, object]] = []
    for name, host in lab.hosts.items():
        node = facts.node(name)
        storage = facts.storage(name, host.storage or lab.defaults.host.storage)
        wanted = [machine for machine in lab.machines if machine.host == name]
        there = [machine for machine in wanted if any(vm.node == name for vm in facts.named(machine.name))]
        rows.append(
            {
                "host": name,
                "online": "yes" if node is not None and node.online else "no",
                "memory": f"{node.maxmem / _GIB:.0f}" if node is not None else "",
                "storage": storage.name if storage is not None else "missing",
                "free": f"{storage.avail / _GIB:.0f}" if storage is not None else "",
                "template": _template(lab, facts, name, host),
                "VMs": f"{len(there)} of {len(wanted)}",
            }
        )
    return _table(rows, "host")


def _template(lab: Lab, facts: ProxmoxFacts, name: str, host: Host) -> str:
    wanted = (host.template or lab.defaults.host.template).replace("{host}", name)
    return wanted if facts.templates(name, wanted) else f"{wanted} is missing"


def vm_table(lab: Lab, facts: ProxmoxFacts) -> pd.DataFrame:
    """Return one row per VM of the lab, as it was seen; memory in MiB, disk in GiB."""
    rows: list[dict[str, object]] = []
    for machine in lab.machines:
        vm = facts.vm(machine.name)
        rows.append(
            {
                "VM": machine.name,
                "role": machine.role,
                "host": vm.node if vm is not None else "",
                "status": vm.status if vm is not None else "missing",
                "address": str(machine.address),
                "cores": vm.maxcpu if vm is not None else 0,
                "memory": vm.maxmem // 1024**2 if vm is not None else 0,
                "disk": vm.maxdisk // _GIB if vm is not None else 0,
            }
        )
    return _table(rows, "VM")


def _table(rows: list[dict[str, object]], name: str) -> pd.DataFrame:
    """Return rows by their name; the name of the index would take a line of its own."""
    return pd.DataFrame(rows).set_index(name).rename_axis(None)
