"""How old the newest backup of each volume is, measured by its own schedule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from labkit.facts.overview import BackupRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import draw_bars, draw_mark, label_scale, make_sheet, name_rows, say_rows
from labkit.report.health.words import days

_MOST = 3.0


def backup_light(row: BackupRow, now: datetime) -> Light:
    """Return how a volume's backups stand."""
    if row.new and not row.problem:
        return Light.GOOD
    if row.problem or row.last is None or row.is_late(now):
        return Light.ACT
    return Light.LOOK if row.every_hours is None else Light.GOOD


def backup_words(row: BackupRow, now: datetime) -> str:
    """Say how old the newest backup is, and how often there should be one."""
    age = row.hours(now)
    none = "none due yet" if row.new else "never backed up"
    text = none if age is None else f"{days(age / 24)} old"
    return text + (", no schedule" if row.every_hours is None else f", every {days(row.every_hours / 24)}")


def draw_backups(rows: Sequence[BackupRow], palette: Palette, now: datetime) -> Any:
    """Draw a bar per volume: 1 is when the next backup is due."""
    lights = [backup_light(row, now) for row in rows]
    figure, axes = make_sheet(palette, len(rows))
    draw_bars(axes, palette, [min(_MOST, _turns(row, now)) for row in rows], lights)
    for place, row in enumerate(rows):
        if row.last is None or row.every_hours is None:
            draw_mark(axes, palette, 0, place, lights[place])
    axes.set_xlim(0, _MOST)
    axes.set_xticks([0, 1, 2, 3], ["now", "due", "1 missed", "2 missed"])
    axes.axvline(1, color=palette.ink, linewidth=0.9, linestyle=(0, (3, 2)))
    name_rows(axes, palette, [row.volume for row in rows])
    say_rows(axes, palette, [backup_words(row, now) for row in rows], lights)
    label_scale(axes, palette, "age of the newest backup, in turns of its own schedule")
    return figure


def _turns(row: BackupRow, now: datetime) -> float:
    """How many turns of its schedule old the newest backup is; 0 for what has no bar."""
    age = row.hours(now)
    return age / row.every_hours if age is not None and row.every_hours else 0.0
