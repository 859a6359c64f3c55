"""What should be true of Longhorn's backups before and after a drill, and of every claim's cover. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from labkit.checks.base import Check, error, info, warning
from labkit.facts.backups import StoreFacts
from labkit.facts.coverage import Cover, Coverage, span
from labkit.facts.longhorn import DRIVER, LonghornFacts
from labkit.lab import Lab
from labkit.plan import Finding
from labkit.rules.coverage import complete_backups, coverage
from labkit.rules.drill import choose, is_proven, unfit

_DETACHED = "allow-recurring-job-while-volume-detached"
_TARGET_REMEDY = "look at the NAS and its NFS service; Longhorn looks again at its poll interval"
_EMPTY_REMEDY = (
    "look whether the right dataset is mounted and exported; change nothing in Longhorn meanwhile, and do not back up "
    "into the empty folder: the data is where it was"
)


def longhorn_is_ready() -> Check:
    """Return the check that Longhorn runs; a cluster without it, and without claims on it, has nothing to prove."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        longhorn: LonghornFacts = facts["longhorn"]
        if not longhorn.installed and any(pv.driver == DRIVER for pv in longhorn.pvs):
            yield error("longhorn-ready", "Longhorn", "installed", "not there, yet volumes of it are",
                        "run bootstrap-flux: Flux brings it back")  # fmt: skip
        elif not longhorn.installed:
            yield warning("longhorn-ready", "Longhorn", "installed", "not there: there is nothing to prove")
        elif not longhorn.ready:
            yield error("longhorn-ready", f"Longhorn {longhorn.installed}", "its manager and driver running", "not so",
                        "look at its pods: kubectl -n longhorn-system get pods")  # fmt: skip

    return Check("longhorn-ready", "Longhorn runs", ("longhorn",), find)


def target_is_ready(lab: Lab) -> Check:
    """Return the check that Longhorn reaches its backup target, and that this is the lab's."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        longhorn: LonghornFacts = facts["longhorn"]
        return _target_problems(lab, longhorn) if longhorn.installed else iter(())

    return Check("backup-target", "Longhorn reaches the lab's backup target", ("longhorn",), find)


def _target_problems(lab: Lab, longhorn: LonghornFacts) -> Iterator[Finding]:
    target = longhorn.target()
    if target is None or not target.url:
        yield error("backup-target", "backup target default", lab.nas.backup_target, "none",
                    "set defaultBackupStore.backupTarget in Longhorn's Helm values; the setting backup-target is gone "
                    "since 1.8")  # fmt: skip
        return
    if plain(target.url) != plain(lab.nas.backup_target):
        yield warning("backup-target", "backup target default", lab.nas.backup_target, target.url,
                      "correct nas.backup_target in the lab file, or Longhorn's Helm values")  # fmt: skip
    for one in longhorn.targets:
        if not one.available:
            yield error("backup-target", f"backup target {one.name}", "available", one.problem or "not available",
                        _TARGET_REMEDY)  # fmt: skip
        elif one.poll_seconds == 0:
            yield warning("backup-target", f"backup target {one.name}", "polled every few minutes", "never polled",
                          "set its pollInterval to 5m0s")  # fmt: skip


def store_is_readable() -> Check:
    """Return the check that the store is read from here, and holds what the cluster knows of."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        longhorn: LonghornFacts = facts["longhorn"]
        store: StoreFacts = facts["store"]
        known = sorted(name for name in _backed_up(longhorn))
        if store.problem and (known or not store.empty):
            expected = f"backups of {_counted(known)}" if store.empty else "to be read from here"
            remedy = _EMPTY_REMEDY if store.empty else ""
            yield error("backup-store", "backup store", expected, store.problem, remedy)
            return
        for name in sorted({one.volume for one in longhorn.backups if one.state == "Completed"}):
            if store.volume(name) is None and not store.empty:
                yield warning("backup-store", f"volume {name}", f"its backups in {store.where}", "none there",
                              "nas.store and Longhorn's backup target must be the same folder")  # fmt: skip
        for volume in store.volumes:
            for word in volume.damage:
                yield warning(
                    "backup-store", f"volume {volume.name}", "readable configs", word, "labkit backups verify"
                )

    return Check("backup-store", "the backup store is read from here", ("longhorn", "store"), find)


def _backed_up(longhorn: LonghornFacts) -> set[str]:
    """Return the volumes that have, or once had, a backup, as far as the cluster says."""
    known = {one.volume for one in longhorn.backups if one.state == "Completed"}
    return known | {one.name for one in longhorn.volumes if one.last_backup} | {one.volume for one in longhorn.evidence}


