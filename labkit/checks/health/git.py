"""Health checks of the Git repository: what `labkit check repo` finds in it, one check for each of its rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labkit.checks.health.base import Area, Found, Look, Scene, health
from labkit.checks.repository import RULES
from labkit.checks.repository.finding import Question, Rule
from labkit.checks.repository.versions import parse_flux
from labkit.facts.git import GitFacts
from labkit.plan import Severity

READS = ("git",)


def seen(scene: Scene) -> GitFacts:
    """Return the facts of the repository."""
    facts: GitFacts = scene["git"]
    return facts


@health("git.branch", Area.GIT, "the branch that Flux follows exists", Severity.ERROR, reads=READS)
def branch_exists(scene: Scene) -> Iterator[Found]:
    """Find a branch that is gone, or a path of the lab file that no cluster begins at."""
    facts = seen(scene)
    if not facts.head:
        yield Found(f"branch {facts.branch}", "a commit", f"none at {facts.url}", "correct git.branch, or push it")
    elif facts.cluster is None:
        yield Found(f"path {scene.lab.git.path}", "the entry of a cluster in the repository", "none",
                    "run bootstrap-flux, or correct git.path of the lab file")  # fmt: skip


def _look(rule: Rule) -> Look:
    """Return what asks one rule of the repository checker."""

    def look(scene: Scene) -> Iterable[Found]:
        facts = seen(scene)
        version = parse_flux(facts.flux_version) if facts.flux_version else None
        question = Question(facts.repository, version) if version else Question(facts.repository)
        for hit in sorted(set(rule.find(question))):
            yield Found(f"{hit.file}:{hit.line}", rule.sentence, hit.why, hit.remedy, hit.severity)

    return look


for _rule in RULES.values():
    health(f"git.{_rule.id}", Area.GIT, _rule.sentence, _rule.severity, reads=READS)(_look(_rule))
