"""May etcd be restored, and did it come back: snapshots, tokens, versions, room, members, objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from labkit.checks.base import Check, error, info, warning
from labkit.checks.guests import check_airgap
from labkit.checks.k3s import check_dns, check_node
from labkit.facts.etcd import SLACK, EtcdFacts, ObjectRow, Restore, lost
from labkit.facts.guests import Guest, GuestFacts, TokenForm, TokenState
from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab, Machine
from labkit.plan import Finding
from labkit.rules.etcd_asked import Asked, check_asked
from labkit.rules.etcd_goal import Goal, find_goal
from labkit.rules.quorum import quorum
from labkit.rules.versions import compare_versions

RUNBOOK = "restore-etcd"
_ROOM = 512 * 1024**2
_SHOWN = 8


def restore_can_start(
    lab: Lab, *, snapshot: str = "", restore_as_of: str = "", server: str = "", replace: Sequence[str] = ()
) -> Check:
    """Return the check that what is asked for can be restored, before anything stops.

    Raises:
        InputError: a parameter is wrong.
    """
    asked = check_asked(lab, snapshot=snapshot, restore_as_of=restore_as_of, server=server, replace=replace)

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        goal = find_goal(lab, facts, asked)
        yield from goal.findings
        yield from check_goal(lab, facts, goal, asked)

    sentence = "the snapshot is whole, its token fits, k3s is not older than it, servers answer and have room"
    return Check("etcd.restore", sentence, ("guests", "k3s", "etcd"), find)


def check_goal(lab: Lab, facts: Mapping[str, Any], goal: Goal, asked: Asked) -> Iterator[Finding]:
    """Say what speaks against bringing a goal about."""
    if goal.kind == "none" or goal.site is None:
        return
    guests: GuestFacts = facts["guests"]
    if guests.token is TokenForm.MISSING:
        yield error("etcd.token", "k3s.token", "the token of the cluster", "none",
                    "without it no snapshot can be restored: find the copy that you kept")  # fmt: skip
    yield from _check_site(lab, facts, goal)
    yield from _check_others(lab, guests, goal, asked)


def _check_site(lab: Lab, facts: Mapping[str, Any], goal: Goal) -> Iterator[Finding]:
    assert goal.site is not None  # noqa: S101  # asked before
    guests: GuestFacts = facts["guests"]
    etcd: EtcdFacts = facts["etcd"]
    name, guest = goal.site.name, guests.guest(goal.site.name)
    if not guest.reachable:
        yield error("guest.reachable", f"guest {name}", "an answer over SSH", guest.problem or "none",
                    "look at its console in Proxmox")  # fmt: skip
        return
    size = goal.snapshot.size if goal.snapshot is not None else etcd.server(name).size
    yield from _check_room(name, guest, 3 * size)
    if goal.snapshot is not None:
        yield from _check_version(lab, guests, goal.site, goal.snapshot.version)


def _check_room(name: str, guest: Guest, size: int) -> Iterator[Finding]:
    if guest.disk_free < _ROOM + size:
        yield error("etcd.disk", f"guest {name}", f"{(_ROOM + size) // 1024**2} MiB free",
                    f"{guest.disk_free // 1024**2} MiB", "free some room, or give the VM a larger disk")  # fmt: skip


def _check_version(lab: Lab, guests: GuestFacts, site: Machine, wanted: str) -> Iterator[Finding]:
    """A newer k3s reads an older snapshot; never the other way."""
    installed = guests.guest(site.name).version
    has = installed or lab.k3s.version
    if wanted and compare_versions(has, wanted) < 0:
        where = f"{site.name} has" if installed else "k3s.version of the lab file says"
        yield error("etcd.version", "k3s", f"{wanted} or newer, which the snapshot was made with", f"{where} {has}",
                    f"set k3s.version to {wanted}" if not installed else f"install {wanted} there first")  # fmt: skip
    if not installed:
        yield from check_airgap(guests, has)


def _check_others(lab: Lab, guests: GuestFacts, goal: Goal, asked: Asked) -> Iterator[Finding]:
    """The other machines: room, leftovers of another cluster, and those that do not answer."""
    others = [machine for machine in lab.machines if machine != goal.site]
    away = [machine for machine in others if not guests.guest(machine.name).reachable]
    for machine in (machine for machine in others if machine not in away):
        guest = guests.guest(machine.name)
        if guest.server_token is TokenState.OTHER:
            yield error("etcd.leftovers", f"guest {machine.name}", "the data of this cluster, or none",
                        "a server's data with another token", "run k3s-uninstall.sh there")  # fmt: skip
        yield from _check_room(machine.name, guest, 0)
    yield from _check_away(lab, goal, asked, [machine.name for machine in away if machine.role == "server"])
    for machine in away:
        if machine.role == "agent":
            yield warning("etcd.agent-away", f"guest {machine.name}", "an answer over SSH", "none",
                          "it turns to the restored servers by itself when it is back")  # fmt: skip


def _check_away(lab: Lab, goal: Goal, asked: Asked, away: Sequence[str]) -> Iterator[Finding]:
    """A server that is away may hold the old data, and serve it: only a person knows that it is gone."""
    known = () if goal.record is None else goal.record.servers
    unnamed = [name for name in away if name not in asked.replace and name not in known]
    if unnamed:
        yield error("etcd.away", "servers", f"an answer of {', '.join(unnamed)}, which may hold data of this cluster",
                    "none", "bring them back; when they are gone for good: replace=" + ",".join(unnamed))  # fmt: skip
    if len(away) >= quorum(len(lab.servers)) and len(lab.servers) > 1:
        yield error("etcd.split", "servers", f"fewer than {quorum(len(lab.servers))} of {len(lab.servers)} away",
                    f"{', '.join(away)}: they could go on as a cluster of their own",
                    "delete their VMs and take them out of the lab file, or bring them back")  # fmt: skip


def check_consent(
    lab: Lab, targets: Iterable[str], asked: Asked, *, confirm: str, protected: bool
) -> Iterator[Finding]:
    """Say whose name is missing: the lab's, and that of each server whose data gives way.

    Args:
        lab: whose name is confirmed.
        targets: the servers whose data gives way.
        asked: with the names that were given.
        confirm: the lab's name as a person has typed it.
        protected: whether there is anything to lose; on a twin there is not, and what is empty counts as given.
    """
    names = list(targets)
    if (protected or confirm) and confirm != lab.name and names:
        yield error("etcd.confirm", "confirm", f"the lab's name, {lab.name}", repr(confirm),
                    f"confirm={lab.name} when its etcd may be replaced")  # fmt: skip
    missing = [name for name in names if name not in asked.replace]
    if missing and (protected or asked.replace):
        yield error("etcd.replace", "replace", f"the name of each server whose data gives way: {', '.join(names)}",
                    ", ".join(asked.replace) or "none", f"replace={','.join(names)}")  # fmt: skip


def check_losses(facts: Mapping[str, Any], goal: Goal) -> Iterator[Finding]:
    """Say what will be gone: everything that was made since the snapshot."""
    etcd: EtcdFacts = facts["etcd"]
    k3s: K3sFacts = facts["k3s"]
    if goal.snapshot is None or goal.record is not None:
        return
    since = f"{goal.snapshot.created:%Y-%m-%dT%H:%M:%SZ}"
    if rows := etcd.made_after(goal.snapshot.created):
        yield warning("etcd.lost", "API", f"nothing made since {since}", f"{len(rows)}: {_some(rows)}",
                      "gone after the restore, unless Git or a controller makes them again")  # fmt: skip
    if k3s.volumes:
        yield info("etcd.longhorn", "Longhorn", f"its objects of {since}", f"{len(k3s.volumes)} volumes now",
                   "the data on the disks stays; replicas may be newer than their objects")  # fmt: skip


def _some(rows: Sequence[ObjectRow]) -> str:
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(map(str, rows[:_SHOWN])) + more


def cluster_is_restored(lab: Lab) -> Check:
    """Return the check that every machine is a living node, every server a voting member of the restored etcd."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        k3s: K3sFacts = facts["k3s"]
        etcd: EtcdFacts = facts["etcd"]
        if not k3s.up:
            yield error("k3s.api", "cluster", "an API that answers", k3s.problem or "none", f"run {RUNBOOK} again")
            return
        for machine in lab.machines:
            yield from check_node(machine, k3s.node(machine.name))
        yield from check_dns(lab, k3s)
        yield from _check_members(lab, k3s, etcd)
        yield from _check_gone(lab, k3s)
        yield from _check_volumes(k3s)

    sentence = f"all {len(lab.vms)} machines are ready nodes, all {len(lab.servers)} servers vote in the restored etcd"
    return Check("etcd.members", sentence, ("k3s", "etcd"), find)


