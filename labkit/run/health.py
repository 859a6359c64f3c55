"""The health report as a run makes it: read, examine, keep, write, tell; nothing of the lab is changed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

from labkit.checks.health import all_checks
from labkit.checks.health.base import HISTORY, Scene
from labkit.checks.health.runner import UNREAD
from labkit.checks.health.runner import examine as ask_all
from labkit.errors import CheckFailed, InputError, LabError, Mistake, counted
from labkit.facts.history import HistoryFacts
from labkit.facts.overview import Overview, ScoreRow
from labkit.facts.survey import Unread
from labkit.health import FailOn, HealthReport
from labkit.history import FILE, History
from labkit.lab.health import Limits
from labkit.plan import Severity
from labkit.report.health.junit import junit_xml
from labkit.report.health.page import health_page
from labkit.report.health.panels import Panel, find_panel, make_panels
from labkit.report.health.plots.capacity import Fill
from labkit.report.health.prometheus import prometheus_text
from labkit.report.health.views import FindingsView, HeadlineView, NewsView, PanelView, ReadingView
from labkit.rules.overview import add_trends, make_overview, samples_of
from labkit.run.core import Run
from labkit.run.notify import Sent, notify
from labkit.secrets import redact

SECOND_LOOK = 30.0
"""Lab seconds after which new errors are looked at again."""
_LEAST_LOOK = 4.0
"""Real seconds."""
FOLDER = "health"
"""Under outputs/: the newest files of each lab under names that stay."""


@dataclass(frozen=True)
class Health:
    """A report with all that its tables and plots show.

    Attributes:
        report: what was found.
        overview: the rows of the tables and plots.
        previous: the last report, or None.
        panels: the tables and plots.
    """

    report: HealthReport
    overview: Overview
    previous: HealthReport | None = None
    panels: tuple[Panel, ...] = ()

    @property
    def headline(self) -> HeadlineView:
        """The opening sentence, and a light per area."""
        return HeadlineView(self.report)

    @property
    def news(self) -> NewsView:
        """What is new since the last report."""
        return NewsView(self.report)

    @property
    def findings(self) -> FindingsView:
        """All findings with their remedies."""
        return FindingsView(self.report)

    @property
    def reading(self) -> ReadingView:
        """Which systems were read."""
        return ReadingView(self.report)

    def panel(self, name: str) -> PanelView:
        """A table with its plot: capacity, backups, certificates, restarts, flux, replicas, responses, scores."""
        return PanelView(find_panel(self.panels, name))


@dataclass(frozen=True)
class Published:
    """What was written and told.

    Attributes:
        files: by name, with their sizes in bytes.
        kept: why the history could not be kept; empty when it was.
        sent: what became of the messages; None when none were asked for.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    kept: str = ""
    sent: Sent | None = None

    def __repr__(self) -> str:
        names = ", ".join(self.files)
        rows = [f"written: {names}", f"history: {self.kept or 'kept'}"]
        rows.append("messages: not asked for" if self.sent is None else f"messages: {self.sent}")
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        from labkit.report.html import box, table  # noqa: PLC0415  # display only

        rows = [line.partition(": ")[::2] for line in repr(self).splitlines()]
        return box(table(("", ""), rows))


def examine(run: Run, *, fail_on: str = "") -> Health:
    """Read all systems, ask every check, and compare with the last report; nothing is written but the run's own files.

    Systems behind an error that the last report did not have are read a second time, half a minute later: a pod that
    is just being moved is no reason to wake anybody.

    Args:
        run: of the runbook.
        fail_on: info, warning, error or never; the lab file's when empty.

    Raises:
        InputError: `fail_on` is none of these.
    """
    wanted = check_fail_on(fail_on)
    history, now = history_of(run), datetime.now(UTC)
    survey = run.survey()
    facts = dict(survey.facts)
    previous: HealthReport | None = None
    try:
        previous, facts[HISTORY] = history.last(), history.read(now)
    except LabError as exc:
        facts[HISTORY] = Unread(system=HISTORY, reason=exc.message, next_step=exc.next_step)
    ask = partial(ask_all, checks=all_checks(), cost=survey.cost, previous=previous, fail_on=wanted, on=run.on)
    report = ask(Scene(run.lab, facts, now))
    if names := _worth_a_second_look(report, previous):
        clock = run.access.clock  # on a fast twin, too, a real program needs a moment to come up
        clock.sleep(clock.real(SECOND_LOOK, least=_LEAST_LOOK) / clock.scale)
        facts |= run.survey(*names).facts
        report = ask(Scene(run.lab, facts, datetime.now(UTC)))
    overview = _overview(run, facts, report)
    panels = make_panels(overview, report.made_at, _fill(run.lab.health.limits))
    run.journal.write("reported", sentence=report.sentence, score=report.score, light=report.light)
    return Health(report, overview, previous, panels)


