"""The panels of the report: for each subject a sentence that says what matters, a table, and a plot. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from labkit.errors import counted
from labkit.facts.overview import Overview
from labkit.health import Light
from labkit.report.health.picture import Plot
from labkit.report.health.plots.backups import backup_light, backup_words, draw_backups
from labkit.report.health.plots.capacity import Fill, capacity_light, draw_capacity
from labkit.report.health.plots.certificates import (
    certificate_light,
    certificate_name,
    certificate_words,
    draw_certificates,
)
from labkit.report.health.plots.flux import STATES, draw_flux, flux_words, order_tree
from labkit.report.health.plots.replicas import draw_replicas, replica_light, replica_words
from labkit.report.health.plots.responses import draw_responses, response_light, response_words
from labkit.report.health.plots.restarts import draw_restarts, restart_light, restart_words
from labkit.report.health.plots.scores import draw_scores
from labkit.report.health.words import ago, day_of, days, size

MOST = 24
"""Rows that a table and a plot have at most; what is left out is the calm end, and its number is told."""


_CALM = 5
"""Rows of a table that are shown when none needs a look."""


@dataclass(frozen=True)
class Row:
    """One row of a panel's table, and how it stands."""

    light: Light
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """One subject.

    Attributes:
        name: of its plot, unique in a report.
        title: for people.
        says: one sentence.
        head: of the table, without the light.
        rows: the worst first, at most `MOST`.
        plot: None when there is nothing to draw.
        left_out: how many more there are.
    """

    name: str
    title: str
    says: str
    head: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    plot: Plot | None = None
    left_out: int = 0

    def shown(self) -> tuple[tuple[Row, ...], int]:
        """Return the rows that stand in a table beside the plot, and how many more there are.

        Everything that needs a look is shown, and of the rest, which the plot has as well, a few.
        """
        loud = sum(row.light is not Light.GOOD for row in self.rows)
        rows = self.rows[: max(loud, _CALM)] if self.plot is not None else self.rows
        return rows, len(self.rows) - len(rows) + self.left_out


_ROOM = Fill()


def make_panels(overview: Overview, now: datetime, fill: Fill = _ROOM) -> tuple[Panel, ...]:
    """Return the panels of a report, those without rows left out.

    Args:
        overview: the rows.
        now: the moment of the report.
        fill: from when on a storage counts as short of room.
    """
    made = (
        _capacity(overview, fill),
        _backups(overview, now),
        _certificates(overview, now),
        _restarts(overview, now),
        _flux(overview),
        _replicas(overview),
        _responses(overview),
        _scores(overview, now),
    )
    return tuple(_without_empty(panel) for panel in made if panel is not None)


def _without_empty(panel: Panel) -> Panel:
    """Return a panel without the columns that no row says anything in."""
    used = [place for place in range(len(panel.head)) if any(row.cells[place] for row in panel.rows)]
    rows = tuple(replace(row, cells=tuple(row.cells[place] for place in used)) for row in panel.rows)
    return replace(panel, head=tuple(panel.head[place] for place in used), rows=rows)


def _cut(rows: Sequence[Any], light: Callable[[Any], Light], order: Callable[[Any], Any]) -> tuple[list[Any], int]:
    """Return the rows that are shown, the worst first, and how many are left out."""
    ranked = sorted(rows, key=lambda row: (-light(row).rank, order(row)))
    return ranked[:MOST], max(0, len(ranked) - MOST)


