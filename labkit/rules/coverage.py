"""Which claim is backed up when, and whether that came true. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from labkit.cron import Cron, CronError, parse_cron
from labkit.facts.backups import StoreFacts
from labkit.facts.coverage import Cover, Coverage
from labkit.facts.evidence import PREFIX
from labkit.facts.longhorn import DRIVER, Backup, Claim, LonghornFacts, RecurringJob, Volume

GRACE = timedelta(hours=1)
"""What was due within this time before now may still be running."""
_FAR = timedelta(days=400)


def coverage(longhorn: LonghornFacts, store: StoreFacts | None = None) -> tuple[Coverage, ...]:
    """Return how each claim is backed up, by namespace and name; claims that lie elsewhere too."""
    rows = [_row(longhorn, store, claim) for claim in longhorn.claims if not claim.namespace.startswith(PREFIX)]
    return tuple(sorted(rows, key=lambda row: (row.cover is Cover.ELSEWHERE, row.namespace, row.claim)))


def jobs_of(longhorn: LonghornFacts, volume: Volume) -> tuple[RecurringJob, ...]:
    """Return the recurring jobs that back a volume up: those it names, and those of its groups."""
    groups = set(volume.groups)
    return tuple(
        job for job in longhorn.jobs if job.is_backup and (job.name in volume.jobs or groups & set(job.groups))
    )


def complete_backups(longhorn: LonghornFacts, volume: str) -> tuple[Backup, ...]:
    """Return the complete backups of a volume, the oldest first."""
    found = [one for one in longhorn.backups if one.volume == volume and one.state == "Completed"]
    return tuple(sorted(found, key=lambda one: (taken_at(one) or longhorn.read_at, one.name)))


def taken_at(backup: Backup) -> datetime | None:
    """Return the moment whose content a backup holds."""
    return backup.snapshot_created or backup.created


def _row(longhorn: LonghornFacts, store: StoreFacts | None, claim: Claim) -> Coverage:
    pv = longhorn.pv(claim.volume)
    volume = longhorn.volume(pv.handle) if pv is not None and pv.driver == DRIVER else None
    if volume is None:
        lies_on = pv.driver if pv is not None else ""
        return Coverage(namespace=claim.namespace, claim=claim.name, lies_on=lies_on, size=claim.requested,
                        cover=Cover.ELSEWHERE)  # fmt: skip
    backups = complete_backups(longhorn, volume.name)
    last = backups[-1] if backups else None
    at = taken_at(last) if last is not None else None
    jobs = jobs_of(longhorn, volume)
    due, allowed = _due(jobs, longhorn.read_at)
    missed = _missed(jobs, at or volume.created_at, longhorn.read_at)
    stored = store.volume(volume.name) if store is not None else None
    return Coverage(
        namespace=claim.namespace,
        claim=claim.name,
        volume=volume.name,
        size=volume.size,
        used=volume.actual_size,
        state=volume.state,
        jobs=tuple(f"{job.name} ({job.cron})" for job in jobs),
        target=volume.backup_target,
        cover=_cover(longhorn, volume, at, jobs=jobs, due=due),
        backups=len(backups),
        last=last.name if last is not None else "",
        last_at=at,
        age=(longhorn.read_at - at).total_seconds() if at is not None else None,
        allowed=allowed,
        missed=missed,
        stored=last is not None and stored is not None and any(one.name == last.name for one in stored.backups),
        proof=longhorn.proof(claim.namespace, claim.name),
    )


def _cover(
    longhorn: LonghornFacts,
    volume: Volume,
    last: datetime | None,
    *,
    jobs: tuple[RecurringJob, ...],
    due: datetime | None,
) -> Cover:
    target = longhorn.target(volume.backup_target)
    if target is None or not target.available:
        return Cover.NO_TARGET
    if not jobs:
        return Cover.NO_JOB
    if last is None:
        young = due is None or (volume.created_at is not None and volume.created_at > due)
        return Cover.NEW if young else Cover.NEVER
    return Cover.LATE if due is not None and last < due else Cover.ON_TIME


def _crons(jobs: tuple[RecurringJob, ...]) -> Iterator[Cron]:
    for job in jobs:
        try:
            yield parse_cron(job.cron)
        except CronError:
            continue


def _due(jobs: tuple[RecurringJob, ...], now: datetime) -> tuple[datetime | None, float | None]:
    """Return when a backup was due last, and how old the newest may be now; the most frequent job counts."""
    fired = [moment for cron in _crons(jobs) if (moment := _last_fire(cron, now - GRACE)) is not None]
    newest = max(fired, default=None)
    return newest, (now - newest).total_seconds() if newest is not None else None


def _last_fire(cron: Cron, until: datetime) -> datetime | None:
    """Return the last time at which a cron text was due, looking back further and further."""
    span = timedelta(days=1)
    while span <= _FAR:
        found = list(cron.fires(until - span, until))
        if found:
            return found[-1]
        span *= 7
    return None


def _missed(jobs: tuple[RecurringJob, ...], since: datetime | None, now: datetime) -> int:
    """Return how many times the most frequent job was due and nothing came; at most 400 days are looked at."""
    if since is None:
        return 0
    start = max(since, now - _FAR)
    return max((sum(1 for _ in cron.fires(start, now - GRACE)) for cron in _crons(jobs)), default=0)
