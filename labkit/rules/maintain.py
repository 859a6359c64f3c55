"""Plan the maintenance of one Proxmox host: drain its nodes, shut its VMs down, bring all back. Pure.

How far a maintenance has come stands on the nodes, as annotations: which runbook cordoned a node, for which host
its machine was shut down, and when it came back. So an interrupted run goes on where it was, from any machine, and
planning again right after a maintenance finds nothing to do: one that ended within `again_after_hours` counts as done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from labkit.checks.base import error, info, warning
from labkit.errors import InputError, Mistake
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubernetes import DOWN, MAINTAINED, NodeRow
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab, Machine
from labkit.plan import Action, Change, Finding, Plan, Risk
from labkit.rules.nodework import (
    NODE_OUT,
    check_api,
    check_drain,
    check_last_replicas,
    check_others,
    check_spare,
    check_volumes,
    is_left_out,
)
from labkit.rules.quorum import quorum

RUNBOOK = "maintain-host"
PHASES = ("both", "down", "up")


def plan_maintain(
    lab: Lab, facts: Mapping[str, Any], *, host: str = "", phase: str = "both", again_after_hours: int = 12
) -> Plan:
    """Plan what is left of the maintenance of a host.

    Args:
        lab: what is wanted.
        facts: `proxmox` and `k3s`, as they were seen just now.
        host: the Proxmox host; when empty, the first whose servers etcd can spare.
        phase: `down` leaves the VMs off for work on the host, `up` brings them back, `both` does one after the other.
        again_after_hours: with `both`, a maintenance that ended within so many hours counts as done.

    Raises:
        InputError: no such host or phase.
    """
    _check_parameters(lab, host, phase, again_after_hours)
    chosen = host or _first_spare(lab, facts)
    if not chosen:
        return Plan(runbook=RUNBOOK, lab=lab.name, findings=tuple(_no_host(lab, facts["k3s"])))
    work = _Work(lab, facts, chosen, phase=phase, recent=timedelta(hours=again_after_hours))
    changes, findings = tuple(work.changes()), tuple(work.findings(named=bool(host)))
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=changes, findings=findings)


def _check_parameters(lab: Lab, host: str, phase: str, hours: int) -> None:
    mistakes = []
    if host and host not in lab.hosts:
        mistakes.append(Mistake("parameters", 0, 0, "host", f"one of {', '.join(lab.hosts)}", repr(host)))
    if phase not in PHASES:
        mistakes.append(Mistake("parameters", 0, 0, "phase", "both, down or up", repr(phase)))
    if hours < 1:
        mistakes.append(Mistake("parameters", 0, 0, "again_after_hours", "1 or more", str(hours)))
    if mistakes:
        raise InputError(mistakes)


def machines_on(lab: Lab, proxmox: ProxmoxFacts, host: str) -> tuple[Machine, ...]:
    """Return the lab's machines that are on a host now, agents first."""
    found = [m for m in lab.machines if (vm := proxmox.vm(m.name)) is not None and vm.node == host]
    return tuple(sorted(found, key=lambda machine: machine.role != "agent"))


def _first_spare(lab: Lab, facts: Mapping[str, Any]) -> str:
    """The host of a maintenance that is under way, else the first whose nodes can all be out at once."""
    k3s, proxmox = facts["k3s"], facts["proxmox"]
    here = {host: [machine.name for machine in machines_on(lab, proxmox, host)] for host in lab.hosts}
    for host, names in here.items():
        if any(_under_way(k3s.node(name)) for name in names):
            return host
    return next((host for host, names in here.items() if names and not _against(k3s, names)), "")


def _against(k3s: K3sFacts, names: list[str]) -> list[Finding]:
    return [*check_spare(k3s, names), *check_last_replicas(k3s, names)]


def _under_way(node: NodeRow | None) -> bool:
    return node is not None and (is_left_out(node, RUNBOOK) or bool(node.annotations.get(DOWN)))


def _no_host(lab: Lab, k3s: K3sFacts) -> Iterator[Finding]:
    yield from check_api(k3s)
    members = sum(node.server for node in k3s.nodes)
    yield warning("maintain.host", "host", "a host whose servers etcd can spare, and with no volume's last replica",
                  f"none of {', '.join(lab.hosts)} ({quorum(members)} of {members} members must stay)",
                  "name one in `host` to see what holds it; see the layout in preflight")  # fmt: skip


@dataclass(frozen=True)
class _Place:
    """Where one machine stands in the maintenance."""

    machine: Machine
    node: NodeRow | None
    running: bool
    done: bool

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def was_down(self) -> bool:
        """Whether its machine is off, or was shut down for this and runs again."""
        return not self.running or (self.node is not None and bool(self.node.annotations.get(DOWN)))


