"""Where the replicas of volumes are, by physical host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.facts.overview import ReplicaRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import MARKER, SMALL, make_sheet, name_rows, say_rows


def replica_light(row: ReplicaRow) -> Light:
    """Return how a volume stands, by the number and the places of its replicas."""
    if row.count == 0 or row.state == "faulted":
        return Light.ACT
    return Light.LOOK if row.count < row.wanted or row.in_one_place else Light.GOOD


def replica_words(row: ReplicaRow) -> str:
    """Say how many replicas there are, and whether one host's loss would take them all."""
    text = f"{row.count} of {row.wanted}"
    if row.count and row.in_one_place:
        text += f", all on {next(host for host, number in row.hosts.items() if number)}"
    return text + (f", {row.state}" if row.state in ("degraded", "faulted") else "")


def draw_replicas(rows: Sequence[ReplicaRow], hosts: Sequence[str], palette: Palette) -> Any:
    """Draw a row per volume and a column per host, with a mark for each replica."""
    lights = [replica_light(row) for row in rows]
    figure, axes = make_sheet(palette, len(rows), bottom=0.08, top=0.28)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(-0.6, len(hosts) - 0.4)
    axes.set_xticks(range(len(hosts)), hosts, fontsize=SMALL, color=palette.ink)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0)
    for place, row in enumerate(rows):
        for column, host in enumerate(hosts):
            _draw_copies(axes, palette, (column, place), row.hosts.get(host, 0), lights[place])
    name_rows(axes, palette, [row.volume for row in rows])
    say_rows(axes, palette, [replica_words(row) for row in rows], lights)
    return figure


def _draw_copies(axes: Any, palette: Palette, at: tuple[int, int], number: int, light: Light) -> None:
    """Draw a mark per replica, side by side; a thin dash where there is none."""
    x, y = at
    if number == 0:
        axes.plot([x - 0.05, x + 0.05], [y, y], color=palette.line, linewidth=1.2)
    for turn in range(number):
        offset = (turn - (number - 1) / 2) * 0.16
        axes.plot([x + offset], [y], marker=MARKER[light], markersize=7, color=palette.of(light),
                  markeredgecolor=palette.ink, markeredgewidth=0.6, linestyle="none")  # fmt: skip
