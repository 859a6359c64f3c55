"""How checks write spans of time, sizes and lists. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MOST = 4


def span(length: timedelta) -> str:
    """Write a span in its largest unit, from two of which on: `3 days`, `47 hours`, `90 minutes`, `12 seconds`."""
    seconds = max(0, int(length.total_seconds()))
    for name, size in _UNITS:
        if seconds >= 2 * size or (name == "day" and seconds == size):
            return count(seconds // size, name)
    return count(seconds, "second")


def ago(moment: datetime, now: datetime) -> str:
    """Write how long ago something was: `3 days ago`."""
    return f"{span(now - moment)} ago"


def count(number: int, word: str, plural: str = "") -> str:
    """Write a number of things: `1 day`, `3 days`."""
    return f"{number} {word}" if number == 1 else f"{number} {plural or word + 's'}"


def size(number: float) -> str:
    """Write a number of bytes: `512 MiB`, `1.5 TiB`."""
    unit = 0
    while number >= 1024 and unit < len(_SIZES) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} {_SIZES[unit]}" if number >= 10 or unit == 0 else f"{number:.1f} {_SIZES[unit]}"


def listed(names: Iterable[str], *, most: int = _MOST) -> str:
    """Write names with commas, the first few of many: `a, b, c and 5 more`."""
    every = list(names)
    if len(every) <= most + 1:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most} more"


def until(end: datetime, now: datetime) -> str:
    """Write how long something lasts: `until 2026-11-30 (6 days)`, or `expired 2 days ago`."""
    if end <= now:
        return f"expired {ago(end, now)}"
    return f"until {end:%Y-%m-%d} ({span(end - now)})"
