"""Scheduled runs that are missing, failed, cut off: a table of what was seen and what is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labkit.checks.schedules import due_between, grace, next_due, schedule_findings, schedules_run
from labkit.cron import parse_cron
from labkit.facts.schedules import Schedule, ScheduleFacts

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday


def at(day: int, hour: int, minute: int = 30) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def seen(**given: Any) -> Schedule:
    base: dict[str, Any] = {"name": "report", "lab": "small", "runbook": "health-report", "how": "systemd",
                            "cron": "30 6 * * *", "since": at(1, 0)}  # fmt: skip
    return Schedule.model_validate({**base, **given})


GOOD: dict[str, Any] = {"started": at(23, 6), "ended": at(23, 6, 40), "status": 0, "success": at(23, 6, 40)}
FAILED = "schedule.failed: a run that ends well"

CASES: list[tuple[str, Schedule, list[str]]] = [
    ("all is well", seen(**GOOD), []),
    ("never, but new", seen(since=at(23, 8)), []),
    ("never since it was due", seen(since=at(22, 8)), ["schedule.missed: a run at 2026-11-23T06:30+00:00 | none yet"]),
    ("the last was yesterday's", seen(**GOOD | {"started": at(22, 6), "ended": at(22, 6, 40)}),
     ["schedule.missed: a run at 2026-11-23T06:30+00:00 | none since 2026-11-22T06:30+00:00"]),
    ("late, but within its hour", seen(started=at(22, 11, 15), ended=at(22, 11), status=0, cron="15 11 * * *"), []),
    ("one was missed before", seen(**GOOD, missed=(at(22, 6),)),
     ["schedule.was-missed: a run at 2026-11-22T06:30+00:00 | none until 2026-11-23T06:30+00:00"]),
    ("it failed", seen(**GOOD | {"status": 4, "success": at(22, 6)}),
     [f"{FAILED} | exit status 4 at 2026-11-23T06:40+00:00; the last good one ended 2026-11-22T06:30+00:00"]),
    ("it never ended well", seen(**GOOD | {"status": 2, "success": None}),
     ["schedule.failed: a run that ends well | exit status 2 at 2026-11-23T06:40+00:00; no run has ended well yet"]),
    ("it found something", seen(**GOOD | {"status": 1}),
     [f"{FAILED} | exit status 1 at 2026-11-23T06:40+00:00; the last good one ended 2026-11-23T06:40+00:00"]),
    ("it found something and tells it", seen(**GOOD | {"status": 1}, findings_ok=True), []),
    ("it was cut off", seen(started=at(23, 6)),
     ["schedule.failed: a run that ends | one of 2026-11-23T06:30+00:00 that was cut off"]),
    ("it goes on", seen(started=at(23, 6), running=True), []),
    ("it hangs", seen(started=at(22, 6), running=True, cron="30 6 * * 0"),
     ["schedule.hangs: an end within 12 hours | a run since 2026-11-22T06:30+00:00"]),
    ("a Job failed", seen(started=at(23, 6), ended=at(23, 6), how="kubernetes"),
     ["schedule.failed: a run that ends well | a failed Job at 2026-11-23T06:30+00:00; no run has ended well yet"]),
    ("its file is broken", seen(problem="it is cut off"),
     ["schedule.unreadable: a file that can be read | it is cut off"]),
    ("its times cannot be read", seen(**GOOD, cron="never"), []),
    ("another zone", seen(**GOOD | {"started": at(22, 21), "ended": at(22, 21)}, zone="America/New_York"), []),
    ("another zone, missed", seen(**GOOD | {"started": at(22, 10), "ended": at(22, 10)}, zone="America/New_York"),
     ["schedule.missed: a run at 2026-11-22T06:30-05:00 | none since 2026-11-22T10:30+00:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "schedule", "expected"), CASES, ids=[case[0] for case in CASES])
def test_what_is_found(name: str, schedule: Schedule, expected: list[str]) -> None:
    facts = ScheduleFacts(schedules=(schedule,), read_at=NOW)
    found = list(schedule_findings(facts))
    assert [f"{one.id}: {one.expected} | {one.got}" for one in found] == expected
    assert {one.subject for one in found} <= {"schedule small/report"}
    assert all(one.remedy for one in found)
    assert list(schedules_run()({"schedules": facts})) == found


def test_the_remedy_says_where_to_look() -> None:
    remedies = [next(iter(schedule_findings(ScheduleFacts(schedules=(seen(how=how, since=at(20, 0)),), read_at=NOW))))
                for how in ("systemd", "cron", "kubernetes")]  # fmt: skip
    words = ["labkit-small-report.timer", "crontab -l", "kubectl get cronjobs"]
    assert all(word in one.remedy for one, word in zip(remedies, words, strict=True))


@pytest.mark.parametrize(
    ("cron", "expected"),
    [("30 6 * * *", timedelta(hours=1)), ("0 * * * *", timedelta(minutes=30)), ("*/10 * * * *", timedelta(minutes=5)),
     ("0 0 1 1 *", timedelta(hours=1)), ("0 0 1 * *", timedelta(hours=1))],
)  # fmt: skip
def test_how_late_a_run_may_be(cron: str, expected: timedelta) -> None:
    assert grace(parse_cron(cron), NOW) == expected


def test_the_next_and_the_last_times() -> None:
    assert next_due(seen(), NOW) == at(24, 6)
    assert next_due(seen(cron="never"), NOW) is None
    assert due_between(seen(), at(20, 6), NOW) == (at(21, 6), at(22, 6), at(23, 6))
    assert len(due_between(seen(), at(1, 0), NOW)) == 20
