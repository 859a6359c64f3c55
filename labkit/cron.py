"""When cron texts are due: five fields, names, lists, ranges, steps and the usual @words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

_WORDS: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, _MONTHS), (0, 7, _DAYS),
)  # fmt: skip
_FARTHEST = timedelta(days=366 * 8)  # a 29th of February may be that far away


class CronError(ValueError):
    """Say why a cron text can't be followed."""


@dataclass(frozen=True)
class Cron:
    """The minutes, hours, days, months and weekdays (0 is Sunday) at which something is due, in a time zone."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    zone: tzinfo = UTC

    def is_day(self, day: datetime) -> bool:
        """Tell whether it is due on that day: with both day fields set, either suffices."""
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        fits = in_month and in_week if self.any_day or self.any_weekday else in_month or in_week
        return day.month in self.months and fits

    def fires(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Give the times after `after`, up to and with `until`."""
        first, last = after.astimezone(self.zone), until.astimezone(self.zone)
        day = first.replace(hour=0, minute=0, second=0, microsecond=0)
        while day <= last:
            if self.is_day(day):
                times = (day.replace(hour=h, minute=m) for h in sorted(self.hours) for m in sorted(self.minutes))
                yield from (time for time in times if first < time <= last)
            day += timedelta(days=1)

    def after(self, seconds: float) -> float | None:
        """Return the first time after one, both in seconds since the epoch; None when there is none."""
        moment = datetime.fromtimestamp(seconds, UTC)
        due = next(self.fires(moment, moment + _FARTHEST), None)
        return None if due is None else due.timestamp()


def parse_cron(text: str, zone: str = "") -> Cron:
    """Read a cron text of five fields, or a name such as `@daily`; UTC when no zone is named.

    Raises:
        CronError: with the field that can't be read, or the zone that there isn't.
    """
    words = text.removeprefix("CRON_TZ=UTC ").strip().lower()
    fields = _WORDS.get(words, words).split()
    if len(fields) != len(_FIELDS):
        raise CronError(f"schedule {text!r}: expected five fields, got {len(fields)}")
    sets = [_field(field, *limits) for field, limits in zip(fields, _FIELDS, strict=True)]
    weekdays = frozenset(day % 7 for day in sets[4])
    anything = [field[0] in "*?" for field in fields]
    return Cron(sets[0], sets[1], sets[2], sets[3], weekdays, anything[2], anything[4], _zone(zone))


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise CronError(f"time zone: expected a name such as Europe/Berlin, got {name!r}") from exc


def _field(field: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    return frozenset(value for part in field.split(",") for value in _part(part, low, high, names))


def _part(part: str, low: int, high: int, names: tuple[str, ...]) -> range:
    span, _, step = part.partition("/")
    first, dash, last = span.partition("-")
    try:
        anything = first in {"*", "?"}
        start = low if anything else _number(first, low, names)
        open_end = high if anything or step else start
        end = _number(last, low, names) if dash else open_end
        stride = int(step) if step else 1
    except ValueError as exc:
        raise CronError(f"schedule field {part!r}: expected numbers, ranges or steps") from exc
    if not (low <= start <= end <= high and stride > 0):
        raise CronError(f"schedule field {part!r}: expected values from {low} to {high}")
    return range(start, end + 1, stride)


def _number(word: str, low: int, names: tuple[str, ...]) -> int:
    return names.index(word) + low if word in names else int(word)
