"""Plan an upgrade of k3s: one minor at a time, servers one by one, then agents, never two nodes out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.checks.base import error, warning
from labkit.checks.guests import check_airgap
from labkit.errors import InputError, Mistake
from labkit.facts.guests import GuestFacts
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubernetes import NodeRow
from labkit.lab import Lab
from labkit.plan import Action, Change, Finding, Plan, Risk
from labkit.rules.nodework import NODE_OUT, check_all, is_left_out
from labkit.rules.versions import compare_versions, lowest, minor

RUNBOOK = "upgrade-k3s"


def plan_upgrade(lab: Lab, facts: Mapping[str, Any], *, version: str = "") -> Plan:
    """Plan what brings every node of the lab to one version.

    A snapshot comes first while no server has the new version. A node that an interrupted run left cordoned
    comes before all others, so that never two are out.

    Args:
        lab: what is wanted.
        facts: `guests` and `k3s`, as they were seen just now.
        version: the version to go to; the lab file's when empty.

    Raises:
        InputError: the version is none.
    """
    wanted = version or lab.k3s.version
    _check_form(wanted)
    k3s: K3sFacts = facts["k3s"]
    order = _in_order(lab, k3s)
    old = [node for node in order if node.version != wanted]
    unfinished = [node for node in order if is_left_out(node, RUNBOOK) and node.version == wanted]
    changes = tuple(_changes(unfinished, old, k3s, wanted))
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=changes, findings=tuple(_check(lab, facts, wanted, old)))


def _check_form(version: str) -> None:
    if re.fullmatch(r"v1\.\d+\.\d+\+k3s\d+", version) is None:
        raise InputError([Mistake("parameters", 0, 0, "version", "a version such as v1.33.4+k3s1", repr(version))])


def _in_order(lab: Lab, k3s: K3sFacts) -> list[NodeRow]:
    """The lab's nodes: a left-out one first, then servers before agents, each in the order of the file."""
    nodes = [node for name in lab.vms if (node := k3s.node(name)) is not None]
    return sorted(nodes, key=lambda node: (not is_left_out(node, RUNBOOK), not node.server))


def _changes(unfinished: list[NodeRow], old: list[NodeRow], k3s: K3sFacts, wanted: str) -> Iterator[Change]:
    needs: tuple[str, ...] = ()
    for change in (*map(_finish, unfinished), *_snapshot(k3s, old, wanted), *(_upgrade(n, wanted) for n in old)):
        chained = change.model_copy(update={"needs": needs})
        needs = (chained.id,)
        yield chained


def _finish(node: NodeRow) -> Change:
    return Change(
        system="k3s",
        kind="node-return",
        target=node.name,
        action=Action.ACT,
        before={"schedulable": False},
        after={"schedulable": True},
        lane=NODE_OUT,
        note="left cordoned by an interrupted run: it is finished",
    )


def _snapshot(k3s: K3sFacts, old: list[NodeRow], wanted: str) -> Iterator[Change]:
    """A snapshot of etcd by the old version: the only way back. Not again once a server has the new one."""
    servers = [node for node in k3s.nodes if node.server]
    if old and servers and all(node.version != wanted for node in servers):
        name = next((node.name for node in old if node.server), servers[0].name)
        yield Change(
            system="k3s",
            kind="snapshot",
            target=name,
            action=Action.CREATE,
            after={"name": f"before-{wanted.replace('+', '-')}"},
            note="the way back: the old version and this snapshot",
        )


def _upgrade(node: NodeRow, wanted: str) -> Change:
    return Change(
        system="k3s",
        kind="k3s-version",
        target=node.name,
        action=Action.UPDATE,
        before={"version": node.version},
        after={"version": wanted},
        risk=Risk.DISRUPTIVE,
        lane=NODE_OUT,
        note="cordon, drain, install, wait until ready, uncordon, wait until all is healthy",
    )


def _check(lab: Lab, facts: Mapping[str, Any], wanted: str, old: list[NodeRow]) -> Iterator[Finding]:
    guests: GuestFacts = facts["guests"]
    k3s: K3sFacts = facts["k3s"]
    # What an interrupted run was working on may be away by now: it is the first to be finished.
    left = [node.name for node in k3s.nodes if is_left_out(node, RUNBOOK)]
    yield from check_all(k3s, [node.name for node in old], left_out=left)
    yield from _check_versions(wanted, old)
    yield from _check_spare(k3s, old)
    if old:
        yield from check_airgap(guests, wanted)
    for node in old:
        guest = guests.guest(node.name)
        if not guest.reachable:
            yield error("guest.reachable", f"guest {node.name}", "an answer over SSH", guest.problem or "none",
                        "look at its console in Proxmox")  # fmt: skip
    for node in k3s.nodes:
        if node.name not in lab.vms and node.version != wanted:
            yield warning("k3s.orphan", f"node {node.name}", "every node in the lab file", "one that is not",
                          "it keeps its version: bootstrap-k3s removes it, destroy=" + node.name)  # fmt: skip


def _check_versions(wanted: str, old: list[NodeRow]) -> Iterator[Finding]:
    newer = [node for node in old if compare_versions(node.version, wanted) > 0]
    if newer:
        names = ", ".join(f"{node.name} {node.version}" for node in newer)
        yield error("k3s.downgrade", "version", f"nodes at {wanted} or older", names,
                    "k3s never goes back: choose a newer version, or restore a snapshot with the old one")  # fmt: skip
    versions = [node.version for node in old if node.version and node not in newer]
    if versions and minor(wanted) > minor(lowest(versions)) + 1:
        between = f"v1.{minor(lowest(versions)) + 1}"
        yield error("k3s.minor", "version", f"one minor at a time, next {between}", f"{lowest(versions)} to {wanted}",
                    f"set version to the newest of {between} first: "
                    f"https://update.k3s.io/v1-release/channels/{between} names it")  # fmt: skip


def _check_spare(k3s: K3sFacts, old: list[NodeRow]) -> Iterator[Finding]:
    servers = [node for node in k3s.nodes if node.server]
    if len(servers) < 3 and any(node.server for node in old):
        yield warning("k3s.spare", "etcd", "three servers or more", str(len(servers)),
                      "the API is away while a server restarts; pods go on")  # fmt: skip
