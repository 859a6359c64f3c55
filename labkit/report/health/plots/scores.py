"""The score over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from labkit.facts.overview import ScoreRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import SMALL, WIDTH, draw_mark

_HEIGHT = 1.7
_TICKS = 5
_MARKS = 60
"""Reports from which on marks would hide the line."""


def draw_scores(rows: Sequence[ScoreRow], palette: Palette) -> Any:
    """Draw the score of each report as a line, with the light of the report as a mark."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import

    figure = Figure(figsize=(WIDTH, _HEIGHT), facecolor=palette.paper)
    axes = figure.add_axes((0.06, 0.2, 0.91, 0.72))
    axes.set_facecolor(palette.paper)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(palette.line)
    axes.plot([_day(row.at) for row in rows], [row.score for row in rows], color=palette.ink, linewidth=1.1)
    for row in rows if len(rows) <= _MARKS else rows[-1:]:
        draw_mark(axes, palette, _day(row.at), row.score, Light(row.light), size=5.0)
    axes.set_ylim(0, 104)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.grid(visible=True, axis="y", color=palette.line, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=palette.muted, labelsize=SMALL, length=2)
    ticks = _ticks(rows[0].at, rows[-1].at)
    form = "%Y-%m-%d" if rows[-1].at - rows[0].at > timedelta(days=2) else "%H:%M"
    axes.set_xticks([_day(tick) for tick in ticks], [tick.strftime(form) for tick in ticks])
    return figure


def _ticks(first: datetime, last: datetime) -> list[datetime]:
    return [first + (last - first) * part / (_TICKS - 1) for part in range(_TICKS)]


def _day(moment: datetime) -> float:
    return moment.timestamp() / 86400