def _says(bad: Sequence[Any], name: Callable[[Any], str], trouble: str, calm: str) -> str:
    """Say which rows are in trouble, or that all is calm."""
    if not bad:
        return calm
    shown = ", ".join(name(one) for one in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return f"{trouble}: {shown}{more}."


def _worse(rows: Sequence[Any], light: Callable[[Any], Light]) -> list[Any]:
    return [row for row in rows if light(row) is not Light.GOOD]


def _capacity(overview: Overview, fill: Fill) -> Panel | None:
    if not overview.capacity:
        return None

    def light(row: Any) -> Light:
        return capacity_light(row, fill)

    rows, left = _cut(overview.capacity, light, lambda row: (row.days_left or 1e9, -row.share))
    growing = [(row.days_left, row.name) for row in overview.capacity if row.days_left is not None]
    calm = f"All {len(overview.capacity)} have room."
    if growing:
        left_for, name = min(growing)
        calm += f" The first to be full is {name}, in {days(left_for)}."
    return Panel(
        "capacity", "Capacity", _says(_worse(rows, light), lambda row: row.name, "Short of room", calm),
        ("storage", "kind", "used", "of", "percent", "a day", "full in"),
        tuple(
            Row(light(row), (row.name, row.kind, size(row.used), size(row.total), f"{100 * row.share:.0f} %",
                             "" if row.per_day is None else "steady" if row.per_day == 0 else f"{_signed(row.per_day)}",
                             "" if row.days_left is None else days(row.days_left)))
            for row in rows
        ),
        Plot("capacity", "How full each storage is", lambda p: draw_capacity(rows, p, fill)), left,
    )  # fmt: skip


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−'}{size(abs(value))}"


def _backups(overview: Overview, now: datetime) -> Panel | None:
    if not overview.backups:
        return None

    def light(row: Any) -> Light:
        return backup_light(row, now)

    rows, left = _cut(overview.backups, light, lambda row: -(row.hours(now) or 1e9))
    waiting = sum(row.new for row in overview.backups)
    calm = f"The backups of {counted(len(overview.backups), 'volume')} are as new as their schedules ask for"
    calm += f"; {waiting} had none due yet." if waiting else "."
    return Panel(
        "backups", "Backups", _says(_worse(rows, light), lambda row: row.volume, "Without a timely backup", calm),
        ("volume", "newest backup", "copies", ""),
        tuple(
            Row(light(row), (row.volume, backup_words(row, now), str(row.copies or ""), row.problem)) for row in rows
        ),
        Plot("backups", "Age of each volume's newest backup against its schedule",
             lambda p: draw_backups(rows, p, now)), left,
    )  # fmt: skip


def _certificates(overview: Overview, now: datetime) -> Panel | None:
    if not overview.certificates:
        return None

    def light(row: Any) -> Light:
        return certificate_light(row, now)

    rows, left = _cut(overview.certificates, light, lambda row: row.expires)
    first = min(overview.certificates, key=lambda row: row.expires)
    calm = f"The first to end is {certificate_name(first)}, in {days(first.days(now))}."
    return Panel(
        "certificates", "Certificates", _says(_worse(rows, light), certificate_name, "Ending soon", calm),
        ("certificate", "kind", "left", "renewed by itself"),
        tuple(
            Row(light(row), (certificate_name(row), row.kind, certificate_words(row, now),
                             f"on {day_of(row.renews)}" if row.renews else ""))
            for row in rows
        ),
        Plot("certificates", "How long each certificate lasts", lambda p: draw_certificates(rows, p, now)), left,
    )  # fmt: skip


def _restarts(overview: Overview, now: datetime) -> Panel | None:
    restarted = [row for row in overview.restarts if row.count]
    if not overview.pods:
        return None
    if not restarted:
        return Panel("restarts", "Restarts", f"No container of {counted(overview.pods, 'pod')} was ever restarted.")
    rows, left = _cut(restarted, restart_light, lambda row: (-(row.recent or 0), -row.count))
    known = any(row.recent is not None for row in restarted)
    calm = f"{len(restarted)} of {counted(overview.pods, 'pod')} had restarts"
    calm += ", none since yesterday." if known else "; whether lately, the next report will tell."
    return Panel(
        "restarts", "Restarts", _says(_worse(rows, restart_light), lambda row: row.name, "Since yesterday", calm),
        ("pod", "restarts", "state"),
        tuple(Row(restart_light(row), (row.name, restart_words(row, now), row.reason)) for row in rows),
        Plot("restarts", "How often containers restarted", lambda p: draw_restarts(rows, p, now)), left,
    )  # fmt: skip


def _flux(overview: Overview) -> Panel | None:
    if not overview.flux:
        return None

    def light(row: Any) -> Light:
        return STATES[row.state]

    bad = [row for row in overview.flux if row.state != "ready"]
    calm = f"All {len(overview.flux)} objects are ready."
    tree = [row for _, row in order_tree(overview.flux)]
    return Panel(
        "flux", "Flux", _says(bad, lambda row: row.label, "Not ready", calm),
        ("object", "state", ""),
        tuple(Row(light(row), (row.label, row.state, flux_words(row))) for row in bad[:MOST]),
        Plot("flux", "Flux's objects as a tree, with their states", lambda p: draw_flux(tree[: 2 * MOST], p)),
        max(0, len(bad) - MOST),
    )  # fmt: skip


def _replicas(overview: Overview) -> Panel | None:
    if not overview.replicas:
        return None
    rows, left = _cut(overview.replicas, replica_light, lambda row: row.volume)
    calm = "Every volume has all its replicas, and no host has all of one volume's."
    hosts = overview.hosts or tuple(sorted({host for row in rows for host in row.hosts}))
    return Panel(
        "replicas", "Replicas by host", _says(_worse(rows, replica_light), lambda row: row.volume, "Short or on one "
        "host", calm),
        ("volume", "replicas", *hosts),
        tuple(
            Row(replica_light(row), (row.volume, replica_words(row), *(str(row.hosts.get(h) or "") for h in hosts)))
            for row in rows
        ),
        Plot("replicas", "On which host the replicas of each volume are", lambda p: draw_replicas(rows, hosts, p)),
        left,
    )  # fmt: skip


def _responses(overview: Overview) -> Panel | None:
    if not overview.responses:
        return None
    rows, left = _cut(overview.responses, response_light, lambda row: -row.now)
    slowest = max(overview.responses, key=lambda row: row.now)
    calm = f"All {counted(len(overview.responses), 'route')} answer; the slowest takes {slowest.now:.0f} ms."
    return Panel(
        "responses", "Response times", _says(_worse(rows, response_light), lambda row: row.host, "Slow or silent",
                                             calm),
        ("route", "answer", "status", ""),
        tuple(
            Row(response_light(row), (row.host, response_words(row), str(row.status or ""), row.problem))
            for row in rows
        ),
        Plot("responses", "How fast each route answers", lambda p: draw_responses(rows, p)), left,
    )  # fmt: skip


def _scores(overview: Overview, now: datetime) -> Panel | None:
    if len(overview.scores) < 2:
        return None
    first, last = overview.scores[0], overview.scores[-1]
    low = min(overview.scores, key=lambda row: row.score)
    says = f"{last.score} today; the lowest of {counted(len(overview.scores), 'report')} since "
    says += f"{day_of(first.at)} was {low.score}, {ago(low.at, now)}."
    plot = Plot("scores", "The score of each report over time", lambda p: draw_scores(overview.scores, p))
    return Panel("scores", "Score", says, plot=plot)


def find_panel(panels: Sequence[Panel], name: str) -> Panel:
    """Return a panel by its name; one that says that there is nothing to show when the report has none."""
    return next((panel for panel in panels if panel.name == name), Panel(name, name.capitalize(), NOTHING[name]))


NOTHING = {
    "capacity": "No storage was read.",
    "backups": "No volume with a backup schedule was read.",
    "certificates": "No certificate was read.",
    "restarts": "No pod was read.",
    "flux": "Flux was not read.",
    "replicas": "No volume of Longhorn was read.",
    "responses": "No route was read.",
    "scores": "This is the first report: the score has no past yet.",
}


def lines(panel: Panel) -> Iterator[str]:
    """Yield a panel as plain lines."""
    yield f"{panel.title}: {panel.says}"
    for row in panel.rows:
        yield "  " + "  ".join(cell for cell in (row.light.value, *row.cells) if cell)
    if panel.left_out:
        yield f"  and {panel.left_out} more"
