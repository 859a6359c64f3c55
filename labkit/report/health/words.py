"""Sizes, times and states in the words of the report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from labkit.health import Light
from labkit.plan import Severity

MARKS: Mapping[Light, tuple[str, str]] = {
    Light.GOOD: ("●", "good"),
    Light.LOOK: ("▲", "worth a look"),
    Light.ACT: ("■", "act"),
    Light.UNKNOWN: ("○", "not known"),
}
"""A shape and a word for each light, so that nobody has to tell colours apart."""
SEVERITY_MARKS: Mapping[Severity, tuple[str, str]] = {
    Severity.ERROR: ("■", "error"),
    Severity.WARNING: ("▲", "warning"),
    Severity.INFO: ("○", "good to know"),
}
AREAS: Mapping[str, str] = {"proxmox": "Proxmox", "kubernetes": "Kubernetes", "flux": "Flux", "longhorn": "Longhorn",
                            "nas": "NAS", "git": "Git"}  # fmt: skip
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def area_name(area: str) -> str:
    """Return an area as people write it."""
    return AREAS.get(area, area.capitalize() if area != "labkit" else "labkit")


def size(value: float) -> str:
    """Return bytes as people read them: `312 GiB`, `1.5 TiB`."""
    number, unit = float(value), 0
    while abs(number) >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    shown = f"{number:.1f}" if 0 < abs(number) < 10 and unit else f"{number:.0f}"
    return f"{shown.removesuffix('.0')} {_UNITS[unit]}"


def days(value: float) -> str:
    """Return a number of days: `3 hours`, `1 day`, `12 days`, `5 months`, `2 years`."""
    spans = ((1 / 24, "hour"), (1.0, "day"), (365 / 12, "month"), (365.0, "year"))
    least = (0.0, 2.0, 90.0, 730.0)  # from how many days on each unit is used
    length, unit = next(
        (spans[n] for n in range(len(spans) - 1, -1, -1) if abs(value) >= least[n]), spans[0]
    )  # fmt: skip
    count = round(value / length)
    return f"{count} {unit}{'' if abs(count) == 1 else 's'}"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was."""
    passed = (now - moment).total_seconds() / 86400
    return "just now" if passed < 1 / 24 else f"{days(passed)} ago"


def day_of(moment: datetime) -> str:
    """Return the day of a moment."""
    return f"{moment:%Y-%m-%d}"


def moment_of(moment: datetime) -> str:
    """Return a moment to the minute, UTC."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def shorten(text: str, most: int) -> str:
    """Return a text of at most so many characters, its middle left out where it is longer."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
