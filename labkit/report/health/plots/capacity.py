"""How full storages are, and when they will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.facts.overview import CapacityRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import draw_bars, label_scale, make_sheet, name_rows, say_rows
from labkit.report.health.words import days, size


@dataclass(frozen=True)
class Fill:
    """From when on a storage counts as short of room.

    Attributes:
        high: percent from which on it is worth a look.
        full: percent from which on it needs somebody.
        soon: days until it is full from which on it is worth a look.
        very_soon: days until it is full from which on it needs somebody.
    """

    high: int = 85
    full: int = 95
    soon: int = 30
    very_soon: int = 7


def capacity_light(row: CapacityRow, fill: Fill) -> Light:
    """Return how a storage stands, by its fill and by the days that are left."""
    left = row.days_left if row.days_left is not None else float("inf")
    if 100 * row.share >= fill.full or left < fill.very_soon:
        return Light.ACT
    return Light.LOOK if 100 * row.share >= fill.high or left < fill.soon else Light.GOOD


def capacity_words(row: CapacityRow) -> str:
    """Say how much of it is used, and when it is full."""
    text = f"{size(row.used)} of {size(row.total)}"
    return text if row.days_left is None else f"{text}, full in {days(row.days_left)}"


def draw_capacity(rows: Sequence[CapacityRow], palette: Palette, fill: Fill) -> Any:
    """Draw a bar per storage from empty to full."""
    lights = [capacity_light(row, fill) for row in rows]
    figure, axes = make_sheet(palette, len(rows))
    draw_bars(axes, palette, [100 * row.share for row in rows], lights)
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.axvline(fill.high, color=palette.ink, linewidth=0.9, linestyle=(0, (3, 2)))
    name_rows(axes, palette, [row.name for row in rows])
    say_rows(axes, palette, [capacity_words(row) for row in rows], lights)
    label_scale(axes, palette, f"percent used; a warning from the dashed line at {fill.high} on")
    return figure
