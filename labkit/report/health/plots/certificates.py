"""How long certificates last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from labkit.facts.overview import CertificateRow
from labkit.health import Light
from labkit.report.health.palette import Palette
from labkit.report.health.plots.sheet import draw_bars, label_scale, make_sheet, name_rows, say_rows, scale_end
from labkit.report.health.words import day_of, days

SOON, VERY_SOON = 30.0, 7.0
"""Days until its end from which on a certificate is worth a look, and from which on it needs somebody."""
_MOST = 400.0


def certificate_light(row: CertificateRow, now: datetime) -> Light:
    """Return how a certificate stands; one that is renewed by itself counts only once that should have happened."""
    left = row.days(now)
    if left < VERY_SOON and (row.renews is None or row.renews < now):
        return Light.ACT
    overdue = row.renews is not None and row.renews < now
    return Light.LOOK if overdue or (row.renews is None and left < SOON) else Light.GOOD


def certificate_words(row: CertificateRow, now: datetime) -> str:
    """Say when it ends."""
    left = row.days(now)
    return f"ended {days(-left)} ago" if left < 0 else f"{days(left)}, until {day_of(row.expires)}"


def certificate_name(row: CertificateRow) -> str:
    """Return its name, with how many others share it."""
    return f"{row.name} and {row.also} more" if row.also else row.name


def draw_certificates(rows: Sequence[CertificateRow], palette: Palette, now: datetime) -> Any:
    """Draw a bar per certificate from today to its end; a tick shows when it renews itself."""
    lights = [certificate_light(row, now) for row in rows]
    figure, axes = make_sheet(palette, len(rows))
    lasts = [min(_MOST, max(0.0, row.days(now))) for row in rows]
    draw_bars(axes, palette, lasts, lights)
    for place, row in enumerate(rows):
        if row.renews is not None and row.renews > now:
            at = (row.renews - now).total_seconds() / 86400
            axes.plot([at, at], [place - 0.42, place + 0.42], color=palette.ink, linewidth=1.6)
    axes.set_xlim(0, scale_end(lasts, SOON))
    axes.axvline(SOON, color=palette.ink, linewidth=0.9, linestyle=(0, (3, 2)))
    name_rows(axes, palette, [certificate_name(row) for row in rows])
    say_rows(axes, palette, [certificate_words(row, now) for row in rows], lights)
    ticks = "; a tick: renewed by itself" if any(row.renews for row in rows) else ""
    label_scale(axes, palette, f"days that are left, at most {_MOST:.0f} shown; the dashed line is {SOON:.0f}{ticks}")
    return figure
