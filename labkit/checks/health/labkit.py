"""Health checks of labkit itself: do scheduled runs happen, is nothing left half-done, do references resolve. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from labkit.checks.backups import nothing_is_left
from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import ago
from labkit.checks.schedules import schedule_findings
from labkit.facts.endpoints import ReferenceFacts
from labkit.facts.schedules import ScheduleFacts
from labkit.plan import Severity


@health("labkit.schedules", Area.LABKIT, "every scheduled run happens and ends well", Severity.ERROR,
        reads=("schedules",))  # fmt: skip
def schedules(scene: Scene) -> Iterator[Found]:
    """Find runs that were missed, failed, or hang."""
    for one in schedule_findings(scene["schedules"]):
        yield Found(one.subject, one.expected, one.got, one.remedy, one.severity)


@health("labkit.last-run", Area.LABKIT, "the last run of every runbook ended well", Severity.INFO, reads=("schedules",))
def last_run(scene: Scene) -> Iterator[Found]:
    """Find runbooks whose last run on the lab was left unfinished: what it began may be half done."""
    facts: ScheduleFacts = scene["schedules"]
    for run in facts.runs:
        if run.on == "lab" and run.started is not None and not _went_well(run.started, run.success):
            yield Found(f"runbook {run.runbook}", "a last run that ended well",
                        f"one of {ago(run.started, scene.now)} that did not",
                        f"run {run.runbook} again: it goes on with what is left")  # fmt: skip


def _went_well(started: datetime, success: datetime | None) -> bool:
    return success is not None and success >= started


@health("labkit.leftovers", Area.LABKIT, "nothing is left of interrupted drills", Severity.WARNING,
        reads=("longhorn",))  # fmt: skip
def leftovers(scene: Scene) -> Iterator[Found]:
    """Find scratch volumes and backups that a drill did not come to remove."""
    for one in nothing_is_left().find(scene.facts):
        yield Found(one.subject, one.expected, one.got, one.remedy, one.severity)


@health("labkit.references", Area.LABKIT, "every secret reference of the lab file leads to something", Severity.WARNING,
        reads=("references",))  # fmt: skip
def references(scene: Scene) -> Iterator[Found]:
    """Find references that a runbook would stumble over on the day that it is needed."""
    facts: ReferenceFacts = scene["references"]
    for one in facts.references:
        if one.problem:
            yield Found(one.where, "a secret behind it", f"{one.reference}: {one.problem}",
                        "provide it, or correct the reference in the lab file")  # fmt: skip
