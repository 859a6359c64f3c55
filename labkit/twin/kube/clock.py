"""Time as the API writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(seconds: float) -> str:
    """Write a time as `2026-11-23T11:19:22Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_stamp(text: str) -> float:
    """Read an RFC 3339 time as seconds since the epoch; raise ValueError."""
    return datetime.fromisoformat(text).timestamp()


def age(seconds: float) -> str:
    """Write a span as tables do: `45s`, `3m10s`, `26m`, `5h12m`, `2d3h`, `12d`, `1y20d`."""
    left = int(seconds)
    if left < 0:
        return "<invalid>" if left < -1 else "0s"
    for below, high, low in _STEPS:
        if left < below:
            return _pair(left, high, low)
    return f"{left // _UNITS['y']}y"


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 86400 * 365}
# Below so many seconds: the unit, and the smaller one that is written behind it.
_STEPS = (
    (120, "s", ""),
    (600, "m", "s"),
    (3 * 3600, "m", ""),
    (8 * 3600, "h", "m"),
    (48 * 3600, "h", ""),
    (8 * 86400, "d", "h"),
    (730 * 86400, "d", ""),
    (8 * 365 * 86400, "y", "d"),
)


def _pair(seconds: int, high: str, low: str) -> str:
    whole, rest = divmod(seconds, _UNITS[high])
    less = rest // _UNITS[low] if low else 0
    return f"{whole}{high}{less}{low}" if less else f"{whole}{high}"
