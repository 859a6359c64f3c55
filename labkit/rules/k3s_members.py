"""Which cluster there is, and where each machine stands in it. Pure.

The rule above all: no second cluster by accident. While any server has data of a cluster, nothing new is founded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from labkit.checks.base import error
from labkit.facts.guests import Guest, GuestFacts
from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab, Machine
from labkit.plan import Finding

RUNNING = ("active", "activating", "reloading")


@dataclass(frozen=True)
class Cluster:
    """What there is to join.

    Attributes:
        state: `none`: a new one may be founded; `up`: it answers; `stopped`: its servers can be started;
            `blocked`: a person must look first.
        seed: the server that founds it, or that others join.
        holders: the servers of the lab that have its data.
        findings: why it is blocked.
    """

    state: Literal["none", "up", "stopped", "blocked"]
    seed: Machine
    holders: tuple[Machine, ...] = ()
    findings: tuple[Finding, ...] = ()


def find_cluster(lab: Lab, guests: GuestFacts, k3s: K3sFacts) -> Cluster:
    """Say which cluster there is, and which server is its seed."""
    holders = tuple(server for server in lab.servers if guests.guest(server.name).server_db)
    if k3s.up:
        seed = next((server for server in lab.servers if server.name == k3s.server), lab.servers[0])
        return Cluster("up", seed, holders)
    away = [server.name for server in lab.servers if not guests.guest(server.name).reachable]
    if not holders:
        return _without_data(lab, away)
    problems = tuple(_problems(lab, guests, holders, away))
    return Cluster("blocked" if problems else "stopped", holders[0], holders, problems)


def _without_data(lab: Lab, away: list[str]) -> Cluster:
    if not away:
        return Cluster("none", lab.servers[0])
    finding = error(
        "k3s.founding",
        "cluster",
        "an answer of every server before a new cluster is founded",
        f"none from {', '.join(away)}: it may hold the data of one",
        "bring the machine back, or take it out of the lab file",
    )
    return Cluster("blocked", lab.servers[0], findings=(finding,))


def _problems(lab: Lab, guests: GuestFacts, holders: tuple[Machine, ...], away: list[str]) -> Iterator[Finding]:
    """What speaks against starting the servers that have data."""
    seen = {server.name: guests.guest(server.name) for server in holders}
    names = ", ".join(seen)
    if len({guest.cluster_ca for guest in seen.values()}) > 1:
        yield error("k3s.two-clusters", "cluster", "data of one cluster", f"data of several on {names}",
                    "keep the right one: run k3s-uninstall.sh on the others, or make them anew")  # fmt: skip
    running = [name for name, guest in seen.items() if guest.unit("server") in RUNNING]
    # The first server of a run that was interrupted; one that had joined others waits for a quorum that is gone.
    waits = len(holders) == 1 and not away and "server" not in (seen[holders[0].name].config or {})
    if len(running) == len(holders) and not waits:
        missing = f"; {', '.join(away)} cannot be reached" if away else ""
        need = len(lab.servers) // 2 + 1
        yield error("k3s.silent", "cluster", "an API that answers",
                    f"none, though k3s runs on {names}{missing}",
                    f"quorum may be lost: bring back servers until {need} of {len(lab.servers)} run; "
                    "if their data is gone for good, run restore-etcd; nothing new is founded")  # fmt: skip


class Standing(StrEnum):
    """Where a machine stands."""

    MEMBER = "member"
    OUT = "out"
    """Not in the cluster: it has to join."""
    REBUILT = "rebuilt"
    """The cluster knows a node of its name, but the machine is new."""
    STOPPED = "stopped"
    WAITING = "waiting"
    """It runs, and is not ready yet."""
    AWAY = "away"
    """It does not answer over SSH."""
    FOREIGN = "foreign"
    """It holds data of another cluster."""


def standing(machine: Machine, guest: Guest, cluster: Cluster, k3s: K3sFacts) -> Standing:
    """Say where a machine stands in the cluster."""
    if not guest.reachable:
        return Standing.AWAY
    if cluster.state == "none":
        return Standing.FOREIGN if guest.cluster_ca else Standing.OUT
    if cluster.state != "up":
        return _in_stopped(machine, guest, cluster)
    if guest.cluster_ca and k3s.ca and guest.cluster_ca != k3s.ca:
        return Standing.FOREIGN
    node = k3s.node(machine.name)
    if node is None or node.ready:
        return Standing.OUT if node is None else Standing.MEMBER
    is_new = guest.fresh and guest.unit(machine.role) not in RUNNING
    return Standing.REBUILT if is_new else _on_its_way(machine, guest)


def _on_its_way(machine: Machine, guest: Guest) -> Standing:
    return Standing.WAITING if guest.unit(machine.role) in RUNNING else Standing.STOPPED


def _in_stopped(machine: Machine, guest: Guest, cluster: Cluster) -> Standing:
    if machine in cluster.holders:
        return _on_its_way(machine, guest)
    return Standing.OUT
