"""What a check is: an id, a sentence, and a predicate on facts that gives findings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.plan import Finding, Severity

Find = Callable[[Mapping[str, Any]], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One question to the facts.

    Attributes:
        id: for example `vms-ready`.
        sentence: what is true when there are no findings, for people.
        reads: the systems whose facts it needs, by name.
        find: gets the facts by system name and returns what is not as it should be.
    """

    id: str
    sentence: str
    reads: tuple[str, ...]
    find: Find

    def __call__(self, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
        """Return the findings, the worst first."""
        return tuple(sorted(self.find(facts), key=lambda finding: -finding.severity.rank))


def error(check: str, subject: str, expected: str, got: str, remedy: str = "") -> Finding:
    """Make a finding that stops the runbook."""
    return Finding(id=check, severity=Severity.ERROR, subject=subject, expected=expected, got=got, remedy=remedy)


def warning(check: str, subject: str, expected: str, got: str, remedy: str = "") -> Finding:
    """Make a finding that a person should look at."""
    return Finding(id=check, severity=Severity.WARNING, subject=subject, expected=expected, got=got, remedy=remedy)


def info(check: str, subject: str, expected: str, got: str, remedy: str = "") -> Finding:
    """Make a finding that is good to know."""
    return Finding(id=check, severity=Severity.INFO, subject=subject, expected=expected, got=got, remedy=remedy)
