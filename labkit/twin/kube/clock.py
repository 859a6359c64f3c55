"""Time as the API writes it, and the clock that is the wall's."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class WallClock:
    """A clock that follows the wall; `scale` is real seconds per twin second."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep that many twin seconds."""
        await asyncio.sleep(seconds * self.scale)


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
    minutes, hours, days = left // 60, left // 3600, left // 86400
    if left < 120:
        return f"{left}s"
    if minutes < 10:
        return _pair(minutes, "m", left % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _pair(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _pair(high: int, high_unit: str, low: int, low_unit: str) -> str:
    return f"{high}{high_unit}{low}{low_unit}" if low else f"{high}{high_unit}"
