"""Plan the k3s cluster: found it, let machines join it, keep it as the lab file says, let nodes go. Pure.

Order: what every machine needs first, side by side, the binary of k3s too; then the server that founds the cluster,
the others one by one, changed settings one by one, the agents side by side, and what is removed last.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.checks.base import error, info, warning
from labkit.checks.guests import check_guests, missing_modules, missing_packages
from labkit.errors import InputError, Mistake
from labkit.facts.guests import Guest, GuestFacts, TokenForm, TokenState
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubernetes import NodeRow
from labkit.lab import Lab, Machine
from labkit.lab.k3sconfig import (
    FOUNDING,
    JOINING_ONLY,
    REGISTRATION_ONLY,
    api_url,
    config_differences,
    node_labels,
    wanted_config,
)
from labkit.plan import Action, Change, Finding, Plan, Risk
from labkit.rules.k3s_members import RUNNING, Cluster, Standing, find_cluster, standing
from labkit.rules.k3s_vip import VirtualAddress
from labkit.rules.nodework import NODE_OUT
from labkit.rules.versions import cluster_version, compare_versions

RUNBOOK = "bootstrap-k3s"
SERVERS = "servers"
"""The lane of joining servers: etcd takes one new member at a time."""

FETCH = "fetch"
"""The lanes of agents that fetch what they need, while the servers join."""
_FETCHING = 8


def plan_k3s(lab: Lab, facts: Mapping[str, Any], *, destroy: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> Plan:
    """Plan what makes the machines of the lab into its cluster.

    Args:
        lab: what is wanted.
        facts: `guests` and `k3s`, as they were seen just now.
        destroy: nodes that are no longer in the lab and are to leave the cluster.
        only: plan these machines only; all when empty.

    Raises:
        InputError: `only` names a machine that is not in the lab, or `destroy` one that is.
    """
    _check_names(lab, destroy, only)
    guests, k3s = facts["guests"], facts["k3s"]
    work = _Work(lab, guests, k3s, only)
    findings = [
        *work.cluster.findings,
        *check_guests(lab, guests, k3s, only),
        *_check_versions(lab, k3s),
        *_check_orphans(lab, k3s, destroy),
        *work.findings,
    ]
    changes = [] if work.cluster.state == "blocked" else [*work.changes(), *_removals(lab, k3s, destroy)]
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=tuple(changes), findings=tuple(_once(findings)))


class _Work:
    """The changes of one plan, as they come about machine by machine."""

    def __init__(self, lab: Lab, guests: GuestFacts, k3s: K3sFacts, only: tuple[str, ...]) -> None:
        self.lab, self.guests, self.k3s = lab, guests, k3s
        self.cluster: Cluster = find_cluster(lab, guests, k3s)
        self.vip = VirtualAddress(lab, guests, k3s)
        self.vip_answers = k3s.vip  # or will, before anyone needs it
        self.version = cluster_version(lab, k3s)
        chosen = [machine for machine in lab.machines if not only or machine.name in only]
        founding = self.cluster.state != "up" and self.cluster.seed not in chosen
        self.chosen = [self.cluster.seed, *chosen] if founding else chosen
        self.standing = {m.name: standing(m, guests.guest(m.name), self.cluster, k3s) for m in lab.machines}
        self.findings = [finding for machine in self.chosen for finding in self._check(machine)]

    def changes(self) -> Iterator[Change]:
        token = list(self._token())
        prepared = self._prepare_all()
        before = [change.id for change in token]
        servers = [m for m in self._in_order() if m.role == "server"]
        agents = [m for m in self._in_order() if m.role == "agent"]
        for machine in servers:
            if self.standing[machine.name] in _NOT_YET:
                prepared[machine.name] += self.vip.manifests(machine)
        starts = list(self._servers(servers, before, prepared))
        configs = [c for machine in servers for c in self._configure(machine, needs=[s.id for s in starts])]
        working = [*starts, *configs]  # its certificate names the address before anything answers there
        members = [machine for machine in servers if self.standing[machine.name] is Standing.MEMBER]
        working += [c for m in members for c in self.vip.manifests(m, [change.id for change in working])]
        waits = list(self.vip.answers([*(c for m in servers for c in prepared[m.name]), *working]))
        self.vip_answers = self.vip_answers or bool(waits)
        ready = [*before, *(change.id for change in (*working, *waits))]
        yield from token
        for machine in self.chosen:
            yield from prepared[machine.name]
        yield from working
        yield from waits
        joins = [c for m in agents for c in self._join(m, [*ready, *(change.id for change in prepared[m.name])])]
        yield from joins
        for machine in agents:
            yield from self._configure(machine, needs=ready)
        yield from self._settle([*starts, *waits, *joins])
        for machine in self.chosen:
            yield from self._label(machine)
        first = [change.id for change in starts[:1] if self.cluster.state != "up"]
        yield from self._kubeconfig([*first, *(change.id for change in waits)])

    def _in_order(self) -> list[Machine]:
        """The seed first: all others join it."""
        return sorted(self.chosen, key=lambda machine: machine != self.cluster.seed)

    def _servers(
        self, servers: list[Machine], before: list[str], prepared: Mapping[str, list[Change]]
    ) -> Iterator[Change]:
        """Founding and joining servers: each waits for the one before; those that only start run side by side."""
        started = [m for m in servers if self._holds(m)]
        for machine in started:
            yield from self._join(machine, [*before, *(change.id for change in prepared[machine.name])])
        last = [f"server/{m.name}/{Action.ACT}" for m in started if self.standing[m.name] in _STARTS]
        for machine in servers:
            if machine in started:
                continue
            needs = [*before, *last, *(change.id for change in prepared[machine.name])]
            for change in self._join(machine, needs):
                last = [change.id]
                yield change

    def _holds(self, machine: Machine) -> bool:
        """Whether a server is part of a cluster that has to be started as a whole."""
        return self.cluster.state == "stopped" and machine in self.cluster.holders

    def _join(self, machine: Machine, needs: Iterable[str]) -> Iterator[Change]:
        where = self.standing[machine.name]
        if where not in (Standing.OUT, Standing.REBUILT, *_STARTS):
            return
        founds = self.cluster.state == "none" and machine == self.cluster.seed
        after: dict[str, Any] = {"role": machine.role, "version": self.version, "zone": machine.host}
        after["joins"] = "a new cluster" if founds else self._target(machine)
        before: dict[str, Any] = {}
        if where is Standing.REBUILT:
            before["node"] = "of the machine that was there before"
        if where in _STARTS:
            before = {"ready": False}  # not its unit: that one changes from second to second
            after = {"ready": True, "version": self.version}
        yield Change(
            system="k3s",
            kind=machine.role,
            target=machine.name,
            action=Action.ACT if where in _STARTS else Action.CREATE,
            before=before,
            after=after,
            needs=tuple(needs),
            lane=SERVERS if machine.role == "server" and not self._holds(machine) else "",
            note=_NOTES.get(where, ""),
        )

    def _settle(self, joined: list[Change]) -> Iterator[Change]:
        """After machines have joined: wait until the cluster as a whole is well."""
        if joined:
            yield Change(system="k3s", kind="cluster", target=self.lab.name, action=Action.ACT,
                         after={"healthy": True}, needs=tuple(change.id for change in joined),
                         note="wait for the API, all nodes, etcd, CoreDNS and volumes")  # fmt: skip

    def _target(self, machine: Machine) -> str:
        """The API that a machine joins: the seed's; agents take the virtual address when it answers."""
        if self.vip_answers and machine.role == "agent":
            return api_url(self.lab.network.vip)
        return api_url(self.cluster.seed.address)

    def _token(self) -> Iterator[Change]:
        if self.guests.token is TokenForm.MISSING and self.lab.k3s.token.partition(":")[0] in ("file", "keyring"):
            known = bool(self.cluster.holders) or self.k3s.up
            yield Change(
                system="k3s",
                kind="token",
                target=self.lab.k3s.token,
                action=Action.CREATE,
                after={"token": "the cluster's" if known else "a new one"},
                note="without it no snapshot can be restored: keep a copy",
            )

    def _prepare_all(self) -> dict[str, list[Change]]:
        """What each machine needs first: the servers at once, for they are waited for; then some agents at a time."""
        servers = {m.name: list(self._prepare(m)) for m in self.chosen if m.role == "server"}
        needs = tuple(change.id for changes in servers.values() for change in changes)
        agents = [machine for machine in self.chosen if machine.role == "agent"]
        lanes = itertools.cycle(f"{FETCH} {number + 1}" for number in range(_FETCHING))
        return servers | {m.name: list(self._prepare(m, needs, next(lanes))) for m in agents}

    def _prepare(self, machine: Machine, needs: tuple[str, ...] = (), lane: str = "") -> Iterator[Change]:
        guest = self.guests.guest(machine.name)
        if not guest.reachable or self.standing[machine.name] is Standing.FOREIGN:
            return
        after: dict[str, Any] = {}
        packages = () if self.lab.k3s.install == "airgap" else missing_packages(guest)
        if packages:
            after["packages"] = list(packages)
        if missing_modules(guest) and guest.packages is not None and (packages or not missing_packages(guest)):
            after["modules"] = list(missing_modules(guest))
        fetched = self._is_fetched_early(machine, guest)
        if fetched:
            after["k3s"] = self.version
        if after:
            note = "k3s, not started yet, and " if fetched else ""
            note = f"{note}what Longhorn needs on every node" if len(after) > fetched else "k3s, not started yet"
            yield Change(system="guests", kind="guest", target=machine.name, action=Action.UPDATE, after=after,
                         needs=needs, lane=lane, note=note)  # fmt: skip

    def _is_fetched_early(self, machine: Machine, guest: Guest) -> bool:
        """Whether a machine fetches k3s beside the others, long before its turn to join."""
        joins = self.standing[machine.name] in (Standing.OUT, Standing.REBUILT)
        return joins and guest.version != self.version and self.lab.k3s.install != "airgap"

    def _configure(self, machine: Machine, needs: list[str]) -> Iterator[Change]:
        """Change the settings of a machine that is a member already."""
        differences = self._differences(machine)
        if self.standing[machine.name] is not Standing.MEMBER or not differences:
            return
        restart = bool(set(differences) - REGISTRATION_ONLY - JOINING_ONLY)
        yield Change(
            system="k3s",
            kind="k3s-config",
            target=machine.name,
            action=Action.UPDATE,
            before={key: old for key, (old, _) in differences.items()},
            after={key: new for key, (_, new) in differences.items()},
            risk=Risk.DISRUPTIVE if restart else Risk.SAFE,
            needs=tuple(needs),
            lane=NODE_OUT if restart else "",
            note="k3s is restarted; pods go on" if restart else "",
        )

    def _differences(self, machine: Machine) -> dict[str, Any]:
        guest = self.guests.guest(machine.name)
        founded = (guest.config or {}).get("cluster-init") is True
        target = None if founded else self._target(machine)
        wanted = wanted_config(self.lab, machine, target)
        found: dict[str, Any] = dict(config_differences(self.lab, wanted, guest.config or {}))
        if guest.config_token in (TokenState.NONE, TokenState.OTHER) and guest.server_token is not TokenState.OTHER:
            found["token"] = (str(guest.config_token), "the lab's")
        return found

    def _label(self, machine: Machine) -> Iterator[Change]:
        node, guest = self.k3s.node(machine.name), self.guests.guest(machine.name)
        if node is None or self.standing[machine.name] in (Standing.REBUILT, Standing.FOREIGN):
            return
        before, after = _label_differences(machine, node, guest)
        if after:
            yield Change(system="k3s", kind="node", target=machine.name, action=Action.UPDATE,
                         before=before, after=after, note="labels and taints of the live node")  # fmt: skip

    def _kubeconfig(self, needs: list[str]) -> Iterator[Change]:
        seen = self.k3s.kubeconfig
        server = api_url(self.lab.network.vip if self.vip_answers else self.cluster.seed.address)
        moves = seen.state == "current" and self.vip_answers and not self.k3s.vip and seen.server != server
        if seen.state == "current" and not moves:
            return
        there = seen.state in ("current", "stale")
        before: dict[str, Any] = {"server": seen.server} if moves else {"context": "of an older certificate or cluster"}
        yield Change(
            system="k3s",
            kind="kubeconfig",
            target=self.lab.name,
            action=Action.UPDATE if there else Action.CREATE,
            before=before if there else {},
            after={"file": self.lab.k3s.kubeconfig, "server": server},
            needs=tuple(needs),
            note="other contexts stay as they are",
        )

    def _check(self, machine: Machine) -> Iterator[Finding]:
        guest, where = self.guests.guest(machine.name), self.standing[machine.name]
        if where is Standing.MEMBER:
            for key, (old, new) in self._differences(machine).items():
                if key in FOUNDING:
                    yield error("k3s.founding-setting", f"k3s {machine.name}", f"{key} {new}", str(old),
                                "a cluster has it for life: write the old value into k3s.config")  # fmt: skip
        if where is Standing.OUT and guest.version and compare_versions(guest.version, self.version) > 0:
            yield warning("k3s.newer", f"k3s {machine.name}", self.version, guest.version,
                          "a newer k3s is installed there: it is replaced")  # fmt: skip


