"""Findings that differ in their subject only, as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labkit.health import HealthFinding

_MOST = 12


@dataclass(frozen=True)
class Group:
    """One finding for several subjects.

    Attributes:
        first: stands for all; they have been there for as long.
        subjects: all of them.
    """

    first: HealthFinding
    subjects: tuple[str, ...]

    @property
    def subject(self) -> str:
        """All subjects in one text; of very many, the first."""
        shown = ", ".join(self.subjects[:_MOST])
        more = len(self.subjects) - _MOST
        return f"{shown} and {more} more" if more > 0 else shown


def group(findings: Iterable[HealthFinding]) -> tuple[Group, ...]:
    """Return findings in their order, those that say the same of several subjects as one."""
    known: dict[tuple[object, ...], list[HealthFinding]] = {}
    for one in findings:
        known.setdefault((one.id, one.severity, one.expected, one.got, one.remedy, one.since), []).append(one)
    return tuple(Group(some[0], tuple(one.subject for one in some)) for some in known.values())
