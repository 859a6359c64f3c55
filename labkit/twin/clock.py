"""The twin's time: the wall's hands, and sleeps that are scaled."""

from __future__ import annotations

import asyncio
import time


class TwinClock:
    """One twin second takes `scale` real seconds; dates are those of the wall, as certificates need them."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return twin seconds since some fixed moment."""
        return time.monotonic() / self.scale

    async def sleep(self, seconds: float) -> None:
        """Sleep that many twin seconds."""
        await asyncio.sleep(seconds * self.scale)

    async def sleep_until(self, moment: float) -> None:
        """Sleep until a moment of `monotonic`; not at all when it is past."""
        await asyncio.sleep(max(moment - self.monotonic(), 0) * self.scale)

    async def sleep_to(self, date: float) -> None:
        """Sleep until a date, in seconds since the epoch: dates are real ones, whatever the scale."""
        await asyncio.sleep(max(date - self.now(), 0))
