"""What a check of a repository finds: a place, a sentence why, a remedy; and what a rule is. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from labkit.facts.repository import Cluster, RepositoryFacts, Resource
from labkit.plan import Finding, Severity


@dataclass(frozen=True, order=True, slots=True)
class RepoFinding:
    """One finding with its place; never holds the text of a secret."""

    file: str
    line: int
    id: str
    severity: Severity
    why: str
    remedy: str = ""

    @property
    def fingerprint(self) -> str:
        """Sixteen digits that stay when lines move: rule, file and words."""
        return hashlib.sha256(f"{self.id}\0{self.file}\0{self.why}".encode("utf-8", "replace")).hexdigest()[:16]

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.file}:{self.line}: {self.severity} [{self.id}] {self.why}{remedy}"

    def as_finding(self) -> Finding:
        """Return it as a runbook's checks have them."""
        place = f"{self.file}:{self.line}"
        expected = RULES[self.id].sentence if self.id in RULES else "a repository without this"
        return Finding(
            id=f"repository.{self.id}", severity=self.severity, subject=place, expected=expected, got=self.why,
            remedy=self.remedy,
        )  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What rules are asked about: the facts, and the Flux version (major, minor) that the cluster shall run."""

    facts: RepositoryFacts
    flux: tuple[int, int] = (2, 9)


Hit = tuple[str, int, str, str] | tuple[str, int, str, str, Severity]
"""File, line, why, remedy, and a severity where it is not the rule's own."""
ByCluster = Callable[[Cluster, Question], Iterable[Hit]]
ByRepository = Callable[[Question], Iterable[Hit]]


@dataclass(frozen=True)
class Rule:
    """One rule: its id, how bad a hit is, what is true when there is none, and how to look."""

    id: str
    severity: Severity
    sentence: str
    clusters: ByCluster | None = None
    repository: ByRepository | None = None

    def find(self, question: Question) -> Iterable[RepoFinding]:
        """Yield the rule's findings; an object in two clusters gives one."""
        hits: list[Hit] = list(self.repository(question)) if self.repository else []
        for cluster in question.facts.clusters if self.clusters else ():
            hits += self.clusters(cluster, question) if self.clusters else ()
        for file, line, why, remedy, *rest in hits:
            severity = rest[0] if rest else self.severity
            yield RepoFinding(file or ".", max(line, 1), self.id, severity, why, remedy)


RULES: dict[str, Rule] = {}
"""All rules by id, in the order in which the modules define them."""


@dataclass
class _Register:
    id: str
    severity: Severity
    sentence: str
    known: dict[str, Rule] = field(default_factory=lambda: RULES)

    def clusters(self, find: ByCluster) -> ByCluster:
        self.known[self.id] = Rule(self.id, self.severity, self.sentence, clusters=find)
        return find

    def repository(self, find: ByRepository) -> ByRepository:
        self.known[self.id] = Rule(self.id, self.severity, self.sentence, repository=find)
        return find


def rule(id_: str, severity: Severity, sentence: str) -> _Register:
    """Register a rule; its `clusters` or `repository` decorates the function that looks."""
    return _Register(id_, severity, sentence)


def at(resource: Resource, *steps: str | int) -> tuple[str, int]:
    """Return the place of a value in a resource."""
    return resource.file, resource.line_at(*steps)
