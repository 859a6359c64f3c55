"""Checks before and after a recovery: refuse early what would fail late, and say what is lost. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from labkit.checks.base import Check, error, info, warning
from labkit.checks.flux import check_age_key
from labkit.checks.room import check_room
from labkit.facts.backups import StoreFacts
from labkit.facts.git import GitFacts
from labkit.facts.longhorn import LonghornFacts
from labkit.facts.restore import KEPT, Holder, HolderFacts, WantedVolume, claim_label
from labkit.lab import Lab
from labkit.plan import Change, Finding
from labkit.rules.needed import Goal, needed_volumes, to_restore
from labkit.rules.restore_choice import show_moment

AGAIN = "run disaster-recovery again"
_LIMIT = "concurrent-volume-backup-restore-per-node-limit"
_SCALED = ("Deployment", "StatefulSet", "CronJob")
_NEEDS = ("git", "longhorn-if-any", "holders", "verified")


def recovery_preflight(lab: Lab, goal: Goal, *, protected: bool) -> tuple[Check, ...]:
    """Return the checks before anything is planned: confirmed, keys right, Git there, every backup whole and verified.

    Args:
        lab: what is wanted.
        goal: what is asked for.
        protected: whether `confirm` must be right: on the lab.
    """
    return (
        Check("recovery-confirmed", f"the lab is named: {lab.name}", (),
              lambda _facts: check_confirmed(lab, goal.confirm, protected=protected)),
        Check("recovery-git", "Git is there, and the age key opens its secrets", ("git",),
              lambda facts: check_git(facts["git"])),
        Check("recovery-store", f"the backup store of {lab.name} can be read without its cluster", ("verified",),
              lambda facts: check_store(facts["verified"])),
        Check("recovery-backups", "every needed volume has a whole backup at that time", _NEEDS,
              lambda facts: _check_needed(facts, goal)),
    )  # fmt: skip


def check_recovery(
    lab: Lab, facts: Mapping[str, Any], wanted: Sequence[WantedVolume], changes: Iterable[Change], *, goal: Goal,
    protected: bool,
) -> Iterator[Finding]:  # fmt: skip
    """Yield what speaks against a plan, and what a person should know of it."""
    made = list(changes)
    git: GitFacts = facts["git"]
    seen: LonghornFacts = facts["longhorn-if-any"]
    store: StoreFacts = facts["verified"]
    restored = {str(c.after.get("claim")) for c in made if c.kind == "restored-volume" and not c.before}
    busy = [one for one in wanted if one.id in restored]
    if made:
        yield from check_confirmed(lab, goal.confirm, protected=protected)
        yield from check_git(git)
        yield from check_store(store)
    if not store.problem:
        yield from check_backups(wanted, only=restored)
    yield from check_names(busy)
    if goal.scope == "lab":
        yield from check_unnamed(wanted, store)
    else:
        yield from check_living(wanted, seen, facts["holders"], made)
        yield from check_room(lab, busy, seen)


def _check_needed(facts: Mapping[str, Any], goal: Goal) -> Iterator[Finding]:
    store: StoreFacts = facts["verified"]
    if not store.problem:
        yield from check_backups(needed_volumes(facts, goal), only=to_restore(facts, goal))


def check_confirmed(lab: Lab, confirm: str, *, protected: bool) -> Iterator[Finding]:
    """Yield that the lab is not named: a recovery of the wrong lab takes its apps down."""
    if (protected or confirm) and confirm != lab.name:
        yield error("recovery.confirm", "confirm", f"the name of the lab, {lab.name}", confirm or "nothing",
                    f"confirm={lab.name}")  # fmt: skip


def check_git(git: GitFacts) -> Iterator[Finding]:
    """Yield that Git has nothing to recover from, or that the age key is not the right one."""
    if git.cluster is None:
        expected = f"a cluster below {git.path} on {git.branch}"
        yield error("recovery.git", git.url, expected, git.head or "no such branch",
                    "look at git.url, git.branch and git.path of the lab file")  # fmt: skip
    yield from check_age_key(git)


def check_store(store: StoreFacts) -> Iterator[Finding]:
    """Yield that the store cannot be read, or is empty."""
    if store.problem:
        yield error("recovery.store", f"backup store {store.where}", "volumes with backups", store.problem,
                    "look at the NAS and at nas.store of the lab file; an export may be empty for a while")  # fmt: skip


def check_backups(wanted: Iterable[WantedVolume], *, only: Iterable[str] | None = None) -> Iterator[Finding]:
    """Yield volumes that have no backup to come back from, those not verified, and what was passed over.

    Args:
        wanted: the volumes that are needed.
        only: of what is verified only these claims count; all when None.
    """
    counted = None if only is None else set(only)
    for one in wanted:
        subject = f"volume of claim {one.id}{f' ({one.claim.place})' if one.claim.place else ''}"
        if one.use:
            continue
        if one.backup is None:
            yield from _without(one, subject)
            continue
        matters = counted is None or one.id in counted
        if matters and not one.backup.verified:
            expected = f"backup {one.backup.name} verified in the store"
            yield error("recovery.unverified", subject, expected, "one not looked at", "verify_store looks at it")
        for passed in one.passed_over if matters else ():
            yield warning("recovery.passed-over", subject, f"backup {passed.name} of {show_moment(passed.taken)} whole",
                          passed.why, f"the one of {show_moment(one.taken)} is taken")  # fmt: skip


def _without(one: WantedVolume, subject: str) -> Iterator[Finding]:
    find = warning if one.may_be_empty else error
    remedy = (
        "it begins empty" if one.may_be_empty else f"a later restore_as_of, or empty=[{one.id}] to let it begin empty"
    )
    yield find("recovery.backup", subject, "a backup that can be restored", one.problem, remedy)


def check_names(wanted: Iterable[WantedVolume]) -> Iterator[Finding]:
    """Yield what is odd about the backups that were chosen: later ones, other volumes of the claim, other sizes."""
    for one in wanted:
        subject = f"volume of claim {one.id}"
        if one.newest is not None and one.taken is not None and one.newest > one.taken:
            got = f"backups up to {show_moment(one.newest)}"
            yield info("recovery.later", subject, f"the state of {show_moment(one.taken)}", got,
                       "what was written since stays in the store")  # fmt: skip
        if one.others:
            yield info("recovery.others", subject, "backups of one volume", f"also of {', '.join(one.others)}",
                       f"volumes=[{one.id}@{one.others[0]}] takes those")  # fmt: skip
        if not one.claim.storage_class and not one.claim.handle:
            yield error("recovery.class", subject, "a storage class", "none", "name it in Git")
        if one.claim.requested > one.size > 0:
            yield info("recovery.grown", subject, f"{one.claim.requested} bytes, as Git has it", f"{one.size}",
                       "it is grown after its restore")  # fmt: skip


def check_unnamed(wanted: Iterable[WantedVolume], store: StoreFacts) -> Iterator[Finding]:
    """Yield claims that the store has backups of and Git does not name: a chart's come up empty."""
    known = {one.id for one in wanted}
    taken = {one.source for one in wanted}
    for volume in store.volumes:
        name = f"{volume.namespace}/{volume.claim}"
        if volume.claim and volume.backups and name not in known and volume.name not in taken:
            got = f"backups of {volume.name} only"
            yield warning("recovery.unnamed", f"claim {name}", "a claim that Git names", got,
                          f"volumes=[{name}] restores it before a chart makes it empty")  # fmt: skip