def _check_members(lab: Lab, k3s: K3sFacts, etcd: EtcdFacts) -> Iterator[Finding]:
    for server in lab.servers:
        node = k3s.node(server.name)
        if node is not None and not node.voter:
            yield error("k3s.voter", f"node {server.name}", "an etcd member that votes", "one that does not",
                        f"run {RUNBOOK} again")  # fmt: skip
        if etcd.answers and not etcd.answers.get(server.name):
            yield error("etcd.other", f"server {server.name}", "an API with the restored state",
                        "another state, or none",
                        "stop k3s there at once: it serves the data of before; then run again")  # fmt: skip
    if etcd.answers:
        for machine in lab.machines:
            if machine.name not in etcd.alive and k3s.node(machine.name) is not None:
                yield error("etcd.silent", f"node {machine.name}", "a kubelet that has reported since the restore",
                            "none", "restart k3s on it")  # fmt: skip


def _check_gone(lab: Lab, k3s: K3sFacts) -> Iterator[Finding]:
    """Nodes of machines that are no more come back with a snapshot."""
    for node in k3s.nodes:
        if node.name not in lab.vms:
            yield warning("etcd.gone", f"node {node.name}", "every node in the lab file", f"one of old, {node.address}",
                          f"run bootstrap-k3s with destroy={node.name}")  # fmt: skip


