"""Guests and nodes as pandas tables, in the order of the lab file. Pure."""

from __future__ import annotations

import pandas as pd

from labkit.facts.guests import Guest, GuestFacts
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubernetes import NodeRow
from labkit.lab import Lab

_GIB = 1024**3


def guest_table(lab: Lab, facts: GuestFacts) -> pd.DataFrame:
    """Return one row per machine: whether it answers, what it has, and how k3s stands on it."""
    return pd.DataFrame([_guest(m.name, m.role, facts.guest(m.name)) for m in lab.machines]).set_index("machine")


def _guest(name: str, role: str, guest: Guest) -> dict[str, str]:
    if not guest.reachable:
        return {"machine": name, "role": role, "answers": "no", "clock": "", "memory": "", "free": "", "k3s": ""}
    return {
        "machine": name,
        "role": role,
        "answers": "yes",
        "clock": "" if guest.clock_offset is None else f"{guest.clock_offset:+.0f} s",
        "memory": f"{guest.memory / _GIB:.1f}",
        "free": f"{guest.disk_free / _GIB:.0f}",
        "k3s": f"{guest.version or 'installed'}, {guest.unit(role)}" if guest.installed else "none",
    }


def node_table(lab: Lab, facts: K3sFacts) -> pd.DataFrame:
    """Return one row per machine of the lab, and per node beside them, as the cluster sees it."""
    names = [*lab.vms, *(node.name for node in facts.nodes if node.name not in lab.vms)]
    return pd.DataFrame([_node(name, facts.node(name), facts) for name in names]).set_index("node")


def _node(name: str, node: NodeRow | None, facts: K3sFacts) -> dict[str, str]:
    if node is None:
        empty = dict.fromkeys(("role", "version", "zone", "address", "votes", "pods"), "")
        return {"node": name, "state": "none", **empty}
    state = "ready" if node.ready else "not ready"
    votes = "" if node.voter is None else "yes" if node.voter else "no"
    return {
        "node": name,
        "state": state if node.schedulable else f"{state}, cordoned",
        "role": "server" if node.server else "agent",
        "version": node.version,
        "zone": node.zone,
        "address": node.address,
        "votes": votes,
        "pods": str(sum(pod.node == name for pod in facts.pods)),
    }
