from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.systems.backupstore.layout import Schedule
from labkit.systems.backupstore.schedule import CronError, find_gaps, parse_cron

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, 2, 0, 5, tzinfo=UTC)  # a Sunday
NIGHTLY = Schedule("nightly", "0 2 * * *")


def _days(*numbers: float, job: str = "nightly") -> list[tuple[datetime, str]]:
    return [(START + number * DAY, job) for number in numbers]


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0 2 * * *", ["2026-11-01T02:00", "2026-11-02T02:00", "2026-11-03T02:00"]),
        ("@daily", ["2026-11-02T00:00", "2026-11-03T00:00"]),
        ("30 4 * * mon", ["2026-11-02T04:30"]),
        ("0 12 1-3/2 * *", ["2026-11-01T12:00", "2026-11-03T12:00"]),
        ("0 0 3 * 1", ["2026-11-02T00:00", "2026-11-03T00:00"]),  # both day fields: either
        ("0 0 * jan-feb *", []),
        ("0 6/9 2 11 ?", ["2026-11-02T06:00", "2026-11-02T15:00"]),
        ("0 1 * * 7", ["2026-11-01T01:00"]),
    ],
)
def test_cron_fires(text: str, times: list[str]) -> None:
    after = datetime(2026, 11, 1, tzinfo=UTC)
    found = parse_cron(text).fires(after, datetime(2026, 11, 3, 23, 59, tzinfo=UTC))
    assert [time.strftime("%Y-%m-%dT%H:%M") for time in found] == times


@pytest.mark.parametrize(
    "text", ["", "0 2 * *", "60 * * * *", "* * 0 * *", "a * * * *", "5-1 * * * *", "*/0 * * * *", "@x"]
)
def test_wrong_crons_are_named(text: str) -> None:
    with pytest.raises(CronError):
        parse_cron(text)


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


@given(
    minute=st.sampled_from(["0", "*/20", "5,50", "10-12"]),
    hour=st.sampled_from(["*", "2", "*/7", "22-23"]),
    day=st.sampled_from(["*", "1", "*/2", "5-9"]),
    weekday=st.sampled_from(["*", "0", "1-5", "sat"]),
    offset=st.integers(0, 40_000),
)
def test_fires_are_those_of_a_walk_minute_by_minute(
    minute: str, hour: str, day: str, weekday: str, offset: int
) -> None:
    cron = parse_cron(f"{minute} {hour} {day} * {weekday}")
    after = datetime(2026, 10, 30, tzinfo=UTC) + timedelta(minutes=offset)
    minutes = (after + timedelta(minutes=step) for step in range(1, 2000))
    walked = [t for t in minutes if t.minute in cron.minutes and t.hour in cron.hours and cron.is_day(t)]
    assert list(cron.fires(after, after + timedelta(minutes=1999))) == walked