def _check_volumes(k3s: K3sFacts) -> Iterator[Finding]:
    for volume in k3s.volumes or ():
        if volume.degraded:
            yield warning("longhorn.degraded", f"volume {volume.name}", "all replicas healthy", volume.robustness,
                          "Longhorn rebuilds it; a faulted one comes back with disaster-recovery")  # fmt: skip


def objects_are_restored() -> Check:
    """Return the check that the API holds what the snapshot held, and nothing from between it and the restore."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        etcd: EtcdFacts = facts["etcd"]
        last = etcd.restore
        if last is None or last.created is None or last.reset_at is None or etcd.objects is None:
            return
        yield from _check_strangers(last, etcd.objects)
        yield from _tell_losses(last, etcd)

    sentence = "the API holds what the snapshot held, and nothing from between it and the restore"
    return Check("etcd.objects", sentence, ("etcd",), find)


def _check_strangers(last: Restore, objects: Sequence[ObjectRow]) -> Iterator[Finding]:
    assert last.created is not None  # noqa: S101  # asked before
    assert last.reset_at is not None  # noqa: S101  # asked before
    between = [row for row in objects if last.created + SLACK < row.created < last.reset_at - SLACK]
    if between:
        yield error("etcd.strangers", "API", f"nothing made from {last.created:%H:%M:%S} to {last.reset_at:%H:%M:%S}",
                    f"{len(between)}: {_some(between)}",
                    "another state is served: look which server has it")  # fmt: skip


def _tell_losses(last: Restore, etcd: EtcdFacts) -> Iterator[Finding]:
    assert last.created is not None  # noqa: S101  # asked before
    if etcd.before is None or etcd.objects is None:
        return
    if gone := lost(etcd.before, etcd.objects, last.created):
        yield warning("etcd.lost", "API", f"nothing made after {last.created:%Y-%m-%dT%H:%M:%SZ}",
                      f"{len(gone)} lost: {_some(gone)}", "make them again, or let Flux do it")  # fmt: skip
    there = {row.key for row in etcd.objects}
    missing = [row for row in etcd.before if row.created <= last.created - SLACK and row.key not in there]
    if missing:
        yield warning("etcd.missing", "API", "everything that is older than the snapshot",
                      f"{len(missing)} missing: {_some(missing)}", "look who deletes them")  # fmt: skip
