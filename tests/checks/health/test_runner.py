"""What the report makes of its checks: tables of scenes and what comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.checks.health.base import Area, Found, HealthCheck, Scene
from labkit.checks.health.runner import examine
from labkit.facts.survey import Unread
from labkit.health import HealthReport, Light, Outcome, score
from labkit.lab import Lab, load_lab
from labkit.lab.health import Health, Ignored
from labkit.plan import Finding, Severity

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
LAB = load_lab(Path(__file__).parents[2] / "data" / "e2e" / "lab.yaml")


def check(
    name: str, area: Area, severity: Severity = Severity.WARNING, reads: tuple[str, ...] = ("one",)
) -> HealthCheck:
    """A check that finds each subject that the facts of its first system name for it."""

    def look(scene: Scene) -> Iterator[Found]:
        for subject, got in scene[reads[0]].get(name, {}).items():
            if got == "raise":
                raise ValueError("no such field")
            yield Found(subject, "all well", got, "mend it", Severity.ERROR if got == "dead" else None)

    return HealthCheck(name, area, f"{name} is well", severity, reads, look)


CHECKS = (
    check("proxmox.host", Area.PROXMOX, Severity.ERROR),
    check("guests.disk", Area.GUESTS),
    check("nas.pool", Area.NAS, reads=("nas",)),
    check("nas.scrub", Area.NAS, reads=("nas", "one")),
)


def lab(*ignored: Ignored, fail_on: str = "error") -> Lab:
    return LAB.model_copy(update={"health": Health(ignore=ignored, fail_on=fail_on)})  # type: ignore[arg-type]


def report(
    one: Any = None, nas: Any = None, *, of: Lab = LAB, now: datetime = NOW, previous: HealthReport | None = None
) -> HealthReport:
    facts = {"one": one or {}, "nas": {} if nas is None else nas}
    return examine(Scene(of, facts, now), checks=CHECKS, previous=previous)


AWAY = Unread(system="nas", reason="no answer within 5 s", next_step="look whether it is on")
COLD = {"guests.disk": {"vm a": "90 %"}}


def keys(found: Any) -> list[str]:
    return [f"{one.severity[0]} {one.id} {one.subject}" for one in found]


def test_a_healthy_lab_has_nothing_to_say() -> None:
    made = report()
    assert (made.light, made.score, made.findings) == (Light.GOOD, 100, ())
    assert made.sentence == "Lab small is well; 4 of 4 checks passed."
    assert [(a.area, a.light, a.checks, a.passed) for a in made.areas] == [
        ("proxmox", "good", 1, 1), ("guests", "good", 1, 1), ("nas", "good", 2, 2)
    ]  # fmt: skip
    assert made.failing == ()


def test_the_worst_comes_first_with_its_area_and_what_to_do() -> None:
    made = report({"guests.disk": {"vm b": "90 %", "vm a": "dead"}, "proxmox.host": {"host x": "off"}})
    assert keys(made.findings) == ["e proxmox.host host x", "e guests.disk vm a", "w guests.disk vm b"]
    assert {one.remedy for one in made.findings} == {"mend it"}
    assert [a.light for a in made.areas] == ["act", "act", "good"]
    assert made.sentence == "Lab small needs you: 2 errors and 1 warning in proxmox and guests; 2 of 4 checks passed."
    assert keys(made.failing) == ["e proxmox.host host x", "e guests.disk vm a"]


def test_warnings_are_worth_a_look() -> None:
    made = report(COLD)
    assert (made.light, made.score) == (Light.LOOK, 97)
    assert made.sentence == "Lab small is well but for 1 warning; 3 of 4 checks passed."


@pytest.mark.parametrize(("fail_on", "failing"), [("never", 0), ("error", 1), ("warning", 2), ("info", 2)])
def test_fail_on_says_from_where_on_a_finding_fails(fail_on: str, failing: int) -> None:
    made = report({"guests.disk": {"vm b": "90 %", "vm a": "dead"}}, of=lab(fail_on=fail_on))
    assert len(made.failing) == failing


def test_a_system_that_does_not_answer_is_one_finding_and_its_checks_are_not_asked() -> None:
    made = report(COLD, AWAY)
    assert keys(made.findings) == ["e report.unread system nas", "w guests.disk vm a"]
    assert made.findings[0].got == "no answer within 5 s"
    assert made.findings[0].remedy == "look whether it is on"
    assert [one.missing for one in made.outcome(Outcome.UNASKED)] == [("nas",), ("nas",)]
    assert [(a.area, a.light) for a in made.areas][-1] == ("nas", "unknown")
    assert made.light is Light.UNKNOWN
    assert made.sentence == ("Lab small needs you: 1 warning in guests; nas could not be read; 1 of 2 checks passed.")


def test_with_nothing_else_wrong_the_sentence_names_only_what_is_away() -> None:
    assert report({}, AWAY).sentence == "Lab small needs you: nas could not be read; 2 of 2 checks passed."


def test_a_check_that_fails_itself_ends_nothing() -> None:
    made = report({"guests.disk": {"vm a": "raise"}, "proxmox.host": {"host x": "off"}})
    assert keys(made.findings) == ["e proxmox.host host x", "w report.broken-check check guests.disk"]
    assert made.findings[1].got == "ValueError: no such field"
    assert [one.id for one in made.outcome(Outcome.BROKEN)] == ["guests.disk"]


def entry(name: str, subject: str = "*", until: str = "2026-12-31") -> Ignored:
    return Ignored(check=name, subject=subject, reason="known, and it waits for a part", until=until)


ACCEPTED = [
    ("by name", entry("guests.disk", "vm a"), [], 1),
    ("by pattern", entry("guests.*", "vm ?"), [], 1),
    ("for all subjects", entry("guests.disk"), [], 1),
    ("on its last day", entry("guests.disk", until="2026-11-23"), [], 1),
    ("another subject", entry("guests.disk", "vm b"),
     ["w guests.disk vm a", "i report.ignore-unused health.ignore guests.disk vm b"], 0),
    ("no such check", entry("guest.disk"),
     ["w guests.disk vm a", "i report.ignore-unused health.ignore guest.disk"], 0),
    ("a day too late", entry("guests.disk", until="2026-11-22"),
     ["w guests.disk vm a", "w report.ignore-expired health.ignore guests.disk"], 0),
]  # fmt: skip


@pytest.mark.parametrize(("ignored", "left", "accepted"), [row[1:] for row in ACCEPTED], ids=[r[0] for r in ACCEPTED])
def test_findings_are_accepted_for_a_time(ignored: Ignored, left: list[str], accepted: int) -> None:
    made = report(COLD, of=lab(ignored))
    assert keys(made.findings) == left
    assert len(made.accepted) == accepted
    if accepted:
        assert (made.score, made.light) == (100, Light.GOOD)
        assert made.outcome(Outcome.ACCEPTED)[0].id == "guests.disk"
        assert made.accepted[0].reason == "known, and it waits for a part"


def test_an_entry_with_a_slip_in_its_name_is_told_the_right_one() -> None:
    assert (
        report(COLD, of=lab(entry("guest.disk"))).findings[1].got == "no check of that name; did you mean guests.disk?"
    )


def test_an_entry_for_what_could_not_be_looked_at_is_not_called_unused() -> None:
    assert keys(report({}, AWAY, of=lab(entry("nas.pool"))).findings) == ["e report.unread system nas"]


def test_even_a_system_that_is_away_can_be_accepted() -> None:
    made = report({}, AWAY, of=lab(entry("report.unread", "system nas")))
    assert made.findings == ()
    assert made.areas[-1].light is Light.UNKNOWN


def test_the_last_report_is_compared() -> None:
    first = report({"guests.disk": {"vm a": "90 %", "vm b": "90 %", "vm c": "dead"}}, {"nas.pool": {"pool": "bad"}})
    later = NOW + timedelta(days=1)
    second = report({"guests.disk": {"vm b": "dead", "vm c": "90 %", "vm d": "90 %"}}, AWAY, now=later, previous=first)
    moved = second.movement
    assert moved is not None
    assert keys(moved.new) == ["e report.unread system nas", "w guests.disk vm d"]
    assert keys(moved.worse) == ["e guests.disk vm b"]
    assert keys(moved.better) == ["w guests.disk vm c"]
    assert keys(moved.gone) == ["w guests.disk vm a"]
    assert keys(moved.unknown) == ["w nas.pool pool"]
    assert (moved.before, moved.score) == (NOW, first.score)
    assert second.sentence.endswith(", 3 new or worse and 2 gone or better since the last report.")
    since = {one.subject: one.since for one in second.findings}
    assert since == {"system nas": later, "vm b": NOW, "vm c": NOW, "vm d": later}

    third = report({"guests.disk": {"vm b": "dead"}}, {"nas.pool": {"pool": "bad"}}, now=later, previous=second)
    assert third.movement is not None
    assert keys(third.movement.new) == []
    assert {one.subject: one.since for one in third.findings}["pool"] == NOW


def test_nothing_new_is_said() -> None:
    made = report(COLD, previous=report(COLD), now=NOW + timedelta(days=1))
    assert made.sentence.endswith("3 of 4 checks passed, nothing new since the last report.")


def test_a_report_is_json_there_and_back() -> None:
    made = report(COLD, AWAY, of=lab(entry("guests.*")), previous=report())
    assert HealthReport.model_validate_json(made.model_dump_json()) == made


findings = st.lists(
    st.builds(Finding, id=st.sampled_from("abc"), severity=st.sampled_from(list(Severity)), subject=st.just("s"),
              expected=st.just("e"), got=st.just("g")), max_size=60,
)  # fmt: skip


@given(findings, findings)
def test_the_score_stays_in_its_range_and_more_findings_never_raise_it(
    some: list[Finding], more: list[Finding]
) -> None:
    assert 0 <= score(some + more) <= score(some) <= 100
    weighty = [one for one in some if one.severity is not Severity.INFO]
    assert (score(some) == 100) == (not weighty)
