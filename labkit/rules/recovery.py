"""Plan a recovery: of the whole lab, of some apps on a living cluster, or of single volumes. Pure.

The scopes `apps` and `volume` bring data back beside what is there: every volume is restored under a name of its own
and looked at while its app still runs; then the Kustomization that owns it rests, the workloads go down, the claim is
switched, and all come up again. The volume that gave way is kept. Undo is the same the other way round: the plan's
rows and the report name what was kept.

Whatever an interrupted run has left down or asleep is found by its marks and goes on, or, when this run is about
something else, is given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.checks.restore import check_recovery, half_switched
from labkit.facts.flux import FluxFacts, FluxObject
from labkit.facts.longhorn import LonghornFacts
from labkit.facts.restore import Holder, HolderFacts, WantedVolume
from labkit.lab import Lab
from labkit.plan import Action, Change, Plan
from labkit.rules.needed import Goal, needed_volumes
from labkit.rules.rebuild import READS, plan_rebuild
from labkit.rules.restore import SYSTEM, fresh_backups, restore_changes

RUNBOOK = "disaster-recovery"
_MORE = ("holders", "verified")
_LIVING = ("git", "flux-if-any", "longhorn-if-any", *_MORE)


def recovery_reads(goal: Goal) -> tuple[str, ...]:
    """Return the systems whose facts a recovery looks at, by the names of their readers."""
    return (*READS, *_MORE) if goal.scope == "lab" else _LIVING


def plan_recovery(
    lab: Lab, facts: Mapping[str, Any], *, goal: Goal, protected: bool = False, ssh_public_key: str = ""
) -> Plan:
    """Plan what brings a lab, some apps or some volumes back with their data.

    Args:
        lab: what is wanted.
        facts: of `recovery_reads(goal)`, as they were seen just now, after `verify_store`.
        goal: what is asked for.
        protected: whether `confirm` must be right: on the lab.
        ssh_public_key: the key that cloud-init lets in, for scope `lab`.

    Raises:
        InputError: a name stands for nothing.
    """
    wanted = needed_volumes(facts, goal)
    holders: HolderFacts = facts["holders"]
    if goal.scope == "lab":
        plan = plan_rebuild(lab, facts, wanted, ssh_public_key=ssh_public_key, holders=holders)
        changes: Sequence[Change] = plan.changes
        findings = list(plan.findings)
    else:
        changes = tuple(_GoBack(wanted, facts["longhorn-if-any"], holders, facts["flux-if-any"]).changes())
        findings = []
    found = check_recovery(lab, facts, wanted, changes, goal=goal, protected=protected)
    findings += [one for one in found if one not in findings]
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=tuple(changes), findings=tuple(findings))


@dataclass
class _GoBack:
    """Volumes of a living cluster on their way back."""

    wanted: tuple[WantedVolume, ...]
    longhorn: LonghornFacts
    holders: HolderFacts
    flux: FluxFacts

    def changes(self) -> Iterator[Change]:
        """Yield all changes."""
        restored = list(restore_changes(self.wanted, self.longhorn, self.holders, replace=True))
        owners = self._owners(restored)
        asleep = dict(self._suspended(owners))
        made = [self._after_suspension(change, asleep) for change in restored]
        made += self._left_down(made)
        yield from asleep.values()
        yield from made
        for one in self.wanted:
            yield from fresh_backups([one], self.longhorn, needs=self._running(one, made), replace=True)
        yield from self._woken(owners, asleep, made)

    def _owners(self, changes: Iterable[Change]) -> dict[str, tuple[str, ...]]:
        """The Kustomizations that must rest, with the claims and workloads of each that are worked on."""
        claims = {change.target for change in changes if change.kind == "claim-volume"}
        works = {change.target for change in changes if change.kind in ("workload-down", "workload-up")}
        found: dict[str, set[str]] = {}
        for one in self.wanted:
            if one.id in claims and one.claim.kustomization:
                found.setdefault(one.claim.kustomization, set()).add(one.id)
        for holder in self.holders.holders:
            if holder.id in works and holder.kustomization:
                found.setdefault(holder.kustomization, set()).add(holder.id)
        return {name: tuple(sorted(found[name])) for name in sorted(found)}

    def _suspended(self, owners: Iterable[str]) -> Iterator[tuple[str, Change]]:
        for name in owners:
            seen = self._kustomization(name)
            if seen is not None and not seen.suspended:
                yield name, Change(
                    system="flux", kind="kustomization", target=seen.name, action=Action.UPDATE,
                    before={"suspend": False},
                    after={"suspend": True, "namespace": seen.namespace, "for": RUNBOOK},
                    note="Flux leaves it alone until its volumes are back",
                )  # fmt: skip

    def _kustomization(self, name: str) -> FluxObject | None:
        return self.flux.find(f"Kustomization/{name}")

    def _after_suspension(self, change: Change, asleep: Mapping[str, Change]) -> Change:
        if change.kind not in ("workload-down", "claim-volume"):
            return change
        owners = {one.claim.kustomization for one in self.wanted if one.id == change.target}
        owners |= {holder.kustomization for holder in self.holders.holders if holder.id == change.target}
        more = tuple(asleep[name].id for name in sorted(owners) if name in asleep)
        return change.model_copy(update={"needs": (*change.needs, *more)})

    def _left_down(self, changes: Iterable[Change]) -> list[Change]:
        """Workloads that an interrupted run scaled down, and that this one is not about.

        One whose claim was taken away already is not given back: a check asks which way it shall go.
        """
        known = {change.target for change in changes if change.kind == "workload-up"}
        left = [one for one in self.holders.holders if one.held and one.id not in known]
        return [_given_back(holder) for holder in left if not half_switched(holder, self.longhorn)]

    def _running(self, one: WantedVolume, changes: Iterable[Change]) -> tuple[str, ...]:
        """The changes after which the app of a claim runs on its restored volume."""
        users = {holder.id for holder in self.holders.of(one.claim.namespace, one.claim.name)}
        ups = tuple(c.id for c in changes if c.kind == "workload-up" and c.target in users)
        return ups or tuple(c.id for c in changes if c.kind in ("claim-volume", "restored-pv")
                            and one.id in (c.target, c.after.get("claim")))  # fmt: skip

    def _woken(
        self, owners: Mapping[str, tuple[str, ...]], asleep: Mapping[str, Change], changes: Sequence[Change]
    ) -> Iterator[Change]:
        """Flux has back what rests for this: also after a failure, when no workload of it was left down."""
        left = {f"{one.namespace}/{one.name}" for one in self.flux.kustomizations if one.suspended_for == RUNBOOK}
        for name in sorted({*asleep, *left}):
            mine = set(owners.get(name, ()))
            mine |= {holder.id for holder in self.holders.holders if holder.kustomization == name}
            yield Change(
                system=SYSTEM, kind="wake", target=name, action=Action.ACT, before={"suspend": True},
                after={"suspend": False}, needs=(asleep[name].id,) if name in asleep else (),
                follows=tuple(c.id for c in changes if c.target in mine), apart=True,
                note="the field goes back to Flux, which looks at once",
            )  # fmt: skip


def _given_back(holder: Holder) -> Change:
    return Change(
        system=SYSTEM, kind="workload-up", target=holder.id, action=Action.ACT, before={"replicas": 0},
        after={"replicas": int(holder.held) if holder.held.isdecimal() else 1}, apart=True,
        note="an earlier run was interrupted and left it scaled down",
    )  # fmt: skip
