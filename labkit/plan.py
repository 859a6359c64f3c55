"""Plans as data: changes, findings, and the digest that an approval names.

A plan is ordered by its prerequisites, not by a clock: two plans of the same wants and the same facts are equal
and have the same digest wherever they were made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from labkit.errors import LabError


class Action(StrEnum):
    """What a change does to its target."""

    CREATE = "create"
    UPDATE = "update"
    ACT = "act"
    DELETE = "delete"


SIGNS: Mapping[Action, str] = {Action.CREATE: "+", Action.UPDATE: "~", Action.ACT: "!", Action.DELETE: "-"}


class Risk(StrEnum):
    """What can be lost: nothing, a service for a while, data or a machine."""

    SAFE = "safe"
    DISRUPTIVE = "disruptive"
    DESTRUCTIVE = "destructive"

    @property
    def rank(self) -> int:
        """0 for safe, 2 for destructive."""
        return list(Risk).index(self)


class Severity(StrEnum):
    """How much a finding matters; an error in a plan keeps it from being applied."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for info, 2 for error."""
        return list(Severity).index(self)


class Finding(BaseModel):
    """What a check or a rule found: the subject, what was expected, what was got, and what to do."""

    model_config = ConfigDict(frozen=True)

    id: str
    severity: Severity
    subject: str
    expected: str
    got: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.subject}: expected {self.expected}, got {self.got}{remedy}"


class Change(BaseModel):
    """One difference between what is wanted and what was seen.

    `kind` and `target` name the thing (`vm`, `k3s-master-01`); `system` is who carries it out. `before` and
    `after` hold only what differs. `needs` are the ids of changes that must have succeeded before, `follows` of those
    that must have come to an end, whichever it is. Changes of one `lane` wait for each other, beyond `width` of them.
    The failure of one that stands `apart` stops only what needs it. `note` is for the reader. How changes are
    carried out (`width`, `apart`) and the note are no part of the digest.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    kind: str
    target: str
    action: Action
    before: dict[str, JsonValue] = Field(default_factory=dict)
    after: dict[str, JsonValue] = Field(default_factory=dict)
    risk: Risk = Risk.SAFE
    needs: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    lane: str = ""
    width: int = Field(default=1, ge=1)
    apart: bool = False
    note: str = ""

    @property
    def id(self) -> str:
        """A name that is unique in a plan: `vm/k3s-master-01/create`."""
        return f"{self.kind}/{self.target}/{self.action}"


class Plan(BaseModel):
    """Changes in an order that respects their prerequisites, deletes last, and what the rules found."""

    model_config = ConfigDict(frozen=True)

    runbook: str
    lab: str
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        object.__setattr__(self, "changes", order(self.changes))
        return self

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that stand for the changes and nothing else."""
        data = sorted((_digested(change) for change in self.changes), key=_canonical)
        text = _canonical({"runbook": self.runbook, "lab": self.lab, "changes": data})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def risk(self) -> Risk:
        """The highest risk of any change."""
        return max((change.risk for change in self.changes), key=lambda risk: risk.rank, default=Risk.SAFE)

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """The findings that keep this plan from being applied."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def counts(self) -> dict[Action, int]:
        """How many changes there are of each action, every action named."""
        return {action: sum(change.action is action for change in self.changes) for action in Action}

    def summary(self) -> str:
        """One line: `9 to create, 1 to update; risk safe; digest 0123456789ab`."""
        if not self.changes:
            return "nothing to change: what is there is what is wanted"
        words = ", ".join(f"{count} to {action}" for action, count in self.counts().items() if count)
        return f"{words}; risk {self.risk}; digest {self.digest}"

    def to_json(self) -> str:
        """The plan with its digest, as indented JSON."""
        data: dict[str, Any] = {"digest": self.digest, "risk": self.risk, **self.model_dump(mode="json")}
        return json.dumps(data, indent=2)


def order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Sort changes so that each comes after what it needs, keeping the given order otherwise.

    Raises:
        LabError: when an id occurs twice, a prerequisite is not in the plan, or prerequisites form a circle.
    """
    waiting = list(changes)
    names = [change.id for change in waiting]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LabError(f"plan: expected each change once, got twice: {', '.join(twice)}")
    if unknown := sorted({need for change in waiting for need in _before(change)} - set(names)):
        raise LabError(f"plan: expected prerequisites that are in the plan, got {', '.join(unknown)}")
    waiting.sort(key=lambda change: change.action is Action.DELETE)
    done: dict[str, Change] = {}
    while waiting:
        ready = next((c for c in waiting if all(need in done for need in _before(c))), None)
        if ready is None:
            circle = ", ".join(change.id for change in waiting)
            raise LabError(f"plan: expected prerequisites without a circle, got one among {circle}")
        waiting.remove(ready)
        done[ready.id] = ready
    return tuple(done.values())


def _before(change: Change) -> tuple[str, ...]:
    return change.needs + change.follows


def _digested(change: Change) -> dict[str, JsonValue]:
    """What of a change counts for the digest; `follows` only where there are any: older digests stay what they were."""
    unsaid = {"note", "width", "apart"} if change.follows else {"note", "width", "apart", "follows"}
    return change.model_dump(mode="json", exclude=unsaid)


def worst(findings: Sequence[Finding]) -> Severity | None:
    """Return the highest severity among findings, or None when there are none."""
    return max((finding.severity for finding in findings), key=lambda severity: severity.rank, default=None)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
