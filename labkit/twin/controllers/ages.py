"""Twin durations: how long something has been as it is.

Dates are the wall's, whole seconds in most fields, and one of those may be a thousand twin seconds. So spans are
never computed from two dates: they run on the monotonic clock from the moment that a value was first seen.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

from labkit.twin.kube.door import Clock

from .objects import unstamp

FRESH = 2.0
LIMIT = 20_000


def twin_seconds(clock: Clock) -> float:
    """Return twin seconds since some fixed moment."""
    return time.monotonic() / clock.scale


class Ages:
    """Remember since when each key has had its value."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[Hashable, tuple[Hashable, float]] = {}

    def of(self, key: Hashable, value: Hashable, *, date: str | None = None) -> float:
        """Return for how many twin seconds `key` has had `value`.

        `date` says since when, for a value that is older than this process.
        """
        now = twin_seconds(self._clock)
        known = self._since.get(key)
        if known is None or known[0] != value:
            if len(self._since) >= LIMIT:
                self._forget_half()
            known = self._since[key] = (value, now - self._before(date))
        return now - known[1]

    def _before(self, date: str | None) -> float:
        age = self._clock.now() - unstamp(date) if date else 0.0
        return age / self._clock.scale if age > FRESH else 0.0

    def _forget_half(self) -> None:
        for key in list(self._since)[: LIMIT // 2]:
            del self._since[key]
