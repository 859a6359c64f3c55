from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.facts.history import ALL_OF, DAILY_FOR, Point, kept
from labkit.facts.trends import find_span, find_trend, since

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


def points(values: Sequence[float], *, every: float = 1.0) -> list[Point]:
    """Values that end now, so many days apart."""
    last = len(values) - 1
    return [Point(at=NOW - timedelta(days=every * (last - n)), value=v) for n, v in enumerate(values)]


TRENDS = [
    ("grows by ten a day", [100, 110, 120, 130, 140], 200, 10, 6),
    ("one cleaning does not hide it", [100, 110, 120, 130, 40, 150, 160, 170, 180, 190], 290, 10, 10),
    ("one burst does not make one", [100, 100, 100, 900, 100, 100, 100], 1000, 0, None),
    ("up and down", [100, 140, 100, 140, 100, 140, 100, 140], 200, 0, None),
    ("the same all the time", [50, 50, 50, 50], 100, 0, None),
    ("it shrinks", [90, 80, 70, 60], 100, -10, None),
    ("full already", [97, 98, 99, 100], 100, 1, 0),
    ("in ten years or never", [1000, 1000.01, 1000.02, 1000.03], 5000, 0.01, None),
]


@pytest.mark.parametrize(
    ("values", "limit", "per_day", "days"), [row[1:] for row in TRENDS], ids=[r[0] for r in TRENDS]
)
def test_a_line_that_a_few_odd_values_do_not_bend(
    values: list[float], limit: float, per_day: float, days: float | None
) -> None:
    found = find_trend(points(values), NOW, limit=limit)
    assert found is not None
    assert found.per_day == pytest.approx(per_day, rel=0.01)
    assert found.days_left == (None if days is None else pytest.approx(days, rel=0.1))


@pytest.mark.parametrize(
    ("values", "every"), [([1, 2, 3], 1.0), ([], 1.0), ([1, 2, 3, 4, 5], 0.25), ([1, 2, 3, 4], 90.0)]
)
def test_too_little_is_known(values: list[float], every: float) -> None:
    assert find_trend(points(values, every=every), NOW, limit=10) is None


def test_hourly_values_are_thinned_and_say_the_same() -> None:
    found = find_trend(points([100 + hour for hour in range(24 * 40)], every=1 / 24), NOW, limit=100 + 24 * 50)
    assert found is not None
    assert found.per_day == pytest.approx(24, rel=0.01)
    assert found.days_left == pytest.approx(10, rel=0.05)


def test_how_a_value_usually_is() -> None:
    found = find_span(points([10, 12, 11, 300, 13, 12, 11, 12, 10, 12, 11]), NOW)
    assert found is not None
    assert (found.low, found.median, found.high) == (10, 12, 13)
    assert find_span(points([1, 2, 3, 4]), NOW) is None


def test_the_value_of_a_day_ago() -> None:
    day = timedelta(days=1)
    assert since(points([1, 2, 3, 4], every=0.5), NOW, day) == 2
    assert since(points([1, 2], every=0.5), NOW, day) is None
    assert since(points([1, 2], every=3), NOW, day) is None


moments = st.lists(
    st.integers(-86400, 5 * 365 * 86400).map(lambda seconds: NOW - timedelta(seconds=seconds)), max_size=80
)


@given(moments)
def test_old_reports_go_by_rule(made: list[datetime]) -> None:
    keep = kept(made, NOW)
    assert keep <= set(made)
    assert set(sorted(set(made))[-2:]) <= keep
    assert {moment for moment in made if NOW - moment <= ALL_OF} <= keep
    middle = {moment for moment in keep if ALL_OF < NOW - moment <= DAILY_FOR} - set(sorted(set(made))[-2:])
    assert len({moment.date() for moment in middle}) == len(middle)
    assert {(moment.year, moment.month) for moment in made} == {(moment.year, moment.month) for moment in keep}
    assert kept(keep, NOW) == keep
