"""Plan a whole lab anew, from machines to apps with their data, as one plan. Pure.

It is what provision-vms, bootstrap-k3s, bootstrap-flux and a restore would plan one after the other; what machines and
a cluster that are not there yet will show is foreseen. Each change waits only for what it truly needs: a server for
its own VM and for the server before it, Flux for the first server, Longhorn for Flux and all nodes, an app for its own
volumes. Kustomizations whose claims have to be restored exist suspended before Flux sees them, so that no app ever
starts on an empty volume. What is right already is not planned: an interrupted run goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labkit.checks.base import error
from labkit.checks.privileges import check_privileges
from labkit.checks.repository.charts import releases
from labkit.checks.repository.routes import routes
from labkit.checks.room import check_room
from labkit.facts.flux import NAMESPACE, FluxFacts
from labkit.facts.git import GitFacts
from labkit.facts.guests import GuestFacts
from labkit.facts.longhorn import LonghornFacts
from labkit.facts.restore import HolderFacts, WantedVolume
from labkit.lab import Lab
from labkit.plan import Action, Change, Finding, Plan
from labkit.rules.flux import plan_flux, waiting_for
from labkit.rules.foresight import foresee_guests
from labkit.rules.k3s import plan_k3s
from labkit.rules.kept import check_kept, put_back
from labkit.rules.loss import check_loss
from labkit.rules.restore import SYSTEM as RESTORE
from labkit.rules.restore import fresh_backups, last_of, restore_changes
from labkit.rules.vms import plan_vms

RUNBOOK = "disaster-recovery"
SYSTEM = "recovery"
ROOT = f"{NAMESPACE}/flux-system"
READS = ("proxmox", "guests", "k3s", "git", "flux-if-any", "longhorn-if-any")
"""What it looks at, beside the wanted volumes and their holders."""


def plan_rebuild(
    lab: Lab,
    facts: Mapping[str, Any],
    wanted: Sequence[WantedVolume],
    *,
    ssh_public_key: str,
    holders: HolderFacts | None = None,
) -> Plan:
    """Plan what makes the lab whole again: machines, cluster, Flux, volumes with their data, apps, routes, backups.

    Args:
        lab: what is wanted.
        facts: by the names of `READS`, as they were seen just now.
        wanted: the volumes that are needed, each with its backup; those with a `problem` are not restored.
        ssh_public_key: the key that cloud-init lets in.
        holders: who uses which claim in the cluster that is there; None without one.
    """
    stages = _Stages(lab, facts, tuple(sorted(wanted, key=lambda one: one.id)), ssh_public_key, holders)
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=tuple(stages.changes()), findings=tuple(stages.findings()))


@dataclass(frozen=True)
class _Stages:
    """The stages of one rebuild, each planned by its own rules, and how they wait for each other."""

    lab: Lab
    facts: Mapping[str, Any]
    wanted: tuple[WantedVolume, ...]
    key: str
    holders: HolderFacts | None

    @property
    def git(self) -> GitFacts:
        found: GitFacts = self.facts["git"]
        return found

    @property
    def flux(self) -> FluxFacts:
        found: FluxFacts = self.facts["flux-if-any"]
        return found

    @property
    def longhorn(self) -> LonghornFacts | None:
        found: LonghornFacts = self.facts["longhorn-if-any"]
        return found if self.flux.up else None

    @cached_property
    def vms(self) -> Plan:
        return plan_vms(self.lab, self.facts["proxmox"], ssh_public_key=self.key)

    @cached_property
    def coming(self) -> frozenset[str]:
        """The machines that will be made."""
        return frozenset(c.target for c in self.vms.changes if c.kind == "vm" and c.action is Action.CREATE)

    @cached_property
    def guests(self) -> GuestFacts:
        return foresee_guests(self.lab, self.facts["guests"], self.coming)

    @cached_property
    def k3s(self) -> Plan:
        return plan_k3s(self.lab, {"guests": self.guests, "k3s": self.facts["k3s"]})

    @cached_property
    def cluster(self) -> tuple[Change, ...]:
        """The changes of k3s, each after its own machine."""
        machines = {change.target: change.id for change in self.vms.changes}
        return tuple(_after(change, [machines[change.target]] if change.target in machines else [])
                     for change in self.k3s.changes)  # fmt: skip

    @cached_property
    def founding(self) -> tuple[str, ...]:
        """The change after which an API answers; none when one does."""
        starts = [c.id for c in self.cluster if c.kind == "server" and not self.facts["k3s"].up]
        return tuple(starts[:1])

    @cached_property
    def joined(self) -> tuple[str, ...]:
        """The changes after which all nodes are there."""
        return tuple(change.id for change in self.cluster if change.kind in ("server", "agent", "cluster"))

    @cached_property
    def restore(self) -> tuple[Change, ...]:
        return restore_changes(
            self.wanted, self.longhorn, self.holders, needs=self._volumes_need, nodes=len(self.lab.vms)
        )

    @property
    def _volumes_need(self) -> tuple[str, ...]:
        seen = self.longhorn
        return () if seen is not None and seen.ready else (f"longhorn/{self.lab.name}/act",)

    @cached_property
    def pending(self) -> dict[str, tuple[Change, ...]]:
        """The changes of each claim that is to be restored, by `namespace/name`."""
        found = {one.id: tuple(c for c in self.restore if _claim_of(c) == one.id) for one in self.wanted}
        return {name: changes for name, changes in found.items() if changes}

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """The Kustomizations that own claims with data, `namespace/name`; all, for claims that Git does not name.

        Those are made by a chart, or by an operator: which Kustomization brings it, nobody can tell from here.
        """
        every = {build.name for build in self.git.builds} if self._unnamed else set[str]()
        return tuple(sorted(every | {one.claim.kustomization for one in self.wanted if one.claim.kustomization}))

    @cached_property
    def _unnamed(self) -> tuple[WantedVolume, ...]:
        return tuple(one for one in self.wanted if one.id in self.pending and not one.claim.kustomization)

    @cached_property
    def first(self) -> frozenset[str]:
        """The Kustomizations that Longhorn comes from, with all that they depend on: they cannot be held back."""
        return longhorn_comes_from(self.git)

    @cached_property
    def held(self) -> tuple[str, ...]:
        """The Kustomizations that rest until their volumes are back."""
        busy = {one.claim.kustomization for one in self.wanted if one.id in self.pending}
        return tuple(name for name in self.owners if (name in busy or self._unnamed) and name not in self.first)

    @cached_property
    def gitops(self) -> Plan:
        return plan_flux(self.lab, {"git": self.git, "flux": self.flux}, suspend=self.held)

    @cached_property
    def awake(self) -> tuple[str, ...]:
        """The Kustomizations that are to be woken: those that are held, or were by an earlier run."""
        asleep = {f"{one.namespace}/{one.name}" for one in self.flux.kustomizations if one.suspended_for == RUNBOOK}
        return tuple(sorted({*self.held, *asleep}))

    def changes(self) -> Iterator[Change]:
        """Yield all changes, those of the machines first."""
        kept = list(self._kept())
        flux = [_after(_said_why(c), (*(self.founding if not c.needs else ()), *_first_for(c, kept)))
                for c in self.gitops.changes if c.kind != "chain"]  # fmt: skip
        sync = [c.id for c in flux if c.kind in ("gitrepository", "kustomization")] or [c.id for c in flux]
        ready = list(self._longhorn(sync))
        volumes = [_after(c, self._asleep(c, flux)) for c in self.restore]
        resumes = list(self._resumes(flux))
        before = [*flux, *ready, *resumes]
        chain = list(self._chain(before, volumes))
        answers = list(self._routes([change.id for change in chain]))
        yield from self.vms.changes
        yield from self.cluster
        yield from (*kept, *flux, *ready, *volumes, *resumes, *chain, *answers)
        yield from self._backups(tuple(change.id for change in (*chain, *answers)))

    def _kept(self) -> Iterator[Change]:
        """Certificates that are kept in Git, before Flux is there to bring cert-manager."""
        if self.is_new:
            yield from put_back(self.git, self.facts["proxmox"].read_at, needs=self.founding)

    @property
    def is_new(self) -> bool:
        """Whether Flux has not been told yet what to apply."""
        return self.flux.find(f"Kustomization/{ROOT}") is None

    def _longhorn(self, sync: Iterable[str]) -> Iterator[Change]:
        if not self.restore or not self._volumes_need:
            return
        found = longhorn_release(self.git)
        yield Change(
            system=SYSTEM, kind="longhorn", target=self.lab.name, action=Action.ACT,
            after={"ready": True, "release": found}, needs=(*sync, *self.joined),
            note="wait until Flux has installed Longhorn and it runs on every node",
        )  # fmt: skip

    def _asleep(self, change: Change, flux: Iterable[Change]) -> tuple[str, ...]:
        """Nothing is taken away from an app that Flux could start again meanwhile."""
        if change.kind not in ("workload-down", "claim-volume"):
            return ()
        return tuple(c.id for c in flux if c.kind == "kustomization" and c.after.get("suspend") is True)

    def _resumes(self, flux: Sequence[Change]) -> Iterator[Change]:
        """Wake each Kustomization as soon as its own volumes are there.

        A claim that Git pins waits for its volume by itself, so that the failure of one does not keep all others
        asleep; one that is not pinned would get an empty volume.
        """
        asleep = {f"{c.after.get('namespace')}/{c.target}": c.id for c in flux if c.after.get("suspend") is True}
        sync = [c.id for c in flux if c.target == "flux-system" and c.kind in ("gitrepository", "kustomization")]
        for name in self.awake:
            own = [one for one in self.wanted if one.claim.kustomization == name and one.id in self.pending]
            mine = [*own, *self._unnamed]
            hard = [last for one in mine if not one.claim.pinned for last in last_of(self.pending[one.id])]
            soft = [last for one in mine if one.claim.pinned for last in last_of(self.pending[one.id])]
            yield Change(
                system=RESTORE, kind="wake", target=name, action=Action.ACT, before={"suspend": True},
                after={"suspend": False},
                needs=(*([asleep[name]] if name in asleep else []), *sync, *hard), follows=tuple(soft),
                note="its volumes are there: the field goes back to Flux",
            )  # fmt: skip

    def _chain(self, before: Sequence[Change], volumes: Sequence[Change]) -> Iterator[Change]:
        """Wait for everything in Git; not while a volume is missing, for then that wait could only fail."""
        waiting = waiting_for(self.git, self.flux)
        if not before and not volumes and not waiting and not self.cluster:
            return
        needs = (*(c.id for c in before), *([] if before else self.joined), *last_of(volumes))
        yield Change(
            system="flux", kind="chain", target=self.git.path or "flux-system", action=Action.ACT, after={"but": []},
            needs=needs, apart=True, note="wait until everything in Git is ready, every app too",
        )  # fmt: skip

    def _routes(self, needs: Sequence[str]) -> Iterator[Change]:
        """Every app behind its own route, where its Kustomization was woken."""
        found = self.git.cluster
        for name in self.awake if found is not None else ():
            assert found is not None  # noqa: S101  # asked before
            hosts = sorted({host for route in routes(found) if route.resource.by == name for host in route.hosts})
            if hosts:
                yield Change(
                    system=SYSTEM, kind="routes", target=name.partition("/")[2], action=Action.ACT,
                    after={"hosts": [*hosts]}, needs=tuple(needs), apart=True,
                    note="every app answers behind its route",
                )  # fmt: skip

    def _backups(self, running: tuple[str, ...]) -> Iterator[Change]:
        """The first backup of each restored volume, once its app runs again, or that has been waited for in vain."""
        for change in fresh_backups(self.wanted, self.longhorn):
            mine = last_of(self.pending.get(change.target, ()))
            yield change.model_copy(update={"needs": mine, "follows": running})

    def findings(self) -> Iterator[Finding]:
        """Yield what each stage has found, each once."""
        seen: dict[Finding, None] = {}
        for one in (*self.vms.findings, *self._of_cluster(), *self.gitops.findings, *self._of_volumes()):
            seen[one] = None
        return iter(seen)

    def _of_cluster(self) -> Iterator[Finding]:
        if self.coming:
            yield from check_privileges(self.lab, self.facts["proxmox"])
        yield from check_loss(self.lab, self.facts["proxmox"], self.facts["guests"], self.facts["k3s"], self.coming)
        foreseen = {f"guest {name}" for name in self.coming}
        yield from (one for one in self.k3s.findings if not (one.id == "guest.packages" and one.subject in foreseen))

    def _of_volumes(self) -> Iterator[Finding]:
        if self.pending and self.longhorn is None and not longhorn_release(self.git):
            yield error("rebuild.longhorn", "Longhorn", "a HelmRelease of its chart in the repository", "none",
                        "install it from Git, so that a new cluster has it")  # fmt: skip
        for one in self.wanted:
            claim = one.claim
            if one.id in self.pending and claim.kustomization in self.first and not (claim.pinned or claim.handle):
                yield error(
                    "rebuild.pin", f"claim {claim.id} ({claim.place})", "a claim that Git pins, or in a Kustomization "
                    "that can wait for Longhorn", f"neither: {claim.kustomization} brings Longhorn itself",
                    f"write volumeName: {one.source} into its spec, or it would begin on an empty volume",
                )  # fmt: skip
        if self.is_new:
            yield from check_kept(self.git, self.facts["proxmox"].read_at)
        yield from check_room(self.lab, [one for one in self.wanted if one.id in self.pending], self.longhorn)


def _after(change: Change, needs: Iterable[str]) -> Change:
    more = tuple(name for name in needs if name not in change.needs)
    return change.model_copy(update={"needs": (*change.needs, *more)}) if more else change


def _first_for(change: Change, kept: Sequence[Change]) -> tuple[str, ...]:
    """What must be there before Flux applies anything."""
    is_sync = change.target == "flux-system" and change.kind in ("gitrepository", "kustomization")
    return tuple(one.id for one in kept) if is_sync else ()


def _said_why(change: Change) -> Change:
    """A suspension of ours says what for, so that whoever finds it knows who ends it."""
    if change.after.get("suspend") is not True:
        return change
    return change.model_copy(update={"after": {**change.after, "for": RUNBOOK}})


def _claim_of(change: Change) -> str:
    """The claim that a change of a restore is for; "" for what is for several."""
    if change.kind in ("volume-content", "claim-volume"):
        return change.target
    return str(change.after.get("claim") or "")


def longhorn_release(git: GitFacts) -> str:
    """Return the HelmRelease of Longhorn in the repository, `HelmRelease/namespace/name`; "" when there is none."""
    found = next(releases(git.cluster, "longhorn"), None) if git.cluster is not None else None
    return f"HelmRelease/{found.resource.namespace}/{found.resource.name}" if found is not None else ""


def longhorn_comes_from(git: GitFacts) -> frozenset[str]:
    """Return the Kustomizations that must be applied before Longhorn is there, `namespace/name`."""
    waiting = {ROOT} | ({one.resource.by for one in releases(git.cluster, "longhorn")} if git.cluster else set())
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        build = git.build(name)
        if name in found or build is None:
            found |= {name}
            continue
        found.add(name)
        space = build.source.namespace
        for one in build.source.get("spec", "dependsOn") or ():
            waiting.add(f"{one.get('namespace') or space}/{one.get('name')}")
    return frozenset(found)
