"""When backups were due and did not come: gaps against the cron texts of recurring jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median

from labkit.systems.backupstore.layout import Schedule

_NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_WORDS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: at for at, name in enumerate(_MONTH_WORDS, 1)}
_DAYS = {name: at for at, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_WORDS: tuple[dict[str, int], ...] = ({}, {}, {}, _MONTHS, _DAYS)
_USUAL_COUNT = 4
_USUAL_FACTOR = 1.9
_USUAL_LEAST = timedelta(minutes=30)
_MOST_FIRES = 20_000


class CronError(ValueError):
    """Say why a cron text can't be followed."""


@dataclass(frozen=True)
class Cron:
    """A cron text of five fields, in UTC, as Longhorn's jobs run."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def is_day(self, day: datetime) -> bool:
        """Tell whether it fires on that day: with both day fields set, either suffices."""
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        fits = in_month and in_week if self.any_day or self.any_weekday else in_month or in_week
        return day.month in self.months and fits

    def fires(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Give the times after `after`, up to and with `until`."""
        day = after.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        while day <= until:
            if self.is_day(day):
                times = (day.replace(hour=h, minute=m) for h in sorted(self.hours) for m in sorted(self.minutes))
                yield from (time for time in times if after < time <= until)
            day += timedelta(days=1)


def parse_cron(text: str) -> Cron:
    """Read a cron text of five fields, or a name such as `@daily`; raises `CronError`."""
    words = text.removeprefix("CRON_TZ=UTC ").strip().lower()
    fields = _NAMES.get(words, words).split()
    if len(fields) != len(_RANGES):
        raise CronError(f"expected five fields, got {text!r}")
    sets = [_field(field, low, high, names) for field, (low, high), names in zip(fields, _RANGES, _WORDS, strict=True)]
    weekdays = frozenset(day % 7 for day in sets[4])
    anything = [field[0] in "*?" for field in fields]
    return Cron(sets[0], sets[1], sets[2], sets[3], weekdays, any_day=anything[2], any_weekday=anything[4])


def _field(field: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    return frozenset(value for part in field.split(",") for value in _part(part, low, high, names))


def _part(part: str, low: int, high: int, names: dict[str, int]) -> range:
    span, _, step = part.partition("/")
    first, dash, last = span.partition("-")
    try:
        anything = first in {"*", "?"}
        start = low if anything else _number(first, names)
        open_end = high if anything or step else start
        end = _number(last, names) if dash else open_end
        stride = int(step) if step else 1
    except ValueError as exc:
        raise CronError(f"expected numbers, ranges or steps, got {part!r}") from exc
    if not (low <= start <= end <= high and stride > 0):
        raise CronError(f"expected values from {low} to {high}, got {part!r}")
    return range(start, end + 1, stride)


def _number(word: str, names: dict[str, int]) -> int:
    return names[word] if word in names else int(word)


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