def _fill(limits: Limits) -> Fill:
    storage, trends = limits.proxmox, limits.trends
    return Fill(storage.storage_percent, storage.storage_full_percent, trends.full_days, trends.full_soon_days)


def _worth_a_second_look(report: HealthReport, previous: HealthReport | None) -> tuple[str, ...]:
    """Return the systems behind errors that the last report did not have: what is just in motion is no news."""
    known = {one.key for one in previous.findings} if previous else set()
    fresh = [one for one in report.findings if one.severity is Severity.ERROR and one.key not in known]
    reads = {check.id: check.reads for check in all_checks()}
    names = [name for one in fresh for name in reads.get(one.id, ())]
    names += [one.subject.removeprefix("system ") for one in fresh if one.id == UNREAD]
    asked = {one.system for one in report.cost.readings}
    return tuple(name for name in dict.fromkeys(names) if name in asked)


def _overview(run: Run, facts: Mapping[str, Any], report: HealthReport) -> Overview:
    past = facts[HISTORY] if isinstance(facts[HISTORY], HistoryFacts) else HistoryFacts()
    latest = ScoreRow(at=report.made_at, score=report.score, light=report.light)
    overview = add_trends(make_overview(run.lab, facts), past, report.made_at)
    return overview.model_copy(update={"scores": (*overview.scores, latest)})


def check_fail_on(text: str) -> FailOn | None:
    """Return `fail_on` when it is one of its words, None when it is empty; raise InputError otherwise."""
    if not text:
        return None
    found = next((word for word in get_args(FailOn) if word == text), None)
    if found is None:
        words = ", ".join(get_args(FailOn))
        raise InputError([Mistake("parameters", 0, 0, "fail_on", f"empty, or one of {words}", repr(text))])
    return found  # type: ignore[no-any-return]  # a word of the Literal


def history_of(run: Run) -> History:
    """Return the history that a run belongs to.

    On the lab it is one file for all labs of an outputs folder. A twin has a past of its own: it lies in the twin's
    folder and goes with it.
    """
    home = run.outputs if run.on == "lab" else run.access.state
    return History(home / FILE, run.lab.name, run.on)


def publish(run: Run, health: Health, *, notify_people: bool = False) -> Published:
    """Write the report as HTML, JSON, JUnit and Prometheus, keep it in the history, and tell people if asked to.

    The files are `health.html`, `health.json`, `health.junit.xml` and `health.prom` in the run's folder; on the lab
    also `outputs/health/<lab>.html` and so on, which always hold the newest.
    """
    report, overview = health.report, health.overview
    both = report.model_dump(mode="json") | {"overview": overview.model_dump(mode="json")}
    texts = {
        "html": health_page(report, health.panels),
        "json": _json(both),
        "junit.xml": junit_xml(report),
        "prom": prometheus_text(report, overview),
    }
    sizes = {}
    for kind, text in texts.items():
        clean = redact(text)
        places = [run.folder / f"health.{kind}"]
        places += [run.outputs / FOLDER / f"{run.lab.name}.{kind}"] if run.on == "lab" else []
        for place in places:
            write_whole(place, clean)
        sizes[f"health.{kind}"] = len(clean.encode())
    kept = _keep(run, health)
    sent = _tell(run, health) if notify_people else None
    run.journal.write("published", files=sizes, history=kept or "kept", messages=str(sent) if sent else "not asked for")
    return Published(sizes, kept, sent)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1) + "\n"


def _keep(run: Run, health: Health) -> str:
    """Add the report to the history; return why that was not possible."""
    try:
        history_of(run).add(health.report, samples_of(health.overview))
    except LabError as exc:
        return str(exc)
    return ""


def _tell(run: Run, health: Health) -> Sent:
    before = health.previous.findings if health.previous else ()
    page = run.folder / "health.html"
    return notify(run.lab, run.access, before, health.report.findings, title=f"Lab {run.lab.name}", html=page)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a half: node_exporter may look at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def judge(run: Run, health: Health) -> None:
    """Note the findings in the run's summary, and end the run with exit status 1 when some are severe enough.

    Raises:
        CheckFailed: findings at or above `fail_on`.
    """
    report = health.report
    failing = report.failing
    error = None
    if failing:
        lines = [report.sentence, *(f"  {one.severity}: {one}" for one in failing)]
        least = f"{counted(len(failing), 'finding')} at or above {report.fail_on}"
        error = CheckFailed("\n".join(lines), next_step=f"{least}: do what they name, then report again")
    facts = {"score": report.score, "light": report.light.value, "sentence": report.sentence}
    run.judge(report.findings, error=error, health=facts)
