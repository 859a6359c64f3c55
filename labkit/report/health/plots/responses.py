"""How fast routes answer, beside how fast they usually do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.facts.overview import ResponseRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import draw_mark, label_scale, make_sheet, name_rows, say_rows

_SLOW = 2.0
_NOTICED = 200.0
"""Milliseconds below which nobody notices that something is slower than usual."""


def response_light(row: ResponseRow) -> Light:
    """Return how a route stands: no answer, slower than twice its usual worst, or as ever."""
    if row.problem or row.status >= 500:
        return Light.ACT
    return Light.LOOK if row.high is not None and row.now > max(_NOTICED, _SLOW * row.high) else Light.GOOD


def response_words(row: ResponseRow) -> str:
    """Say how fast it answered, and how fast it usually does."""
    if row.problem:
        return "no valid answer"
    usual = "" if row.median is None else f", usually {_time(row.median)}"
    return f"{_time(row.now)}{usual}"


def draw_responses(rows: Sequence[ResponseRow], palette: Palette) -> Any:
    """Draw a mark per route on a logarithmic scale; the grey band is the usual span."""
    lights = [response_light(row) for row in rows]
    figure, axes = make_sheet(palette, len(rows))
    axes.set_xscale("log")
    for place, row in enumerate(rows):
        if row.low is not None and row.median is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=palette.line, linewidth=6, solid_capstyle="butt")
            axes.plot([row.median] * 2, [place - 0.25, place + 0.25], color=palette.muted, linewidth=1.4)
        draw_mark(axes, palette, max(1.0, row.now), place, lights[place])
    values = [value for row in rows for value in (row.now, row.low, row.high) if value]
    axes.set_xlim(max(0.5, min(values, default=1.0) / 1.6), max([*values, 100.0]) * 1.6)
    ticks = [tick for tick in (1, 10, 100, 1000, 10000) if _within(tick, axes.get_xlim())]
    axes.set_xticks(ticks, [_time(tick) for tick in ticks])
    axes.minorticks_off()
    name_rows(axes, palette, [row.host for row in rows])
    say_rows(axes, palette, [response_words(row) for row in rows], lights)
    band = "; grey: the usual span of the last weeks" if any(row.median is not None for row in rows) else ""
    label_scale(axes, palette, f"time to answer{band}")
    return figure


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _time(milliseconds: float) -> str:
    if milliseconds < 995:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.1f} s".replace(".0 s", " s")