class _Work:
    """The maintenance of one host."""

    def __init__(self, lab: Lab, facts: Mapping[str, Any], host: str, *, phase: str, recent: timedelta) -> None:
        self.proxmox: ProxmoxFacts = facts["proxmox"]
        self.k3s: K3sFacts = facts["k3s"]
        self.host, self.phase = host, phase
        self.places = [self._place(machine, recent) for machine in machines_on(lab, self.proxmox, host)]
        self.going = [place for place in self.places if self._goes(place)]

    def _goes(self, place: _Place) -> bool:
        """Whether a machine is still to be drained and shut down."""
        if self.phase == "down":
            return place.running
        return self.phase == "both" and place.node is not None and not place.done and not place.was_down

    def _place(self, machine: Machine, recent: timedelta) -> _Place:
        vm, node = self.proxmox.vm(machine.name), self.k3s.node(machine.name)
        ended = None if node is None else _when(node.annotations.get(MAINTAINED, ""))
        fresh = ended is not None and self.k3s.read_at - ended < recent
        done = fresh and node is not None and not _under_way(node) and self.phase == "both"
        return _Place(machine, node, vm is not None and vm.status == "running", done)

    def changes(self) -> Iterator[Change]:
        needs: tuple[str, ...] = ()
        drains: dict[str, Change] = {}
        for place in self.going:
            if place.node is not None:
                drains[place.name] = self._drain(place, needs)
                needs = (drains[place.name].id,)
                yield drains[place.name]
        # All are drained before the first goes down: pods move once, not from machine to machine of the host.
        downs = [self._down(place, needs) for place in self.going]
        yield from downs
        if self.phase != "down":
            yield from self._back(tuple(change.id for change in downs))

    def _back(self, downs: tuple[str, ...]) -> Iterator[Change]:
        for place in sorted(self.places, key=lambda place: place.machine.role != "server"):
            needs = downs
            if not place.running or place in self.going:
                up = self._up(place, downs)
                needs = (up.id,)
                yield up
            if place.node is not None and (place in self.going or _under_way(place.node)):
                yield self._return(place, needs)

    def _drain(self, place: _Place, needs: tuple[str, ...]) -> Change:
        return Change(
            system="k3s",
            kind="node-drain",
            target=place.name,
            action=Action.ACT,
            before={"schedulable": place.node is not None and place.node.schedulable},
            after={"schedulable": False, "pods": "moved"},
            risk=Risk.DISRUPTIVE,
            needs=needs,
            lane=NODE_OUT,
            note="cordon and drain; budgets are respected",
        )

    def _down(self, place: _Place, needs: tuple[str, ...]) -> Change:
        return Change(
            system="power",
            kind="vm-down",
            target=place.name,
            action=Action.ACT,
            before={"status": "running"},
            after={"status": "stopped", "host": self.host},
            risk=Risk.DISRUPTIVE,
            needs=needs,
            note="an orderly shutdown",
        )

    def _up(self, place: _Place, needs: tuple[str, ...]) -> Change:
        return Change(
            system="power",
            kind="vm-up",
            target=place.name,
            action=Action.ACT,
            before={"status": "stopped"},
            after={"status": "running"},
            needs=needs,
        )

    def _return(self, place: _Place, needs: tuple[str, ...]) -> Change:
        return Change(
            system="k3s",
            kind="node-return",
            target=place.name,
            action=Action.ACT,
            before={"schedulable": False},
            after={"schedulable": True, "maintained": self.host},
            needs=needs,
            note="wait until it is ready, uncordon",
        )

    def findings(self, *, named: bool) -> Iterator[Finding]:
        names = [place.name for place in self.places]
        left = [node.name for node in self.k3s.nodes if _under_way(node)]
        if not named:
            yield info("maintain.host", f"host {self.host}", "a host by name", "none: the first that can be spared",
                       f"host={self.host} says it outright")  # fmt: skip
        yield from check_api(self.k3s)
        if self.k3s.up and self.going:
            yield from check_others(self.k3s, left_out=[*left, *(p.name for p in self.places if not p.running)])
            yield from check_volumes(self.k3s)
            yield from check_drain(self.k3s, [place.name for place in self.going])
            yield from _against(self.k3s, names)
            yield from self._check_elsewhere(names)
            for place in self.places:
                if place.node is None:
                    yield warning("maintain.no-node", f"VM {place.name}", "a node of the cluster", "none",
                                  "it is only shut down with phase=down; run bootstrap-k3s")  # fmt: skip
        yield from self._check_done()
        yield from self._check_host()

    def _check_elsewhere(self, names: list[str]) -> Iterator[Finding]:
        """Another host under maintenance: never two at once."""
        for node in self.k3s.nodes:
            if node.name not in names and _under_way(node):
                other = node.annotations.get(DOWN, "") or "another host"
                yield error("maintain.other", f"node {node.name}", "no other host under maintenance",
                            f"its machine is out for {other}", "finish that one first: phase=up")  # fmt: skip

    def _check_done(self) -> Iterator[Finding]:
        done = [place for place in self.places if place.done]
        if done and not self.going:
            yield info("maintain.done", f"host {self.host}", "a maintenance that is due", "one that has just ended",
                       "to do it again now: phase=down, then phase=up")  # fmt: skip

    def _check_host(self) -> Iterator[Finding]:
        node = self.proxmox.node(self.host)
        if node is None or not node.online:
            make = warning if self.phase == "down" else error
            yield make("maintain.offline", f"host {self.host}", "a host that is online", "offline",
                       "switch it on; its VMs come back with phase=up")  # fmt: skip
        if not self.proxmox.quorate:
            yield error("proxmox.quorum", "Proxmox", "a cluster with quorum", "none", "bring its hosts back first")
        known = {place.name for place in self.places}
        here = [vm for vm in self.proxmox.vms if vm.node == self.host and vm.status == "running"]
        others = [vm for vm in here if vm.name not in known and not vm.template]
        if others and self.going:
            yield info("maintain.others", f"host {self.host}", "no other guests that run",
                       ", ".join(f"{vm.name} ({vm.vmid})" for vm in others),
                       "labkit leaves them alone: shut them down yourself if you need to")  # fmt: skip


def _when(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
