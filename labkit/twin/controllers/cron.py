"""Cron schedules: five fields, names, steps, lists and the usual @words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = ((0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, MONTHS), (0, 7, DAYS))
FARTHEST = timedelta(days=366 * 5)


@dataclass(frozen=True)
class Schedule:
    """The minutes, hours, days, months and weekdays at which something is due."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    zone: tzinfo = UTC

    def after(self, seconds: float) -> float | None:
        """Return the first due moment after a time (both in seconds since the epoch), None if there is none."""
        moment = datetime.fromtimestamp(seconds, self.zone).replace(second=0, microsecond=0)
        last = moment + FARTHEST
        moment += timedelta(minutes=1)
        while moment < last:
            if not self._is_day(moment):
                moment = (moment + timedelta(days=1)).replace(hour=0, minute=0)
            elif moment.hour not in self.hours:
                moment = (moment + timedelta(hours=1)).replace(minute=0)
            elif moment.minute not in self.minutes:
                moment += timedelta(minutes=1)
            else:
                return moment.timestamp()
        return None

    def _is_day(self, moment: datetime) -> bool:
        """Match the day; when both day fields are restricted, either will do, as cron has it."""
        day, weekday = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        either = day and weekday if self.any_day or self.any_weekday else day or weekday
        return moment.month in self.months and either


def parse_schedule(text: str, zone: str = "") -> Schedule:
    """Read a cron schedule; raise ValueError that names the field."""
    parts = WORDS.get(text.strip(), text).split()
    if len(parts) != len(FIELDS):
        raise ValueError(f"schedule {text!r}: expected 5 fields, got {len(parts)}")
    sets = [frozenset(_field(p, *f)) for p, f in zip(parts, FIELDS, strict=True)]
    weekdays = frozenset(d % 7 for d in sets[4])
    where = ZoneInfo(zone) if zone else UTC
    starred = [p.startswith(("*", "?")) for p in parts]
    return Schedule(sets[0], sets[1], sets[2], sets[3], weekdays, starred[2], starred[4], where)


def _field(text: str, low: int, high: int, names: tuple[str, ...]) -> Iterable[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if first in ("*", "?"):
            start, end = low, high
        else:
            start = _number(first, low, names)
            end = _number(last, low, names) if last else (high if step else start)
        if not low <= start <= end <= high:
            raise ValueError(f"schedule field {text!r}: expected numbers from {low} to {high}")
        found |= set(range(start, end + 1, int(step or 1)))
    return found


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    return names.index(text) + low if text in names else int(text)
