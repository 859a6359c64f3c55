"""Trends of values over time: a robust line through them, and when it reaches a limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from statistics import median, quantiles

from labkit.facts.history import Point

WINDOW = timedelta(days=60)
_BINS = 48
_LEAST_POINTS = 4
_LEAST_SPAN = timedelta(days=2)
_AGREE = 0.7
"""The share of pairs of points that must go the same way: below it the values go up and down, and have no trend."""
_FARTHEST = 3650.0
_DAY = 86400.0


@dataclass(frozen=True)
class Trend:
    """How a value grows: per day, and days until it reaches a limit (None when it does not, or not in ten years)."""

    per_day: float
    days_left: float | None = None


@dataclass(frozen=True)
class Span:
    """The middle four fifths of values, and their median."""

    low: float
    median: float
    high: float


def find_trend(points: Sequence[Point], now: datetime, *, limit: float | None = None) -> Trend | None:
    """Return the trend of a value by Theil and Sen's line, which a few odd values do not bend.

    Args:
        points: the values, the oldest first.
        now: points older than 60 days before it are left out.
        limit: what the value may reach, for `days_left`; counted from the last value.

    Returns:
        None when there are fewer than four points, or they span less than two days.
    """
    recent = [point for point in points if now - WINDOW <= point.at <= now]
    if len(recent) < _LEAST_POINTS or recent[-1].at - recent[0].at < _LEAST_SPAN:
        return None
    thin = _thinned(recent)
    pairs = [
        (later.value - earlier.value) / ((later.at - earlier.at).total_seconds() / _DAY)
        for earlier, later in combinations(thin, 2)
    ]
    slope = median(pairs)
    agree = sum((pair > 0) == (slope > 0) and pair != 0 for pair in pairs) / len(pairs)
    if slope == 0 or agree < _AGREE:
        return Trend(0.0)
    if limit is None or slope < 0:
        return Trend(slope)
    days = max(0.0, (limit - recent[-1].value) / slope)
    return Trend(slope, days if days <= _FARTHEST else None)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most 48 points: the median one of each stretch of time."""
    if len(points) <= _BINS:
        return list(points)
    first, span = points[0].at, (points[-1].at - points[0].at) / _BINS
    bins: dict[int, list[Point]] = {}
    for point in points:
        bins.setdefault(min(_BINS - 1, int((point.at - first) / span)), []).append(point)
    return [sorted(some, key=lambda point: point.value)[len(some) // 2] for some in bins.values()]


def find_span(points: Sequence[Point], now: datetime) -> Span | None:
    """Return how a value usually is, from the last 60 days; None for fewer than five values."""
    values = sorted(point.value for point in points if now - WINDOW <= point.at <= now)
    if len(values) < 5:
        return None
    tenths = quantiles(values, n=10, method="inclusive")
    return Span(tenths[0], median(values), tenths[-1])


def since(points: Sequence[Point], now: datetime, back: timedelta) -> float | None:
    """Return the value of about that long ago: the last one that is at least so old, if not more than twice as old."""
    old = [point for point in points if back <= now - point.at <= 2 * back]
    return old[-1].value if old else None
