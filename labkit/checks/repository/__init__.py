"""Check a GitOps repository: facts in, findings with file, line, reason and remedy out. Pure."""

from __future__ import annotations

from labkit.checks.repository import (  # noqa: F401  # each module registers its rules
    authelia,
    builds,
    floating,
    graph,
    ingress,
    plaintext,
    sops,
    storage,
    versions,
)
from labkit.checks.repository.finding import RULES, Question, RepoFinding, Rule
from labkit.facts.repository import RepositoryFacts

__all__ = ["RULES", "RepoFinding", "Rule", "check_repository"]


def check_repository(facts: RepositoryFacts, *, flux: tuple[int, int] = (2, 9)) -> tuple[RepoFinding, ...]:
    """Ask all rules.

    Args:
        facts: what `read_repository` read.
        flux: major and minor of the Flux that the cluster runs or shall run.

    Returns:
        Every finding once, by file and line.
    """
    question = Question(facts, flux)
    return tuple(sorted({finding for one in RULES.values() for finding in one.find(question)}))
