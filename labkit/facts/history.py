"""What earlier reports of a lab left behind, and which of them are kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from pydantic import Field

from labkit.facts.proxmox import Fact

ALL_OF = timedelta(days=14)
DAILY_FOR = timedelta(days=400)


class Sample(Fact):
    """One measured value that goes with a report."""

    series: str
    """used, total, response, restarts"""
    subject: str
    value: float


class Point(Fact):
    """A value at a moment."""

    at: datetime
    value: float


class PastReport(Fact):
    """What is shown of an earlier report."""

    at: datetime
    score: int
    light: str
    errors: int = 0
    warnings: int = 0


class HistoryFacts(Fact):
    """The reports of one lab so far, the oldest first, and the values that went with them."""

    reports: tuple[PastReport, ...] = ()
    series: Mapping[str, Mapping[str, tuple[Point, ...]]] = Field(default_factory=dict)
    """By series and subject, the oldest first."""

    def points(self, series: str, subject: str) -> tuple[Point, ...]:
        """Return the values of a subject, the oldest first."""
        return self.series.get(series, {}).get(subject, ())


def kept(moments: Iterable[datetime], now: datetime) -> set[datetime]:
    """Return which reports are kept: all of two weeks, the last of each day for 400 days, then the last of each month.

    The two newest are kept however old they are: the next report compares itself with the last one.
    """
    known = sorted(set(moments))
    last_of: dict[tuple[int, ...], datetime] = {}
    keep = set(known[-2:])
    for moment in known:
        age = now - moment
        if age <= ALL_OF:
            keep.add(moment)
        elif age <= DAILY_FOR:
            last_of[moment.year, moment.month, moment.day] = moment
        else:
            last_of[moment.year, moment.month] = moment
    return keep | set(last_of.values())
