"""Durations as Go writes them: `1h0m0s`, `30s`, `1.5s`."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def parse_duration(text: str | None, default: float = 0.0) -> float:
    """Return the seconds of a duration; `default` when there is none."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)) if text else default


def show_duration(seconds: float) -> str:
    """Write seconds as Go does."""
    whole, part = divmod(round(seconds, 3), 1)
    hours, rest = divmod(int(whole), 3600)
    minutes, left = divmod(rest, 60)
    shown = f"{left + part:g}s"
    if hours:
        return f"{hours}h{minutes}m{shown}"
    return f"{minutes}m{shown}" if minutes else shown
