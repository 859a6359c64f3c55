"""Flux's objects as the tree that they form: what comes from what, and where it stops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labkit.facts.overview import FluxRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import SMALL, draw_mark, make_sheet, say_rows
from labkit.report.health.words import shorten

STATES = {"ready": Light.GOOD, "working": Light.UNKNOWN, "suspended": Light.LOOK, "failed": Light.ACT}
_STEP = 0.028
_NAME, _WORDS = 46, 44


def order_tree(rows: Sequence[FluxRow]) -> list[tuple[int, FluxRow]]:
    """Return the rows with their depth, each once and below its parent; one whose parent is not there stands on top.

    Of rows that wait for each other in a circle, the first stands on top.
    """
    known, left = {row.id for row in rows}, dict.fromkeys(row.id for row in rows)
    below: dict[str, list[FluxRow]] = {}
    for row in rows:
        below.setdefault(row.parent if row.parent in known else "", []).append(row)
    found = [pair for root in below.get("", ()) for pair in _walk(below, root, 0, left)]
    return found + [pair for row in rows if row.id in left for pair in _walk(below, row, 0, left)]


def _walk(
    below: dict[str, list[FluxRow]], row: FluxRow, depth: int, left: dict[str, None]
) -> Iterator[tuple[int, FluxRow]]:
    if row.id not in left:
        return
    del left[row.id]
    yield depth, row
    for child in below.get(row.id, ()):
        yield from _walk(below, child, depth + 1, left)


def flux_words(row: FluxRow) -> str:
    """Say what is wrong with an object, or which revision it has."""
    return row.problem or ("" if row.state == "ready" else row.state) or row.revision


def draw_flux(rows: Sequence[FluxRow], palette: Palette) -> Any:
    """Draw the tree, a row per object, with its state as a mark."""
    tree = order_tree(rows)
    lights = [STATES[row.state] for _, row in tree]
    figure, axes = make_sheet(palette, len(tree), left=0.02, right=0.4, bottom=0.1)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, 0.6)
    _draw_branches(axes, palette, tree)
    for place, (depth, row) in enumerate(tree):
        draw_mark(axes, palette, 0.01 + depth * _STEP, place, lights[place])
        axes.annotate(shorten(row.label, _NAME - 2 * depth), (0.01 + depth * _STEP, place), xytext=(8, 0),
                      textcoords="offset points", va="center", fontsize=SMALL + 0.5, color=palette.ink)  # fmt: skip
    say_rows(axes, palette, [shorten(flux_words(row), _WORDS) for _, row in tree], lights)
    return figure


def _draw_branches(axes: Any, palette: Palette, tree: Sequence[tuple[int, FluxRow]]) -> None:
    last: dict[int, int] = {}
    for place, (depth, _) in enumerate(tree):
        if depth:
            x, parent = 0.01 + (depth - 1) * _STEP, last[depth - 1]
            axes.plot([x, x, x + _STEP], [parent, place, place], color=palette.muted, linewidth=0.7, zorder=1)
        last[depth] = place
