"""Ask every check about a scene, and make the report of what they say. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase

from labkit.checks.health.base import Area, HealthCheck, Scene
from labkit.errors import LabError, counted
from labkit.facts.survey import SurveyCost, Unread
from labkit.health import (
    Accepted,
    AreaHealth,
    CheckResult,
    FailOn,
    HealthFinding,
    HealthReport,
    Light,
    Movement,
    Outcome,
    by_key,
    compare,
    light,
    score,
)
from labkit.lab.health import Ignored
from labkit.plan import Finding, Severity

UNREAD = "report.unread"
BROKEN = "report.broken-check"
EXPIRED = "report.ignore-expired"
UNUSED = "report.ignore-unused"
OWN = (UNREAD, BROKEN, EXPIRED, UNUSED)
"""Findings that come of the report itself, no check of the registry."""


@dataclass(frozen=True)
class Asked:
    """One check, what became of it, and what it found."""

    check: HealthCheck
    outcome: Outcome
    findings: tuple[HealthFinding, ...] = ()
    missing: tuple[str, ...] = ()


def examine(
    scene: Scene,
    *,
    checks: Sequence[HealthCheck],
    cost: SurveyCost | None = None,
    previous: HealthReport | None = None,
    fail_on: FailOn | None = None,
    on: str = "lab",
) -> HealthReport:
    """Return the report on a scene.

    Args:
        scene: the lab, the facts by system (`Unread` for one that was not read), and the moment.
        checks: what is asked.
        cost: what the reading took.
        previous: the last report on this lab.
        fail_on: the severity that gives exit status 1; the lab file's when None.
        on: `twin` or `lab`.
    """
    asked = [ask(check, scene) for check in checks]
    raw = [*(one for some in asked for one in some.findings), *unread(scene, checks)]
    kept, accepted = accept(raw, scene.lab.health.ignore, scene.now)
    kept += judge_ignores(scene, asked, raw)
    findings = _dated(_sorted(kept), previous, scene.now)
    results = tuple(_result(one, kept) for one in asked)
    unasked = frozenset(one.id for one in results if one.outcome in (Outcome.UNASKED, Outcome.BROKEN))
    movement = compare(previous, findings, unasked) if previous else None
    areas = tuple(_areas(results, findings, accepted))
    worst = max((area.light for area in areas), key=lambda one: one.rank, default=Light.UNKNOWN)
    return HealthReport(
        lab=scene.lab.name, on=on, made_at=scene.now, score=score(findings), light=worst, areas=areas,
        checks=results, findings=findings, accepted=accepted, movement=movement, cost=cost or SurveyCost(),
        fail_on=fail_on or scene.lab.health.fail_on,
        sentence=opening(scene.lab.name, results, findings, movement),
    )  # fmt: skip


def ask(check: HealthCheck, scene: Scene) -> Asked:
    """Ask one check; a check that fails itself gives a finding of its own."""
    if missing := check.missing(scene):
        return Asked(check, Outcome.UNASKED, missing=missing)
    try:
        found = check(scene)
    except Exception as exc:  # noqa: BLE001  # a mistake in one check must not take the report of all others
        said = exc.message if isinstance(exc, LabError) else f"{type(exc).__name__}: {exc}"
        broken = HealthFinding(
            id=BROKEN, severity=Severity.WARNING, area=check.area, subject=f"check {check.id}",
            expected="an answer", got=said, remedy="report it as a fault of labkit",
        )  # fmt: skip
        return Asked(check, Outcome.BROKEN, (broken,))
    findings = tuple(HealthFinding(**one.model_dump(), area=check.area) for one in found)
    return Asked(check, Outcome.FOUND if findings else Outcome.PASSED, findings)


def unread(scene: Scene, checks: Sequence[HealthCheck]) -> tuple[HealthFinding, ...]:
    """Return one finding for each system that was not read, in the area that needs it most."""
    return tuple(
        HealthFinding(
            id=UNREAD, severity=Severity.ERROR, area=_area_of(name, checks), subject=f"system {name}",
            expected="an answer", got=facts.reason, remedy=facts.next_step,
        )
        for name, facts in scene.facts.items() if isinstance(facts, Unread)
    )  # fmt: skip


def _area_of(system: str, checks: Sequence[HealthCheck]) -> str:
    if system in set(Area):
        return system
    counts = Counter(check.area for check in checks if system in check.reads)
    return counts.most_common(1)[0][0] if counts else Area.LABKIT


def accept(
    findings: Iterable[HealthFinding], ignored: Sequence[Ignored], now: datetime
) -> tuple[list[HealthFinding], tuple[Accepted, ...]]:
    """Part findings into those that count and those that the lab file accepts today."""
    valid = [one for one in ignored if now.date() <= one.last_day]
    kept, accepted = [], []
    for finding in findings:
        entry = next((one for one in valid if is_about(one, finding)), None)
        if entry is None:
            kept.append(finding)
        else:
            accepted.append(Accepted(finding=finding, reason=entry.reason, until=entry.last_day))
    return kept, tuple(accepted)


def is_about(entry: Ignored, finding: Finding) -> bool:
    """Tell whether an entry of the lab file is about a finding."""
    return fnmatchcase(finding.id, entry.check) and fnmatchcase(finding.subject, entry.subject)


def judge_ignores(scene: Scene, asked: Sequence[Asked], raw: Sequence[HealthFinding]) -> list[HealthFinding]:
    """Return a finding for each entry of `health.ignore` that has ended, or that nothing is found for any more."""
    found = []
    for entry in scene.lab.health.ignore:
        subject = f"health.ignore {entry.check} {entry.subject}".removesuffix(" *")
        if scene.now.date() > entry.last_day:
            found.append(_own(EXPIRED, Severity.WARNING, subject, "a last day that is still to come", entry.until,
                              "mend what it is about, or write a later day into the lab file"))  # fmt: skip
        elif problem := _unused(entry, asked, raw):
            found.append(_own(UNUSED, Severity.INFO, subject, "a finding that it is about", problem,
                              "take it out of the lab file"))  # fmt: skip
    return found


def _unused(entry: Ignored, asked: Sequence[Asked], raw: Sequence[HealthFinding]) -> str:
    """Say why an entry is of no use; empty when it is, or when nobody can tell."""
    if any(is_about(entry, one) for one in raw):
        return ""
    meant = [one for one in asked if fnmatchcase(one.check.id, entry.check)]
    own = [name for name in OWN if fnmatchcase(name, entry.check)]
    if not meant and not own:
        near = get_close_matches(entry.check, [*(one.check.id for one in asked), *OWN], 1)
        return "no check of that name" + (f"; did you mean {near[0]}?" if near else "")
    blind = any(one.outcome in (Outcome.UNASKED, Outcome.BROKEN) for one in meant)
    return "" if blind else "none: all is well there"


def _own(name: str, severity: Severity, *words: str) -> HealthFinding:
    subject, expected, got, remedy = words
    return HealthFinding(id=name, severity=severity, area=Area.LABKIT, subject=subject, expected=expected, got=got,
                         remedy=remedy)  # fmt: skip


def _sorted(findings: Iterable[HealthFinding]) -> list[HealthFinding]:
    order = list(Area)
    return sorted(findings, key=lambda one: (-one.severity.rank, order.index(Area(one.area)), one.id, one.subject))


def _dated(
    findings: Iterable[HealthFinding], previous: HealthReport | None, now: datetime
) -> tuple[HealthFinding, ...]:
    """Give each finding the moment since when report after report has had it."""
    known = by_key((*previous.findings, *(previous.movement.unknown if previous.movement else ()))) if previous else {}
    return tuple(
        one.model_copy(update={"since": (known[one.key].since if one.key in known else None) or now})
        for one in findings
    )


def _result(one: Asked, kept: Sequence[HealthFinding]) -> CheckResult:
    outcome = one.outcome
    if outcome is Outcome.FOUND and not any(finding.id == one.check.id for finding in kept):
        outcome = Outcome.ACCEPTED
    return CheckResult(id=one.check.id, area=one.check.area, sentence=one.check.sentence, outcome=outcome,
                       severity=one.check.severity, missing=one.missing)  # fmt: skip


def _areas(
    results: Sequence[CheckResult], findings: Sequence[HealthFinding], accepted: Sequence[Accepted]
) -> Iterable[AreaHealth]:
    for area in Area:
        mine = [one for one in results if one.area == area]
        found = [one for one in findings if one.area == area]
        if mine or found:
            yield AreaHealth(
                area=area,
                light=_light(mine, found),
                checks=len(mine),
                passed=sum(one.outcome in (Outcome.PASSED, Outcome.ACCEPTED) for one in mine),
                unasked=sum(one.outcome in (Outcome.UNASKED, Outcome.BROKEN) for one in mine),
                errors=sum(one.severity is Severity.ERROR for one in found),
                warnings=sum(one.severity is Severity.WARNING for one in found),
                infos=sum(one.severity is Severity.INFO for one in found),
                accepted=sum(one.finding.area == area for one in accepted),
            )


def _light(results: Sequence[CheckResult], findings: Sequence[HealthFinding]) -> Light:
    """An area is unknown when nobody could look at most of it and what was seen is no error of its own."""
    blind = sum(one.outcome is Outcome.UNASKED for one in results)
    own = [one for one in findings if one.id != UNREAD]
    if blind and light(own) is not Light.ACT and 2 * blind > len(results):
        return Light.UNKNOWN
    return light(findings)


def opening(
    lab: str, results: Sequence[CheckResult], findings: Sequence[HealthFinding], movement: Movement | None
) -> str:
    """Return the sentence that the report opens with: how it stands, where, and whether that is news."""
    away = [one.subject.removeprefix("system ") for one in findings if one.id == UNREAD]
    errors = [one for one in findings if one.severity is Severity.ERROR and one.id != UNREAD]
    warnings = [one for one in findings if one.severity is Severity.WARNING]
    asked = [one for one in results if one.outcome is not Outcome.UNASKED]
    passed = sum(one.outcome in (Outcome.PASSED, Outcome.ACCEPTED) for one in results)
    if errors or away:
        counts = [counted(len(some), word) for some, word in ((errors, "error"), (warnings, "warning")) if some]
        words = f"Lab {lab} needs you"
        if counts:
            words += f": {' and '.join(counts)} in {_listed(dict.fromkeys(one.area for one in (*errors, *warnings)))}"
    elif warnings:
        words = f"Lab {lab} is well but for {counted(len(warnings), 'warning')}"
    else:
        words = f"Lab {lab} is well"
    if away:
        joint = "; " if errors or warnings else ": "
        words += f"{joint}{_listed(away)} could not be read"
    return f"{words}; {passed} of {len(asked)} checks passed{_news(movement)}."


def _news(movement: Movement | None) -> str:
    if movement is None:
        return ""
    fresh, gone = len(movement.new) + len(movement.worse), len(movement.gone) + len(movement.better)
    parts = [f"{fresh} new or worse" if fresh else "", f"{gone} gone or better" if gone else ""]
    said = " and ".join(part for part in parts if part) or "nothing new"
    return f", {said} since the last report"


def _listed(words: Iterable[str]) -> str:
    *head, last = list(words)
    return f"{', '.join(head)} and {last}" if head else last