def check_living(
    wanted: Iterable[WantedVolume], longhorn: LonghornFacts, holders: HolderFacts, changes: Sequence[Change]
) -> Iterator[Finding]:
    """Yield why volumes of a living cluster cannot be restored now."""
    restores = any(one.kind == "restored-volume" for one in changes)
    if not longhorn.ready:
        got = longhorn.installed or "no Longhorn"
        yield error("recovery.longhorn", "Longhorn", "its manager and driver to run", got,
                    "when all is gone: scope=lab; else look at its pods")  # fmt: skip
    target = longhorn.target()
    if restores and longhorn.ready and (target is None or not target.available):
        got = "no such target" if target is None else target.problem or "not available"
        yield error(
            "recovery.target", "backup target default", "it available", got, "look at the NAS and its NFS export"
        )
    if restores and longhorn.settings.get(_LIMIT) == "0":
        yield error("recovery.limit", f"setting {_LIMIT}", "1 or more", "0: no restore ever begins", "set it to 5")
    switched = {one.target for one in changes if one.kind == "claim-volume"}
    yield from _check_half(longhorn, holders, switched)
    for one in wanted:
        if one.claim.handle and one.backup is not None and not _comes_from(one, longhorn):
            yield error("recovery.fixed", f"volume of claim {one.id}", "a PersistentVolume that labkit may make",
                        f"one in Git for volume {one.claim.handle}",
                        "give it another volumeHandle in Git, and restore by hand under that name")  # fmt: skip
        for holder in holders.of(one.claim.namespace, one.claim.name) if one.id in switched else ():
            if holder.kind not in _SCALED:
                yield error("recovery.holder", holder.id, "a workload that can be scaled down", f"a {holder.kind}",
                            f"end it first: it uses {one.id}")  # fmt: skip
            elif holder.release and not holder.kustomization:
                yield warning("recovery.release", holder.id, "a workload that only labkit scales meanwhile",
                              f"one of the Helm release {holder.release}",
                              "with drift detection, suspend that HelmRelease first")  # fmt: skip


