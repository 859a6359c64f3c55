"""Cover and proof of backups: a table, and a picture of each volume's backup age against its schedule. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pandas as pd

from labkit.errors import counted
from labkit.facts.coverage import Cover, Coverage, span
from labkit.report.picture import Picture

# Okabe-Ito, told apart by colour-blind people; the words beside the bars say the same.
_COLOUR = {Cover.ON_TIME: "#009E73", Cover.NEW: "#56B4E9", Cover.LATE: "#E69F00", Cover.NEVER: "#D55E00",
           Cover.NO_JOB: "#CC79A7", Cover.NO_TARGET: "#D55E00", Cover.ELSEWHERE: "#999999"}  # fmt: skip
_GIB = 1024**3
_HOUR = 3600.0


def coverage_table(rows: Iterable[Coverage]) -> pd.DataFrame:
    """Return one row per claim: where it lies, what backs it up, its newest backup, and when that was last proven."""
    table = pd.DataFrame([_row(row) for row in rows], columns=_HEAD)
    return table.set_index("claim").rename_axis(None)


_HEAD = ["claim", "lies on", "GiB", "backed up by", "newest", "cover", "proven"]


def _row(row: Coverage) -> dict[str, str]:
    lies_on = f"longhorn, {row.state}" if row.volume else row.lies_on or "nothing"
    return {
        "claim": row.id,
        "lies on": lies_on,
        "GiB": f"{row.size / _GIB:.0f}",
        "backed up by": ", ".join(row.jobs),
        "newest": f"{span(row.age)} old" if row.age is not None else "",
        "cover": str(row.cover) if row.volume else "",
        "proven": _proven(row),
    }


def _proven(row: Coverage) -> str:
    if not row.volume:
        return ""
    if row.proof is None:
        return "never"
    return f"{row.proof.at:%Y-%m-%d}" if row.proof.proven else f"no: {row.proof.at:%Y-%m-%d}"


def proof_table(rows: Iterable[Coverage]) -> pd.DataFrame:
    """Return one row per claim on Longhorn: what its latest drill, or the recovery that brought it back, has shown."""
    found = [
        {
            "claim": row.id,
            "proven": ("yes" if row.proof.proven else "no") if row.proof else "never",
            "on": f"{row.proof.at:%Y-%m-%d}" if row.proof else "",
            "blocks": str(row.proof.blocks) if row.proof and row.proof.blocks else "",
            "files": str(row.proof.files) if row.proof else "",
            "probe": row.proof.probe if row.proof else "",
            "problem": row.proof.problem if row.proof else "",
        }
        for row in rows
        if row.volume
    ]
    table = pd.DataFrame(found, columns=["claim", "proven", "on", "blocks", "files", "probe", "problem"])
    return table.set_index("claim").rename_axis(None)


def draw_coverage(rows: Iterable[Coverage], now: datetime | None = None) -> Picture:
    """Draw how old each claim's newest backup is, over what its schedule allows, with the day of its last proof."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import, and only pictures need it
    from matplotlib.patches import Patch  # noqa: PLC0415

    shown = [row for row in rows if row.volume]
    figure = Figure(figsize=(9.0, 1.3 + 0.42 * max(1, len(shown))), layout="constrained")
    axes = figure.add_subplot()
    longest = max((max(row.age or 0.0, row.allowed or 0.0) for row in shown), default=_HOUR) / _HOUR or 1.0
    for place, row in enumerate(shown):
        _draw_row(axes, -place, row, longest, now)
    axes.set_yticks([-place for place in range(len(shown))], [row.id for row in shown], fontsize=9)
    axes.set_xlim(0, longest * 1.45)
    axes.set_xlabel("hours since the newest backup; pale: what the schedule allows now", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    states = [cover for cover in Cover if any(row.cover is cover for row in shown)]
    handles = [Patch(facecolor=_COLOUR[cover], label=str(cover)) for cover in states]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    late = sum(row.cover not in (Cover.ON_TIME, Cover.NEW) for row in shown)
    figure.suptitle(f"Backups of {counted(len(shown), 'volume')}: {late} not as they should be", fontsize=11)
    return Picture(
        figure, f"backup age of {counted(len(shown), 'volume')} against their schedules, {late} too old or none"
    )


def _draw_row(axes: Any, y: int, row: Coverage, longest: float, now: datetime | None) -> None:
    colour = _COLOUR[row.cover]
    if row.allowed is not None:
        axes.barh(y, row.allowed / _HOUR, height=0.66, color=colour, alpha=0.18)
    if row.age is not None:
        axes.barh(y, max(row.age / _HOUR, longest * 0.004), height=0.34, color=colour)
    end = max(row.age or 0.0, row.allowed or 0.0) / _HOUR
    axes.text(end + longest * 0.015, y, _beside(row, now), va="center", fontsize=8, color="#333")


def _beside(row: Coverage, now: datetime | None) -> str:
    said = f"{span(row.age)}" if row.age is not None else str(row.cover)
    if row.missed and row.cover is Cover.LATE:
        said += f", {row.missed} missed"
    if row.proof is None:
        return f"{said}; never proven"
    if not row.proof.proven:
        return f"{said}; last drill failed"
    return f"{said}; proven {span((now - row.proof.at).total_seconds())} ago" if now else f"{said}; proven"
