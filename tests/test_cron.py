"""Cron texts: when they are due, and which cannot be read."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.cron import CronError, parse_cron


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0 2 * * *", ["2026-11-01T02:00", "2026-11-02T02:00", "2026-11-03T02:00"]),
        ("CRON_TZ=UTC 0 2 2 * *", ["2026-11-02T02:00"]),
        ("@daily", ["2026-11-02T00:00", "2026-11-03T00:00"]),
        ("30 4 * * mon", ["2026-11-02T04:30"]),
        ("0 12 1-3/2 * *", ["2026-11-01T12:00", "2026-11-03T12:00"]),
        ("0 0 3 * 1", ["2026-11-02T00:00", "2026-11-03T00:00"]),  # both day fields: either
        ("0 0 * jan-feb *", []),
        ("0 6/9 2 11 ?", ["2026-11-02T06:00", "2026-11-02T15:00"]),
        ("0 1 * * 7", ["2026-11-01T01:00"]),
    ],
)
def test_times_between_two_moments(text: str, times: list[str]) -> None:
    after = datetime(2026, 11, 1, tzinfo=UTC)
    found = parse_cron(text).fires(after, datetime(2026, 11, 3, 23, 59, tzinfo=UTC))
    assert [time.strftime("%Y-%m-%dT%H:%M") for time in found] == times


@pytest.mark.parametrize(
    ("text", "after", "due"),
    [
        ("0 6 * * *", "2026-11-23T05:59:30", "2026-11-23T06:00:00"),
        ("0 6 * * *", "2026-11-23T06:00:00", "2026-11-24T06:00:00"),
        ("*/15 * * * *", "2026-11-23T06:01:00", "2026-11-23T06:15:00"),
        ("@hourly", "2026-12-31T23:30:00", "2027-01-01T00:00:00"),
        ("0 0 1 jan *", "2026-11-23T00:00:00", "2027-01-01T00:00:00"),
        ("30 4 * * sun", "2026-11-23T00:00:00", "2026-11-29T04:30:00"),
        ("0 0 13 * 5", "2026-11-23T00:00:00", "2026-11-27T00:00:00"),
        ("5,10-12 1 * * 7", "2026-11-29T01:05:00", "2026-11-29T01:10:00"),
        ("0 0 29 2 *", "2096-11-23T00:00:00", "2104-02-29T00:00:00"),
        ("0 0 30 2 *", "2026-11-23T00:00:00", None),
    ],
)
def test_the_next_time(text: str, after: str, due: str | None) -> None:
    def moment(said: str) -> float:
        return datetime.fromisoformat(said).replace(tzinfo=UTC).timestamp()

    assert parse_cron(text).after(moment(after)) == (due and moment(due))


def test_a_time_zone() -> None:
    due = parse_cron("0 6 * * *", "Europe/Berlin").after(datetime(2026, 7, 1, tzinfo=UTC).timestamp())
    assert due == datetime(2026, 7, 1, 4, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    ["", "0 2 * *", "60 * * * *", "* * 0 * *", "a * * * *", "5-1 * * * *", "*/0 * * * *", "@x", "1, * * * *"],
)
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(CronError, match="schedule"):
        parse_cron(text)


def test_an_unknown_zone_is_named() -> None:
    with pytest.raises(CronError, match="Europe/Berlni"):
        parse_cron("@daily", "Europe/Berlni")


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
