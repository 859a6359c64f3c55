"""The parts of a report as a notebook shows them, each with a text for terminals and plain files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from labkit.errors import counted
from labkit.health import HealthFinding, HealthReport, Light
from labkit.plan import Severity
from labkit.report.health.grouping import group
from labkit.report.health.panels import Panel, lines
from labkit.report.health.words import MARKS, SEVERITY_MARKS, ago, area_name, moment_of
from labkit.report.html import Cell, box, table

_KINDS = {Light.GOOD: "good", Light.LOOK: "warn", Light.ACT: "bad", Light.UNKNOWN: "calm"}
_SEVERITIES = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.INFO: "calm"}


@dataclass(frozen=True)
class HeadlineView:
    """The sentence that the report opens with, and a light per area."""

    report: HealthReport

    def __repr__(self) -> str:
        rows = (f"  {MARKS[one.light][0]} {area_name(one.area)}: {self._said(one.area)}" for one in self.report.areas)
        return "\n".join([self.report.sentence, f"{self.report.score} of 100 points", *rows])

    def _said(self, area: str) -> str:
        one = next(one for one in self.report.areas if one.area == area)
        numbers = ((one.errors, "error"), (one.warnings, "warning"), (one.accepted, "accepted finding"))
        counts = [counted(number, word) for number, word in numbers if number]
        asked = f"{one.passed} of {counted(one.checks, 'check')} passed"
        blind = [f"{one.unasked} not asked"] if one.unasked else []
        return ", ".join([MARKS[one.light][1], *counts, asked, *blind])

    def _repr_html_(self) -> str:
        rows = [
            (Cell(MARKS[one.light][0], _KINDS[one.light]), Cell(area_name(one.area), "name"), self._said(one.area))
            for one in self.report.areas
        ]
        sentence = f'<p style="font-size:1.25em"><b>{escape(self.report.sentence)}</b></p>'
        return box(sentence, f"<p>{self.report.score} of 100 points</p>", table(("", "area", "how it stands"), rows))


@dataclass(frozen=True)
class NewsView:
    """What is different from the last report."""

    report: HealthReport

    def _groups(self) -> list[tuple[str, str, Sequence[HealthFinding]]]:
        moved = self.report.movement
        if moved is None:
            return []
        groups: list[tuple[str, str, Sequence[HealthFinding]]] = [
            ("new", "bad", moved.new), ("worse", "bad", moved.worse), ("better", "good", moved.better),
            ("gone", "good", moved.gone), ("not looked at", "calm", moved.unknown),
        ]  # fmt: skip
        return [group for group in groups if group[2]]

    def _head(self) -> str:
        if self.report.movement is None:
            return "this is the first report: there is none to compare it with"
        since = f"since {moment_of(self.report.movement.before)}"
        return f"new {since}" if self._groups() else f"nothing new {since}"

    def __repr__(self) -> str:
        rows = [f"  {word}: {one.subject}: {one.first.got}" for word, _, some in self._groups() for one in group(some)]
        return "\n".join([self._head(), *rows])

    def _repr_html_(self) -> str:
        rows = [
            (Cell(word, kind), one.subject, one.first.expected, one.first.got)
            for word, kind, some in self._groups() for one in group(some)
        ]  # fmt: skip
        body = table(("", "subject", "expected", "got"), rows) if rows else ""
        return box(f"<p><b>{escape(self._head())}</b></p>", body)


@dataclass(frozen=True)
class FindingsView:
    """All findings, the worst first, each with what to do; then those that the lab file accepts."""

    report: HealthReport

    def _rows(self) -> Iterable[tuple[str, str, HealthFinding]]:
        for found in group(self.report.findings):
            one = found.first.model_copy(update={"subject": found.subject})
            shape, word = SEVERITY_MARKS[one.severity]
            yield f"{shape} {word}", _SEVERITIES[one.severity], one

    def __repr__(self) -> str:
        rows = [f"{word}: {one}" for word, _, one in self._rows()]
        rows += [f"accepted until {one.until}: {one.finding}: {one.reason}" for one in self.report.accepted]
        return "\n".join(rows) or "no findings"

    def _repr_html_(self) -> str:
        if not self.report.findings and not self.report.accepted:
            return box('<p class="good">no findings</p>')
        rows = [
            (Cell(word, f"{kind} name"), one.subject, one.expected, one.got, one.remedy, self._since(one))
            for word, kind, one in self._rows()
        ]
        rows += [
            (Cell("accepted", "calm"), one.finding.subject, one.finding.expected, one.finding.got, one.reason,
             f"until {one.until}")
            for one in self.report.accepted
        ]  # fmt: skip
        return box(table(("", "subject", "expected", "got", "what to do", "since"), rows))

    def _since(self, one: HealthFinding) -> str:
        now = self.report.made_at
        return "new" if one.since is None or one.since >= now else ago(one.since, now)


@dataclass(frozen=True)
class ReadingView:
    """Which systems were read, and how long each took."""

    report: HealthReport

    def __repr__(self) -> str:
        rows = [f"{one.system}: {one.problem or f'read in {one.seconds:.1f} s'}" for one in self.report.cost.readings]
        return "\n".join([*rows, self._sum()])

    def _sum(self) -> str:
        cost = self.report.cost
        asked = ", ".join(f"{number} of {name}" for name, number in cost.requests.items())
        return f"all side by side in {cost.seconds:.1f} s; requests: {asked or 'none'}"

    def _repr_html_(self) -> str:
        rows: list[tuple[str | Cell, ...]] = [
            (one.system, Cell("could not be read", "bad") if one.problem else Cell("read", "good"), one.problem,
             Cell(f"{one.seconds:.1f} s", "num"))
            for one in self.report.cost.readings
        ]  # fmt: skip
        return box(table(("system", "", "", "took"), rows), f'<p class="calm">{escape(self._sum())}</p>')


@dataclass(frozen=True)
class PanelView:
    """A panel: its sentence and its table, and its plot below."""

    panel: Panel

    def __repr__(self) -> str:
        return "\n".join(lines(self.panel))

    def _repr_html_(self) -> str:
        panel = self.panel
        shown, left = panel.shown()
        rows: list[tuple[str | Cell, ...]] = [
            (Cell(MARKS[row.light][0], _KINDS[row.light]), *row.cells) for row in shown
        ]
        body = table(("", *panel.head), rows) if rows else ""
        more = f'<p class="calm">and {left} more, none of them worse</p>' if left else ""
        return box(f"<p><b>{escape(panel.says)}</b></p>", body, more)

    def _ipython_display_(self) -> None:
        from IPython.display import display  # noqa: PLC0415  # only there inside a kernel

        display({"text/plain": repr(self), "text/html": self._repr_html_()}, raw=True)
        if self.panel.plot is not None:
            display(self.panel.plot)
