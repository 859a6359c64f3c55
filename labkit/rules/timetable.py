"""When a runbook is due: `--every day --at 06:30` as cron and systemd say it. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from labkit.errors import InputError, Mistake

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SPANS: Mapping[str, tuple[str, str]] = {
    "day": ("* * *", "*-*-*"),
    "workday": ("* * 1-5", "Mon..Fri *-*-*"),
    "week": ("* * 1", "Mon *-*-*"),
    "month": ("1 * *", "*-*-01"),
    **{day: (f"* * {(number + 1) % 7}", f"{day[:3].title()} *-*-*") for number, day in enumerate(_DAYS)},
}
_HOURS, _MINUTES = (2, 3, 4, 6, 8, 12), (5, 10, 15, 20, 30)
FORMS = ("hour", *_SPANS, *(f"{n}h" for n in _HOURS), *(f"{n}m" for n in _MINUTES))
"""What `--every` may be."""


@dataclass(frozen=True)
class Timetable:
    """When something is due.

    Attributes:
        cron: the five fields.
        calendar: the same as systemd's OnCalendar has it, without a zone.
        delay: seconds by which starts may be spread, so that not everything starts in the same second.
        words: the same for people.
    """

    cron: str
    calendar: str
    delay: int
    words: str


def parse_timetable(every: str, at: str = "") -> Timetable:
    """Read `--every` and `--at`; without the latter it is 06:30, or the full hour.

    Raises:
        InputError: with what was expected.
    """
    if every in _SPANS:
        hour, minute = _time(at or "06:30", every)
        days, dates = _SPANS[every]
        return Timetable(f"{minute} {hour} {days}", f"{dates} {hour:02}:{minute:02}:00", 300,
                         f"every {every} at {hour:02}:{minute:02}")  # fmt: skip
    step = 1 if every == "hour" else _step(every, "h", _HOURS)
    if step:
        minute = _minute(at or ":00", every)
        hours = "*" if step == 1 else f"*/{step}"
        calendar = f"*-*-* {'*' if step == 1 else f'00/{step}'}:{minute:02}:00"
        words = "every hour" if step == 1 else f"every {step} hours"
        return Timetable(f"{minute} {hours} * * *", calendar, 60, f"{words} at :{minute:02}")
    step = _step(every, "m", _MINUTES)
    if not step:
        near = difflib.get_close_matches(every, FORMS, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise _wrong("--every", f"one of {', '.join(FORMS)}", every, hint)
    if at:
        raise _wrong("--at", f"nothing beside `--every {every}`", at)
    return Timetable(f"*/{step} * * * *", f"*-*-* *:00/{step}:00", 0, f"every {step} minutes")


def _step(every: str, unit: str, steps: tuple[int, ...]) -> int:
    number = every.removesuffix(unit)
    return int(number) if every.endswith(unit) and number.isdecimal() and int(number) in steps else 0


def _time(at: str, every: str) -> tuple[int, int]:
    found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", at)
    if found is None:
        raise _wrong("--at", f"a time of day such as 06:30 beside `--every {every}`", at)
    return int(found[1]), int(found[2])


def _minute(at: str, every: str) -> int:
    found = re.fullmatch(r":([0-5][0-9])", at)
    if found is None:
        raise _wrong("--at", f"a minute of the hour such as :30 beside `--every {every}`", at)
    return int(found[1])


def _wrong(where: str, expected: str, got: str, hint: str = "") -> InputError:
    return InputError([Mistake("schedule", 0, 0, where, expected, repr(got), hint)])
