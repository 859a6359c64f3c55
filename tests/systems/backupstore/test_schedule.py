from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from labkit.systems.backupstore.layout import Schedule
from labkit.systems.backupstore.schedule import find_gaps

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, 2, 0, 5, tzinfo=UTC)  # a Sunday
NIGHTLY = Schedule("nightly", "0 2 * * *")


def _days(*numbers: float, job: str = "nightly") -> list[tuple[datetime, str]]:
    return [(START + number * DAY, job) for number in numbers]


@pytest.mark.parametrize(
    ("taken", "now", "missed"),
    [
        (_days(0, 1, 2, 3), 3.5, []),
        (_days(0, 1, 3), 3.5, [1]),
        (_days(0, 1), 4.5, [3]),
        (_days(0, 3, 6), 6.5, [2, 2]),
        (_days(0, 1), 2.01, []),  # due a quarter of an hour ago: may still run
        (_days(0, 1) + _days(1.5, job=""), 2.0 - 0.1, []),
        (_days(0) + _days(1.4, job="") + _days(2), 2.5, []),  # one by hand covers the night before
        (_days(-300, job="") + _days(0, 1), 1.5, []),  # an old one by hand is no gap of the job's
        (_days(0, 5, job=""), 9, []),  # the job never ran: no span to look at
        ([], 5, []),
    ],
)
def test_gaps_against_a_job(taken: list[tuple[datetime, str]], now: float, missed: list[int]) -> None:
    found = find_gaps(taken, [NIGHTLY], START + now * DAY)
    assert [gap.missed for gap in found] == missed


def test_a_gap_names_its_span_and_job() -> None:
    (gap,) = find_gaps(_days(0, 2), [NIGHTLY], START + 2 * DAY)
    assert gap.as_json() == {
        "start": "2026-11-01T02:00:05+00:00",
        "end": "2026-11-03T02:00:05+00:00",
        "missed": 1,
        "source": "nightly (0 2 * * *)",
    }


@pytest.mark.parametrize(
    ("taken", "now", "missed"),
    [
        (_days(0, 1, 2, 5, 6), 6.2, [2]),
        (_days(0, 1, 2, 3), 10, [6]),
        (_days(0, 1, 2), 10, []),  # too few to know what is usual
        (_days(0, 0.001, 0.002, 0.003), 10, []),  # a handful by hand
    ],
)
def test_gaps_against_the_usual_distance(taken: list[tuple[datetime, str]], now: float, missed: list[int]) -> None:
    assert [gap.missed for gap in find_gaps(taken, [], START + now * DAY)] == missed


def test_a_cron_that_cannot_be_read_leaves_the_usual_distance() -> None:
    assert find_gaps(_days(0, 1, 2, 5), [Schedule("odd", "every night")], START + 5 * DAY)[0].missed == 2
