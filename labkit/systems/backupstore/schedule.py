"""When backups were due and did not come: gaps against the cron texts of recurring jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from labkit.cron import Cron, CronError, parse_cron
from labkit.systems.backupstore.layout import Schedule

_USUAL_COUNT = 4
_USUAL_FACTOR = 1.9
_USUAL_LEAST = timedelta(minutes=30)
_MOST_FIRES = 20_000


@dataclass(frozen=True)
class Gap:
    """A time in which backups were due: between the backups at `start` and `end` (None: none came since)."""

    start: datetime
    end: datetime | None
    missed: int
    source: str

    def as_json(self) -> dict[str, str | int | None]:
        """Give the fields for JSON."""
        end = self.end.isoformat() if self.end else None
        return {"start": self.start.isoformat(), "end": end, "missed": self.missed, "source": self.source}


def find_gaps(
    taken: Sequence[tuple[datetime, str]],
    schedules: Iterable[Schedule],
    now: datetime,
    *,
    grace: timedelta = timedelta(hours=1),
) -> tuple[Gap, ...]:
    """Find the gaps in a volume's backups: against its jobs, or else against the usual distance.

    Args:
        taken: when each complete backup was taken, and by which job (empty: none).
        schedules: the jobs that back up the volume.
        now: the time to look from.
        grace: what was due within this time before `now` may still be running.
    """
    times = sorted(time for time, _ in taken)
    gaps: list[Gap] = []
    known = False
    for schedule in schedules:
        own = [time for time, job in taken if job == schedule.job]
        try:
            cron = parse_cron(schedule.cron)
        except CronError:
            continue
        known = True
        if own:  # older ones of this job were removed by its retention
            gaps += _scheduled(times, min(own), cron, now - grace, f"{schedule.job} ({schedule.cron})")
    return tuple(gaps) if known else tuple(_unusual(times, now))


def _scheduled(times: Sequence[datetime], first: datetime, cron: Cron, until: datetime, source: str) -> Iterator[Gap]:
    stops = [time for time in times if time >= first]
    for start, end in _spans(stops):
        due = _count(cron, start, end or until)
        # The backup at the end of the span answers for the last time that was due before it.
        missed = due - 1 if end else due
        if missed > 0:
            yield Gap(start, end, missed, source)


def _spans(times: Sequence[datetime]) -> Iterator[tuple[datetime, datetime | None]]:
    """Pair each time with the next; the last with None."""
    return zip(times, [*times[1:], None], strict=True)


def _count(cron: Cron, after: datetime, until: datetime) -> int:
    count = 0
    for _ in cron.fires(after, until):
        count += 1
        if count >= _MOST_FIRES:
            break
    return count


def _unusual(times: Sequence[datetime], now: datetime) -> Iterator[Gap]:
    if len(times) < _USUAL_COUNT:
        return
    usual = timedelta(seconds=median((later - earlier).total_seconds() for earlier, later in pairwise(times)))
    if usual < _USUAL_LEAST:  # a handful made by hand, not a habit
        return
    for start, end in _spans(times):
        distance = (end or now) - start
        if distance > usual * _USUAL_FACTOR:
            yield Gap(start, end, round(distance / usual) - 1, "the usual distance of its backups")
