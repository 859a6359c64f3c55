"""Plan how etcd comes back: stop all, begin anew on one server, let the others join one by one, start the agents. Pure.

An earlier run that was interrupted has left a record: what that says is done is not planned again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.checks.etcd import RUNBOOK, check_consent, check_goal, check_losses
from labkit.checks.guests import missing_modules, missing_packages
from labkit.facts.etcd import UNDO, EtcdFacts, Restore, Snapshot
from labkit.facts.guests import Guest, GuestFacts
from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab, Machine
from labkit.lab.k3sconfig import api_url
from labkit.plan import Action, Change, Plan, Risk
from labkit.rules.etcd_asked import check_asked
from labkit.rules.etcd_goal import Goal, find_goal
from labkit.rules.k3s import SERVERS

SAVED_FIRST = "the one that is saved first"


def plan_etcd_restore(
    lab: Lab,
    facts: Mapping[str, Any],
    *,
    snapshot: str = "",
    restore_as_of: str = "",
    server: str = "",
    replace: tuple[str, ...] = (),
    confirm: str = "",
    protected: bool = False,
) -> Plan:
    """Plan the restore of a snapshot, or the reset to one member when the quorum is lost.

    Args:
        lab: what is wanted.
        facts: `guests`, `k3s` and `etcd`, as they were seen just now.
        snapshot: its name, the path of a copy on this machine, `newest`, or `new` for one that is saved first.
        restore_as_of: the moment whose state is wanted, in UTC: the newest snapshot at or before it.
        server: the server that etcd begins anew on; chosen when empty.
        replace: the servers whose data gives way, one by one, and those that are gone for good.
        confirm: the lab's name.
        protected: whether the two above are needed: not on a twin, where there is nothing to lose.

    Raises:
        InputError: a parameter is wrong.
    """
    asked = check_asked(lab, snapshot=snapshot, restore_as_of=restore_as_of, server=server, replace=replace)
    goal = find_goal(lab, facts, asked)
    work = _Work(lab, facts, goal)
    changes = tuple(work.changes()) if goal.site is not None else ()
    doomed = [change.target for change in changes if change.risk is Risk.DESTRUCTIVE]
    findings = [
        *goal.findings,
        *check_goal(lab, facts, goal, asked),
        *check_consent(lab, doomed, asked, confirm=confirm, protected=protected),
        *(check_losses(facts, goal) if changes else ()),
    ]
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=changes, findings=tuple(dict.fromkeys(findings)))


class _Work:
    """The changes of one plan, each after the one before."""

    def __init__(self, lab: Lab, facts: Mapping[str, Any], goal: Goal) -> None:
        self.lab, self.goal = lab, goal
        self.guests: GuestFacts = facts["guests"]
        self.k3s: K3sFacts = facts["k3s"]
        self.etcd: EtcdFacts = facts["etcd"]
        self.record: Restore | None = goal.record
        self.site = goal.site or lab.servers[0]
        self.version = self.guests.guest(self.site.name).version or lab.k3s.version

    def changes(self) -> Iterator[Change]:
        needs: tuple[str, ...] = ()
        prepared = [change for machine in self._machines() for change in self._prepare(machine)]
        yield from prepared
        for change in (*self._save(), *self._begin(), *self._first(), *self._members()):
            chained = change.model_copy(update={"needs": (*needs, *_of(change.target, prepared))})
            needs = (chained.id,)
            yield chained
        agents = [self._agent(machine) for machine in self._machines() if self._comes_back(machine)]
        agents = [agent.model_copy(update={"needs": (*needs, *_of(agent.target, prepared))}) for agent in agents]
        yield from agents
        if not self._is_over or needs:
            yield self._finish((*needs, *(change.id for change in agents)))

    @property
    def _is_over(self) -> bool:
        """Whether the restore that is wanted has come to its end before."""
        return self.goal.kind == "none"

    @property
    def _is_reset(self) -> bool:
        """Whether etcd has begun anew for it."""
        return self.record is not None and self.record.stage != "prepared"

    def _machines(self) -> list[Machine]:
        """The machines that answer, in the order of the lab."""
        return [machine for machine in self.lab.machines if self.guests.guest(machine.name).reachable]

    def _prepare(self, machine: Machine) -> Iterator[Change]:
        """What Longhorn needs, on a machine that was never part of a cluster."""
        guest = self.guests.guest(machine.name)
        if self._is_over or not guest.fresh or guest.packages is None:
            return
        packages = () if self.lab.k3s.install == "airgap" else missing_packages(guest)
        after: dict[str, Any] = {"packages": list(packages)} if packages else {}
        if missing_modules(guest) and (packages or not missing_packages(guest)):
            after["modules"] = list(missing_modules(guest))
        if after:
            yield Change(system="guests", kind="guest", target=machine.name, action=Action.UPDATE, after=after,
                         note="what Longhorn needs on every node")  # fmt: skip

    def _save(self) -> Iterator[Change]:
        """The way back, while etcd can still be saved; not once an earlier run has begun."""
        if self.record is not None or self._is_over or not self.k3s.up:
            return
        ready = [node.name for node in self.k3s.nodes if node.server and node.ready and node.voter]
        ready = [name for name in ready if name in self.lab.vms and self.guests.guest(name).reachable]
        if self.goal.saved_first or ready:
            name = self.site.name if self.goal.saved_first or self.site.name in ready else ready[0]
            yield Change(system="k3s", kind="snapshot", target=name, action=Action.CREATE, after={"name": UNDO},
                         note="the way back: this snapshot can be restored like any other")  # fmt: skip

    def _begin(self) -> Iterator[Change]:
        if self._is_over or self._is_reset:
            return
        running = [machine.name for machine in self._machines() if self.guests.guest(machine.name).installed]
        others = [server.name for server in self.lab.servers if server != self.site]
        yield Change(
            system="k3s",
            kind="etcd-restore",
            target=self.lab.name,
            action=Action.CREATE,
            after={"server": self.site.name, "from": self._source, **self._made, "stops": running, "rejoin": others},
            risk=Risk.DISRUPTIVE,
            note="noted on the servers, then k3s is stopped everywhere; pods run on, and nobody manages them",
        )

    @property
    def _source(self) -> str:
        if self.record is not None:
            return self.record.snapshot or "its own data"
        if self.goal.saved_first:
            return SAVED_FIRST
        return self.goal.snapshot.name if self.goal.snapshot is not None else "its own data"

    @property
    def _made(self) -> dict[str, str]:
        created = self.goal.snapshot.created if self.goal.snapshot is not None else None
        created = self.record.created if self.record is not None else created
        return {"made": created.isoformat()} if created is not None else {}

    def _first(self) -> Iterator[Change]:
        """The server that etcd begins anew on."""
        if self._is_over or (self._is_reset and self._serves):
            return
        guest = self.guests.guest(self.site.name)
        after: dict[str, Any] = {"etcd": f"one member, from {self._source}", "version": self.version}
        if not self._is_reset:
            after |= _place(self.goal.snapshot)
        gives_way = guest.server_db and not self._is_reset
        yield Change(
            system="k3s",
            kind="etcd-member",
            target=self.site.name,
            action=Action.ACT,
            before={"etcd": "data of the time before"} if gives_way else {},
            after=after,
            risk=Risk.DESTRUCTIVE if gives_way else Risk.DISRUPTIVE,
            lane=SERVERS,
            note="cluster-reset, start, wait; the data of before stays on its disk" if gives_way else "",
        )

    @property
    def _serves(self) -> bool:
        """Whether the server that etcd has begun anew on answers by now."""
        return self.k3s.up and self.guests.guest(self.site.name).unit("server") == "active"

    def _members(self) -> Iterator[Change]:
        """The other servers, one by one."""
        for machine in self.lab.servers:
            guest = self.guests.guest(machine.name)
            if machine != self.site and guest.reachable and self._has_to_join(machine, guest):
                yield self._member(machine, guest)

    def _has_to_join(self, machine: Machine, guest: Guest) -> bool:
        if self.record is None:
            return not self._is_over
        if machine.name not in self.record.left:
            return False
        node = self.k3s.node(machine.name)
        lives = guest.unit("server") == "active" and node is not None and node.ready
        return not self.record.finished or not lives

    def _member(self, machine: Machine, guest: Guest) -> Change:
        marked = self.record is not None and self.etcd.server(machine.name).mark == self.record.id
        old = guest.server_db and not marked
        before: dict[str, Any] = {"etcd": "data of the time before"} if old else {}
        if guest.fresh:
            before["node"] = "of the machine that was there before"
        return Change(
            system="k3s",
            kind="etcd-member",
            target=machine.name,
            action=Action.CREATE,
            before=before,
            after={"etcd": "the restored one", "server": self.site.name, "joins": api_url(self.site.address),
                   "version": guest.version or self.version, "role": "server", "zone": machine.host},
            risk=Risk.DESTRUCTIVE if old else Risk.SAFE,
            lane=SERVERS,
            note="its data is renamed, never deleted; it gets the restored one" if old else "",
        )  # fmt: skip

    def _comes_back(self, machine: Machine) -> bool:
        """Whether an agent is to be started, or to join."""
        if machine.role != "agent" or self._is_over:
            return False
        guest, node = self.guests.guest(machine.name), self.k3s.node(machine.name)
        lives = guest.unit("agent") == "active" and node is not None and node.ready
        return not (self._is_reset and lives)

    def _agent(self, machine: Machine) -> Change:
        guest = self.guests.guest(machine.name)
        if guest.fresh:
            return Change(
                system="k3s", kind="agent", target=machine.name, action=Action.CREATE,
                before={"node": "of the machine that was there before"},
                after={"role": "agent", "version": self.version, "zone": machine.host,
                       "joins": api_url(self.site.address)},
            )  # fmt: skip
        return Change(system="k3s", kind="agent", target=machine.name, action=Action.ACT, before={"ready": False},
                      after={"ready": True, "version": guest.version})  # fmt: skip

    def _finish(self, needs: tuple[str, ...]) -> Change:
        return Change(
            system="k3s",
            kind="etcd-restore",
            target=self.lab.name,
            action=Action.ACT,
            after={"server": self.site.name, "finished": True},
            needs=needs,
            note="wait until all nodes report and all members vote; noted in the cluster and on the servers",
        )


def _place(snapshot: Snapshot | None) -> dict[str, Any]:
    """Where a snapshot is fetched from."""
    if snapshot is None or not snapshot.places:
        return {}
    place = snapshot.places[0]
    return {"at": place.where, "path": place.path, "bytes": place.size}


def _of(target: str, changes: list[Change]) -> tuple[str, ...]:
    return tuple(change.id for change in changes if change.target == target)


__all__ = ["RUNBOOK", "plan_etcd_restore"]
