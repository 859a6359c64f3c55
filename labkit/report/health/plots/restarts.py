"""Which containers restart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from labkit.facts.overview import RestartRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import draw_bars, label_scale, make_sheet, name_rows, say_rows, scale_end
from labkit.report.health.words import ago

MANY = 5
"""Restarts since yesterday that need somebody."""


def restart_light(row: RestartRow) -> Light:
    """Return how a container stands, by its restarts since yesterday."""
    recent = row.recent or 0
    return Light.ACT if recent >= MANY else Light.LOOK if recent else Light.GOOD


def restart_words(row: RestartRow, now: datetime) -> str:
    """Say how often it restarted, and when last."""
    parts = [str(row.count)]
    parts += [f"{row.recent} since yesterday"] if row.recent else []
    parts += [f"last {ago(row.last, now)}"] if row.last else []
    return ", ".join(parts)


def draw_restarts(rows: Sequence[RestartRow], palette: Palette, now: datetime) -> Any:
    """Draw a bar per container; hatched is what restarted since yesterday."""
    lights = [restart_light(row) for row in rows]
    figure, axes = make_sheet(palette, len(rows))
    values = [float(row.count) for row in rows]
    draw_bars(axes, palette, values, lights)
    axes.set_xlim(0, scale_end(values, 1.0))
    axes.locator_params(axis="x", integer=True, nbins=5)
    name_rows(axes, palette, [row.name for row in rows])
    say_rows(axes, palette, [restart_words(row, now) for row in rows], lights)
    label_scale(axes, palette, "restarts since the pod was made; hatched: some since yesterday")
    return figure