def claims_are_covered() -> Check:
    """Return the check that every claim on Longhorn is backed up as its schedule says."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        longhorn: LonghornFacts = facts["longhorn"]
        for row in coverage(longhorn, facts.get("store")):
            yield from _uncovered(row, longhorn)
        yield from _idle_jobs(longhorn)

    return Check("backup-cover", "every claim is backed up on schedule", ("longhorn", "store"), find)


def _uncovered(row: Coverage, longhorn: LonghornFacts) -> Iterator[Finding]:
    wanted = f"a backup by {', '.join(row.jobs)}" if row.jobs else "a recurring job that backs it up"
    if row.cover is Cover.NEVER:
        yield warning("backup-cover", row.id, wanted, "never backed up", _why_not(row, longhorn))
    elif row.cover is Cover.LATE:
        got = f"the newest is {span(row.age)} old, {row.missed} missed"
        yield warning("backup-cover", row.id, wanted, got, _why_not(row, longhorn))
    elif row.cover is Cover.NO_JOB:
        yield warning("backup-cover", row.id, wanted, "none", "add the label of a group with a backup job to the claim")
    elif row.cover is Cover.ELSEWHERE and row.lies_on not in ("nfs", ""):
        yield warning("backup-cover", row.id, "a volume that is backed up", f"one on {row.lies_on}",
                      "move it to Longhorn, or back it up by other means")  # fmt: skip
    elif row.cover is Cover.ELSEWHERE:
        yield info("backup-cover", row.id, "a volume on Longhorn", f"one on {row.lies_on or 'no volume yet'}",
                   "the snapshots and replication of the NAS are its backup" if row.lies_on else "")  # fmt: skip


def _why_not(row: Coverage, longhorn: LonghornFacts) -> str:
    if row.state == "detached" and longhorn.settings.get(_DETACHED) != "true":
        return f"it is detached, and setting {_DETACHED} is off: such volumes are passed over"
    return "look at the jobs' pods: kubectl -n longhorn-system get cronjobs,jobs"


def _idle_jobs(longhorn: LonghornFacts) -> Iterator[Finding]:
    for job in longhorn.jobs:
        members = any(job.name in one.jobs or set(one.groups) & set(job.groups) for one in longhorn.volumes)
        if job.is_backup and longhorn.volumes and not members:
            groups = ", ".join(job.groups) or "no group"
            yield warning("backup-cover", f"recurring job {job.name}", f"volumes in {groups}", "none",
                          "label claims with its group, or remove the job")  # fmt: skip


def restores_are_proven(volumes: Iterable[str] = (), *, within: float = 7.0) -> Check:
    """Return the check that the backups of claims, all or those named, were restored and compared in so many days."""
    wanted = tuple(volumes)

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        longhorn: LonghornFacts = facts["longhorn"]
        rows = [row for row in coverage(longhorn, facts.get("store")) if row.volume]
        for row in choose(rows, wanted)[0]:
            if not is_proven(row, longhorn, timedelta(days=within)):
                make = error if unfit(longhorn, row, fresh=True) is None else warning
                yield make("restore-proven", row.id, f"proven within {within:g} days", _proof(row, longhorn.read_at),
                           "run backup-drill")  # fmt: skip

    return Check("restore-proven", "the backups were brought back and compared", ("longhorn", "store"), find)


def _proof(row: Coverage, now: datetime) -> str:
    if row.proof is None:
        return "never proven"
    if row.proof.proven:
        return f"last {span((now - row.proof.at).total_seconds())} ago"
    return f"not proven: {row.proof.problem}"


def nothing_is_left() -> Check:
    """Return the check that drills have removed what they made, but for one backup of each claim."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        longhorn: LonghornFacts = facts["longhorn"]
        for one in longhorn.leftovers:
            yield warning("drill-leftover", f"{one.kind} {one.name}", "removed", "left by a drill that was interrupted",
                          "run backup-drill: it removes it")  # fmt: skip
        for volume in longhorn.volumes:
            made = [one for one in complete_backups(longhorn, volume.name) if one.drill]
            if len(made) > 1:
                yield warning("drill-leftover", f"volume {volume.name}", "one backup by drills", str(len(made)),
                              "run backup-drill: the older ones go once the newest is proven")  # fmt: skip

    return Check("drill-leftover", "nothing is left of drills but their newest backups", ("longhorn",), find)


def plain(url: str) -> str:
    """Return a backup target's URL without its options and the slash at its end."""
    return url.partition("?")[0].rstrip("/")


def _counted(names: list[str]) -> str:
    return f"{len(names)} volume{'' if len(names) == 1 else 's'}"