def half_switched(holder: Holder, longhorn: LonghornFacts) -> tuple[str, ...]:
    """Return the claims of a workload that a run was cut off at while it switched them, `namespace/name`."""
    kept = {one.labels[KEPT] for one in longhorn.volumes if KEPT in one.labels}
    found = []
    for name in holder.claims if holder.held else ():
        claim = longhorn.find_claim(holder.namespace, name)
        bound = claim is not None and claim.phase == "Bound" and not claim.deleting
        if not bound and claim_label(holder.namespace, name) in kept:
            found.append(f"{holder.namespace}/{name}")
    return tuple(found)


def _check_half(longhorn: LonghornFacts, holders: HolderFacts, switched: Collection[str]) -> Iterator[Finding]:
    """Yield claims that were taken away and not made anew: only a person knows which way they shall go."""
    for holder in holders.holders:
        for name in half_switched(holder, longhorn):
            if name not in switched:
                label = claim_label(*name.split("/"))
                kept = ", ".join(one.name for one in longhorn.volumes if one.labels.get(KEPT) == label)
                got = f"one cut off in its switch; kept: {kept}"
                yield error("recovery.half", f"claim {name}", "one that is bound", got,
                            f"scope=volume, volumes=[{name}] goes on; volumes=[{name}={kept}] goes back")  # fmt: skip


def _comes_from(one: WantedVolume, longhorn: LonghornFacts) -> bool:
    seen = longhorn.volume(one.claim.handle)
    return seen is None or (one.backup is not None and f"backup={one.backup.name}" in seen.from_backup)


def volumes_are_back(lab: Lab, goal: Goal) -> Check:
    """Return the check that every needed claim is bound to a whole volume, and its workloads run."""
    return Check(
        "recovery-back", f"every claim of {lab.name} has its data, and its apps run", _NEEDS,
        lambda facts: check_back(needed_volumes(facts, goal), facts["longhorn-if-any"], facts["holders"]),
    )  # fmt: skip


def check_back(wanted: Iterable[WantedVolume], longhorn: LonghornFacts, holders: HolderFacts) -> Iterator[Finding]:
    """Yield claims that are not bound to a usable volume, and workloads that are down."""
    for one in wanted:
        claim = longhorn.find_claim(one.claim.namespace, one.claim.name)
        pv = longhorn.pv(claim.volume) if claim is not None else None
        volume = longhorn.volume(pv.handle) if pv is not None else None
        if claim is None or claim.phase != "Bound" or volume is None:
            yield error("recovery.bound", f"claim {one.id}", "it bound to a volume",
                        "no such claim" if claim is None else claim.phase or "Pending", AGAIN)  # fmt: skip
        elif volume.is_restoring or volume.restore_failed or volume.robustness == "faulted":
            got = volume.restore_failed or ("it is being restored" if volume.is_restoring else "it is faulted")
            yield error("recovery.volume", f"volume {volume.name} of claim {one.id}", "all of its data", got, AGAIN)
        for holder in holders.of(one.claim.namespace, one.claim.name):
            steady = holder.kind not in ("CronJob", "Job", "Pod")
            if holder.held or (steady and holder.ready < holder.replicas):
                got = "scaled down" if holder.held else f"{holder.ready} of {holder.replicas} ready"
                yield error("recovery.holder", holder.id, "its pods to be ready", got, AGAIN)
