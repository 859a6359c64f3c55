"""The health report as data: what was checked, what was found, how that compares with the last report. Pure.

It is what the outputs are made from and what the history keeps: JSON there and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from labkit.facts.survey import SurveyCost
from labkit.plan import Finding, Severity

FORM = 1
"""The version of the report's JSON."""
FailOn = Literal["info", "warning", "error", "never"]
Key = tuple[str, str]


class Light(StrEnum):
    """How an area stands: nothing to do, worth a look, needs a hand, or nobody could tell."""

    GOOD = "good"
    LOOK = "look"
    ACT = "act"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """0 for good, 3 for act; what is not known is worse than what is worth a look."""
        return [Light.GOOD, Light.LOOK, Light.UNKNOWN, Light.ACT].index(self)


class Outcome(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FOUND = "found"
    ACCEPTED = "accepted"
    """It found only what the lab file accepts."""
    UNASKED = "unasked"
    """A system that it needs was not read."""
    BROKEN = "broken"
    """It failed itself."""


class Part(BaseModel):
    """The base of a report's parts: frozen."""

    model_config = ConfigDict(frozen=True)


class HealthFinding(Finding):
    """A finding with its area, and since when report after report has had it."""

    area: str = ""
    since: datetime | None = None

    @property
    def key(self) -> Key:
        """What makes two findings of two reports the same."""
        return self.id, self.subject


class CheckResult(Part):
    """What became of one check."""

    id: str
    area: str
    sentence: str
    severity: Severity
    outcome: Outcome
    missing: tuple[str, ...] = ()
    """The systems that it needs and that were not read."""


class Accepted(Part):
    """A finding that counts for nothing, why, and until when."""

    finding: HealthFinding
    reason: str
    until: date


class AreaHealth(Part):
    """How one area stands."""

    area: str
    light: Light
    checks: int = 0
    passed: int = 0
    unasked: int = 0
    errors: int = 0
    warnings: int = 0
    infos: int = 0
    accepted: int = 0


class Movement(Part):
    """What is different from the last report."""

    before: datetime
    """When the last report was made."""
    score: int
    """Of the last report."""
    new: tuple[HealthFinding, ...] = ()
    worse: tuple[HealthFinding, ...] = ()
    better: tuple[HealthFinding, ...] = ()
    gone: tuple[HealthFinding, ...] = ()
    unknown: tuple[HealthFinding, ...] = ()
    """What the last report had and nobody could look at now."""

    @property
    def is_worse(self) -> bool:
        """Whether anything is new or worse."""
        return bool(self.new or self.worse)

    @property
    def is_better(self) -> bool:
        """Whether anything is gone or better."""
        return bool(self.gone or self.better)


class HealthReport(Part):
    """One report on one lab."""

    form: int = FORM
    lab: str
    on: str = "lab"
    made_at: datetime
    sentence: str
    light: Light
    score: int = Field(ge=0, le=100)
    """100 for a lab without a finding."""
    fail_on: FailOn = "error"
    areas: tuple[AreaHealth, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    findings: tuple[HealthFinding, ...] = ()
    """The worst first."""
    accepted: tuple[Accepted, ...] = ()
    movement: Movement | None = None
    """None when there is no report before."""
    cost: SurveyCost = SurveyCost()

    @property
    def failing(self) -> tuple[HealthFinding, ...]:
        """The findings that give exit status 1."""
        if self.fail_on == "never":
            return ()
        least = Severity(self.fail_on).rank
        return tuple(one for one in self.findings if one.severity.rank >= least)

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(one.severity is severity for one in self.findings)

    def outcome(self, kind: Outcome) -> tuple[CheckResult, ...]:
        """The checks that ended in a way."""
        return tuple(one for one in self.checks if one.outcome is kind)


_WEIGHT = {Severity.ERROR: 0.12, Severity.WARNING: 0.03, Severity.INFO: 0.0}
"""The share of the score that the first finding of a check takes."""
_AGAIN = 0.25
"""The share of that which each further finding of the same check takes."""


def score(findings: Iterable[Finding]) -> int:
    """Return 100 for nothing to do, and less for every error and warning, never below 0.

    An error takes 12 of every 100 points that are left, a warning 3, what is only good to know none. Each further
    finding of the same check takes a quarter as much: sixty pods that cannot start are one trouble, not sixty.
    """
    left, seen = 100.0, set()
    for one in sorted(findings, key=lambda one: -one.severity.rank):
        left *= 1 - _WEIGHT[one.severity] * (_AGAIN if one.id in seen else 1.0)
        seen.add(one.id)
    return int(left)


def light(findings: Iterable[Finding]) -> Light:
    """Return the light that findings give: act for an error, look for a warning."""
    worst = max((one.severity.rank for one in findings), default=0)
    return (Light.GOOD, Light.LOOK, Light.ACT)[worst]


def by_key(findings: Iterable[HealthFinding]) -> Mapping[Key, HealthFinding]:
    """Return findings by what they are about, the severest of each."""
    found: dict[Key, HealthFinding] = {}
    for one in findings:
        if one.key not in found or found[one.key].severity.rank < one.severity.rank:
            found[one.key] = one
    return found


def compare(report: HealthReport, findings: Iterable[HealthFinding], unasked: frozenset[str] = frozenset()) -> Movement:
    """Return what is different from a report.

    Args:
        report: the last one.
        findings: what is found now.
        unasked: ids of checks that could not be asked now: what they found last is neither there nor gone.
    """
    after = by_key(findings)
    before = by_key((*report.findings, *(report.movement.unknown if report.movement else ())))
    both = [(before[key], one) for key, one in after.items() if key in before]
    lost = [one for key, one in before.items() if key not in after]
    return Movement(
        before=report.made_at,
        score=report.score,
        new=tuple(one for key, one in after.items() if key not in before),
        worse=tuple(now for was, now in both if now.severity.rank > was.severity.rank),
        better=tuple(now for was, now in both if now.severity.rank < was.severity.rank),
        gone=tuple(one for one in lost if one.id not in unasked),
        unknown=tuple(one for one in lost if one.id in unasked),
    )