_STARTS = (Standing.STOPPED, Standing.WAITING)
_NOT_YET = (Standing.OUT, Standing.REBUILT, *_STARTS)
_NOTES = {
    Standing.REBUILT: "the old node is deleted first",
    Standing.STOPPED: "k3s is started",
    Standing.WAITING: "it was left unfinished: wait until it is ready",
}


def _label_differences(machine: Machine, node: NodeRow, guest: Guest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare labels and taints; what labkit once set and no longer wants goes, all others stay."""
    settings = guest.config or {}
    labels: dict[str, str | None] = dict(node_labels(machine))
    for text in _listed(settings.get("node-label")):
        key, _, value = text.partition("=")
        if key not in labels and node.labels.get(key) == value:
            labels[key] = None
    before = {key: node.labels.get(key) for key, value in labels.items() if node.labels.get(key) != value}
    after: dict[str, Any] = {key: labels[key] for key in before}
    missing = [taint for taint in machine.taints if taint not in node.taints]
    surplus = [t for t in _listed(settings.get("node-taint")) if t in node.taints and t not in machine.taints]
    if missing or surplus:
        kept = [taint for taint in node.taints if taint not in surplus]
        before["taints"], after["taints"] = list(node.taints), [*kept, *missing]  # type: ignore[assignment]
    return dict(before), after


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def orphans(lab: Lab, k3s: K3sFacts) -> tuple[NodeRow, ...]:
    """Return the nodes that are not in the lab."""
    return tuple(node for node in k3s.nodes if node.name not in lab.vms)


def _removals(lab: Lab, k3s: K3sFacts, destroy: tuple[str, ...]) -> Iterator[Change]:
    for node in orphans(lab, k3s):
        if node.name in destroy:
            yield Change(
                system="k3s",
                kind="node",
                target=node.name,
                action=Action.DELETE,
                before={"role": "server" if node.server else "agent", "address": node.address},
                risk=Risk.DESTRUCTIVE,
                lane=NODE_OUT,
                note="drained, then deleted; the VM stays: provision-vms deletes it",
            )


def _check_orphans(lab: Lab, k3s: K3sFacts, destroy: tuple[str, ...]) -> Iterator[Finding]:
    doomed = [node for node in orphans(lab, k3s) if node.name in destroy]
    for node in orphans(lab, k3s):
        if node.name not in destroy:
            yield info("k3s.orphan", f"node {node.name}", "every node in the lab file", f"one at {node.address}",
                       f"put it back into the lab file, or let it go: destroy={node.name}")  # fmt: skip
    for name in destroy:
        if k3s.up and k3s.node(name) is None:
            yield warning("k3s.destroy", f"node {name}", "a node to be removed", "none",
                          "it is gone already, or the name is misspelt")  # fmt: skip
    if any(node.server for node in doomed):
        silent = [n.name for n in k3s.nodes if n.server and not n.ready and n not in doomed]
        if silent:
            yield error("k3s.destroy", "etcd", "all other servers ready before one is removed",
                        f"{', '.join(silent)} not ready", "mend them first: every vote counts")  # fmt: skip
        if all(node in doomed for node in k3s.nodes if node.server):
            yield error("k3s.destroy", "etcd", "one server that stays", "none", "let another server join first")


def _check_versions(lab: Lab, k3s: K3sFacts) -> Iterator[Finding]:
    for node in k3s.nodes:
        if node.name in lab.vms and node.version and node.version != lab.k3s.version:
            newer = compare_versions(node.version, lab.k3s.version) > 0
            remedy = "write the newer version into the lab file" if newer else "run upgrade-k3s"
            yield warning("k3s.version", f"node {node.name}", lab.k3s.version, node.version, remedy)


def _check_names(lab: Lab, destroy: Iterable[str], only: Iterable[str]) -> None:
    known = f"one of {', '.join(lab.vms)}"
    mistakes = [Mistake("parameters", 0, 0, "only", known, f"{name!r}") for name in only if name not in lab.vms]
    mistakes += [
        Mistake("parameters", 0, 0, "destroy", "a node that is no longer in the lab", name, "remove it there first")
        for name in destroy
        if name in lab.vms
    ]
    if mistakes:
        raise InputError(mistakes)


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    return iter(dict.fromkeys(findings))


__all__ = ["NODE_OUT", "RUNBOOK", "RUNNING", "SERVERS", "orphans", "plan_k3s"]
