"""What the plots share: a sheet of rows with names on the left, bars or marks in the middle, words on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.words import shorten

WIDTH = 7.6
ROW = 0.27
HATCH = {Light.GOOD: "", Light.LOOK: "////", Light.ACT: "xxxx", Light.UNKNOWN: "...."}
MARKER = {Light.GOOD: "o", Light.LOOK: "^", Light.ACT: "s", Light.UNKNOWN: "D"}
SMALL = 8.0
_NAME = 30
_WORDS = 42


def make_sheet(
    palette: Palette, count: int, *, left: float = 0.275, right: float = 0.325, top: float = 0.1, bottom: float = 0.42
) -> tuple[Any, Any]:
    """Return a figure and its axes with room for so many rows.

    Args:
        palette: the colours.
        count: how many rows.
        left: the share of the width that the names take.
        right: the share that the words take.
        top: inches above the rows.
        bottom: inches below them, for the scale.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import, and only plots need it

    height = count * ROW + top + bottom
    figure = Figure(figsize=(WIDTH, height), facecolor=palette.paper)
    axes = figure.add_axes((left, bottom / height, 1 - left - right, count * ROW / height))
    axes.set_facecolor(palette.paper)
    axes.set_ylim(count - 0.5, -0.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.line)
    axes.tick_params(axis="x", colors=palette.muted, labelsize=SMALL, length=2)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color=palette.line, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def name_rows(axes: Any, palette: Palette, names: Sequence[str]) -> None:
    """Write the names of the rows on the left."""
    axes.set_yticks(range(len(names)), [shorten(name, _NAME) for name in names], fontsize=SMALL + 0.5,
                    color=palette.ink)  # fmt: skip


def say_rows(axes: Any, palette: Palette, words: Sequence[str], lights: Sequence[Light] = ()) -> None:
    """Write words beside the rows on the right; those of rows that need somebody stand out."""
    for row, text in enumerate(words):
        loud = bool(lights) and lights[row] in (Light.ACT, Light.LOOK)
        axes.annotate(shorten(text, _WORDS), (1, row), xycoords=("axes fraction", "data"), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=SMALL, annotation_clip=False,
                      color=palette.ink if loud else palette.muted, weight="bold" if loud else "normal")  # fmt: skip


def draw_bars(axes: Any, palette: Palette, values: Sequence[float], lights: Sequence[Light]) -> None:
    """Draw a bar per row; what needs somebody is hatched, so that it shows without colour."""
    for light in dict.fromkeys(lights):
        rows = [row for row, one in enumerate(lights) if one is light]
        axes.barh(rows, [values[row] for row in rows], height=0.62, color=palette.of(light), edgecolor=palette.ink,
                  linewidth=0.6, hatch=HATCH[light])  # fmt: skip


def label_scale(axes: Any, palette: Palette, text: str) -> None:
    """Name the scale below the rows."""
    axes.set_xlabel(text, fontsize=SMALL, color=palette.muted, labelpad=3)


def draw_mark(axes: Any, palette: Palette, x: float, y: float, light: Light, *, size: float = 6.0) -> None:
    """Draw a mark: its shape says the same as its colour."""
    axes.plot([x], [y], marker=MARKER[light], markersize=size, color=palette.of(light), markeredgecolor=palette.ink,
              markeredgewidth=0.6, linestyle="none", clip_on=False, zorder=5)  # fmt: skip


def scale_end(values: Sequence[float], least: float) -> float:
    """Return where a scale that begins at 0 should end."""
    return max([*values, least]) * 1.06
