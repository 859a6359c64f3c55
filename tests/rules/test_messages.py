"""What is told, to whom, and when: tables of findings before and after."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.lab.models import Messages
from labkit.plan import Finding, Severity
from labkit.rules.messages import compare, decide, is_quiet

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NIGHT = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)


def finding(subject: str, severity: str = "warning", check: str = "disk") -> Finding:
    return Finding(id=check, severity=Severity(severity), subject=subject, expected="room", got="none", remedy="mend")


def settings(**given: Any) -> Messages:
    return Messages.model_validate({"to": ("env:URL",), **given})


A, B, LOUD, NOTE = finding("a"), finding("b"), finding("a", "error"), finding("n", "info")
QUIET: dict[str, Any] = {"quiet": "22:00-07:00"}

CASES: list[tuple[str, list[Finding], list[Finding], dict[str, Any], datetime, str, str]] = [
    ("nothing at all", [], [], {}, NOON, "nothing", ""),
    ("as before", [A, B], [B, A], {}, NOON, "nothing", ""),
    ("new", [], [A], {}, NOON, "send", "lab: 1 worse"),
    ("gone", [A], [], {}, NOON, "send", "lab: 1 better"),
    ("one for another", [A], [B], {}, NOON, "send", "lab: 1 worse, 1 better"),
    ("severer", [A], [LOUD], {}, NOON, "send", "lab: 1 worse"),
    ("milder", [LOUD], [A], {}, NOON, "send", "lab: 1 better"),
    ("only a note", [], [NOTE], {}, NOON, "nothing", ""),
    ("notes count", [], [NOTE], {"least": "info"}, NOON, "send", "lab: 1 worse"),
    ("warnings do not", [], [A], {"least": "error"}, NOON, "nothing", ""),
    ("below the least is gone", [LOUD], [A], {"least": "error"}, NOON, "send", "lab: 1 better"),
    ("better is not wanted", [A], [], {"only": ("worse",)}, NOON, "nothing", ""),
    ("worse is not wanted", [A], [B], {"only": ("better",)}, NOON, "send", "lab: 1 better"),
    ("a warning at night", [], [A], QUIET, NIGHT, "hold", "lab: 1 worse"),
    ("better news at night", [LOUD], [], QUIET, NIGHT, "hold", "lab: 1 better"),
    ("a new error at night", [], [LOUD], QUIET, NIGHT, "send", "lab: 1 worse"),
    ("a warning becomes an error at night", [A], [LOUD], QUIET, NIGHT, "send", "lab: 1 worse"),
    ("an old error and a new warning at night", [LOUD], [LOUD, B], QUIET, NIGHT, "hold", "lab: 1 worse"),
    ("an error at night that is not wanted", [], [LOUD], QUIET | {"only": ("better",)}, NIGHT, "nothing", ""),
    ("the day", [], [A], QUIET, NOON, "send", "lab: 1 worse"),
    ("twice the same thing", [], [A, LOUD], {}, NOON, "send", "lab: 1 worse"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_who_is_told(case: tuple[str, list[Finding], list[Finding], dict[str, Any], datetime, str, str]) -> None:
    _, before, after, given_settings, now, action, title = case
    decision = decide(before, after, now, settings(**given_settings), title="lab")
    assert decision.action == action
    assert (decision.message.title if decision.message else "") == title


def test_the_text_names_the_worst_first_with_its_remedy() -> None:
    decision = decide([B], [A, finding("c", "error")], NOON, settings())
    assert decision.message is not None
    assert decision.message.title == "2 worse, 1 better"
    assert decision.message.body == (
        "Worse:\n- error: c: expected room, got none; mend\n- warning: a: expected room, got none; mend\n\n"
        "Better:\n- b: was none\n\n2 findings in all."
    )
    assert decide([A], [], NOON, settings()).message.body.endswith("Nothing is left.")  # type: ignore[union-attr]


def test_a_long_list_is_cut() -> None:
    decision = decide([], [finding(f"s{number:03}") for number in range(50)], NOON, settings())
    assert decision.message is not None
    assert decision.message.body.count("\n- ") == 21
    assert "- and 30 more" in decision.message.body


@pytest.mark.parametrize(
    ("quiet", "zone", "hour", "minute", "expected"),
    [
        ("22:00-07:00", None, 21, 59, False),
        ("22:00-07:00", None, 22, 0, True),
        ("22:00-07:00", None, 0, 0, True),
        ("22:00-07:00", None, 6, 59, True),
        ("22:00-07:00", None, 7, 0, False),
        ("12:00-14:00", None, 11, 59, False),
        ("12:00-14:00", None, 12, 0, True),
        ("12:00-14:00", None, 14, 0, False),
        ("22:00-07:00", "Europe/Berlin", 21, 0, True),
        ("22:00-07:00", "America/New_York", 2, 59, False),
        (None, None, 3, 0, False),
    ],
)
def test_quiet_hours(quiet: str | None, zone: str | None, hour: int, minute: int, expected: bool) -> None:
    moment = datetime(2026, 11, 23, hour, minute, tzinfo=UTC)
    assert is_quiet(moment, settings(quiet=quiet, zone=zone)) is expected


def test_without_a_zone_the_moment_brings_its_own() -> None:
    moment = datetime(2026, 11, 23, 21, 30, tzinfo=UTC)
    assert not is_quiet(moment, settings(**QUIET))
    assert is_quiet(moment.astimezone(ZoneInfo("Europe/Berlin")), settings(**QUIET))


FINDINGS = st.lists(
    st.builds(
        finding, st.sampled_from("abc"), st.sampled_from(["info", "warning", "error"]), st.sampled_from(["x", "y"])
    ),
    max_size=6,
)


@given(FINDINGS, FINDINGS)
def test_what_got_worse_one_way_got_better_the_other(before: list[Finding], after: list[Finding]) -> None:
    there, back = compare(before, after), compare(after, before)
    assert {(one.id, one.subject) for one in there.worse} == {(one.id, one.subject) for one in back.better}
    assert not compare(after, after)
