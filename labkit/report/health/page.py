"""The report as one HTML file that mail programs show well: tables, inline styles, no script, nothing to fetch. Pure.

What a program that ignores style sheets shows is the light variant; others follow the reader's light or dark.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from html import escape

from labkit.errors import counted
from labkit.health import HealthFinding, HealthReport, Light, Outcome
from labkit.plan import Severity
from labkit.report.health.grouping import Group, group
from labkit.report.health.palette import DARK, LIGHT
from labkit.report.health.panels import Panel
from labkit.report.health.words import MARKS, SEVERITY_MARKS, ago, area_name, moment_of

Embed = Callable[[str, bytes], str]
"""Turns the name and the bytes of a picture into the address that stands in the page."""
_FONT = "-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_BACK, _DARK_BACK = "#f3f5f7", "#0d1014"
_LIGHTS = {Severity.ERROR: Light.ACT, Severity.WARNING: Light.LOOK, Severity.INFO: Light.UNKNOWN}
_TEXT: Mapping[Light, str] = {Light.GOOD: "#00558a", Light.LOOK: "#8a5a00", Light.ACT: "#a84300",
                              Light.UNKNOWN: LIGHT.muted}  # fmt: skip
"""The colours of the lights as text on white: darker than in the plots, to be read easily."""


def embed_data(_name: str, png: bytes) -> str:
    """Return a picture as a data address, for a page that is one file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def health_page(report: HealthReport, panels: Sequence[Panel], *, embed: Embed = embed_data) -> str:
    """Return the page.

    Args:
        report: what was found.
        panels: tables and plots.
        embed: where the pictures of the plots go; for a mail it may return `cid:` addresses and keep the bytes.
    """
    body = "".join((
        _opening(report), _lights(report), _news(report), _findings(report), _accepted(report),
        *(_panel(panel, embed) for panel in panels), _checks(report), _reading(report),
    ))  # fmt: skip
    title = escape(f"Health of lab {report.lab}: {MARKS[report.light][1]}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f"<style>{_style()}</style></head>"
        f'<body class="lk-back" style="margin:0;padding:0;background:{_BACK};color:{LIGHT.ink};'
        f'font:15px/1.5 {_FONT}">'
        '<table role="presentation" width="100%" cellspacing="0" cellpadding="0"><tr>'
        '<td align="center" style="padding:20px 10px">'
        f'<table role="presentation" class="lk-paper" width="100%" cellspacing="0" cellpadding="0" '
        f'style="max-width:820px;background:{LIGHT.paper};border:1px solid {LIGHT.line};border-radius:8px">'
        f'<tr><td class="lk-pad" style="padding:26px 30px;text-align:left">{body}</td></tr></table>'
        "</td></tr></table></body></html>\n"
    )


def _style() -> str:
    """What follows the reader's screen; everything else is inline."""
    dark = "".join(f".lk-{light.value}{{color:{DARK.of(light)}!important}}" for light in Light)
    return (
        ":root{color-scheme:light dark}img{max-width:100%;height:auto}"
        "@media(max-width:560px){.lk-pad{padding:16px 14px!important}}"
        "@media screen and (prefers-color-scheme:dark){"
        f".lk-back{{background:{_DARK_BACK}!important;color:{DARK.ink}!important}}"
        f".lk-paper{{background:{DARK.paper}!important;border-color:{DARK.line}!important}}"
        f".lk-ink{{color:{DARK.ink}!important}}.lk-muted{{color:{DARK.muted}!important}}"
        f".lk-line{{border-color:{DARK.line}!important}}{dark}}}"
        "@media print{.lk-back{background:#fff!important}.lk-paper{border:0!important;max-width:none!important}"
        ".lk-keep{break-inside:avoid}}"
    )


def _p(text: str, *, style: str = "", kind: str = "") -> str:
    return f'<p class="{kind}" style="margin:0 0 8px;{style}">{text}</p>'


def _muted(text: str, style: str = "") -> str:
    return f'<span class="lk-muted" style="color:{LIGHT.muted};{style}">{text}</span>'


def _head(text: str) -> str:
    return (
        f'<h2 class="lk-ink lk-line" style="font-size:17px;line-height:1.3;margin:30px 0 10px;padding-top:14px;'
        f'border-top:1px solid {LIGHT.line};color:{LIGHT.ink}">{escape(text)}</h2>'
    )


def _mark(light: Light, text: str = "", *, shape: str = "") -> str:
    """A shape in its colour, and words beside it."""
    words = f" {escape(text)}" if text else ""
    return (
        f'<span class="lk-{light.value}" style="color:{_TEXT[light]};font-weight:600;white-space:nowrap">'
        f"{shape or MARKS[light][0]}{words}</span>"
    )


def _opening(report: HealthReport) -> str:
    where = " on the twin" if report.on == "twin" else ""
    head = _muted(escape(f"Health of lab {report.lab}{where}, {moment_of(report.made_at)}"), "font-size:13px")
    score = f"<b>{report.score}</b> of 100 points"
    if report.movement is not None and report.movement.score != report.score:
        step = report.score - report.movement.score
        score += f", {'▲' if step > 0 else '▼'} {abs(step)} since {escape(moment_of(report.movement.before))}"
    return (
        _p(head) + f'<h1 class="lk-ink" style="font-size:22px;line-height:1.35;margin:0 0 8px;font-weight:600;'
        f'color:{LIGHT.ink}">{_mark(report.light)} {escape(report.sentence)}</h1>' + _p(_muted(score))
    )


def _lights(report: HealthReport) -> str:
    cells = [_area(one.area, one.light, one.errors, one.warnings) for one in report.areas]
    rows = (cells[start : start + 5] for start in range(0, len(cells), 5))
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<table role="presentation" class="lk-keep" width="100%" cellspacing="0" cellpadding="0" '
        f'style="margin:14px 0 4px;table-layout:fixed">{body}</table>'
    )


def _area(area: str, light: Light, errors: int, warnings: int) -> str:
    counts = [counted(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    words = [MARKS[light][1]] if light is Light.UNKNOWN or not counts else []
    said = ", ".join([*words, *counts])
    return (
        f'<td style="padding:6px 6px 6px 0;vertical-align:top;width:20%"><b class="lk-ink">{escape(area_name(area))}'
        f'</b><br><span style="font-size:13px">{_mark(light, said)}</span></td>'
    )


def _news(report: HealthReport) -> str:
    moved = report.movement
    if moved is None:
        return _head("What is new") + _p(_muted("This is the first report: there is none to compare it with."))
    parts = [
        _news_list("New", moved.new), _news_list("Worse", moved.worse), _news_list("Better", moved.better),
        _news_list("Gone", moved.gone, good=True), _news_list("Could not be looked at again", moved.unknown),
    ]  # fmt: skip
    said = "".join(parts) or _p(_muted("Nothing: what is below was there before."))
    return _head(f"What is new since {moment_of(moved.before)}") + said


def _news_list(title: str, findings: Sequence[HealthFinding], *, good: bool = False) -> str:
    if not findings:
        return ""
    rows = "".join(
        f'<li style="margin:2px 0">'
        f"{_mark(Light.GOOD, shape='✓') if good else _mark(_LIGHTS[one.first.severity])} "
        f"<b>{escape(one.subject)}</b>: {'was: ' if good else ''}{escape(one.first.got)}</li>"
        for one in group(findings)
    )
    return _p(f"<b>{escape(title)}</b>", style="margin-bottom:2px") + (
        f'<ul style="margin:0 0 10px;padding:0 0 0 4px;list-style:none">{rows}</ul>'
    )


def _findings(report: HealthReport) -> str:
    if not report.findings:
        passed = len(report.outcome(Outcome.PASSED))
        return _head("Findings") + _p(f"{_mark(Light.GOOD)} None: all {counted(passed, 'check')} passed.")
    parts = [_head("Findings")]
    for severity in (Severity.ERROR, Severity.WARNING, Severity.INFO):
        some = [one for one in report.findings if one.severity is severity]
        if some:
            shape, word = SEVERITY_MARKS[severity]
            title = word if severity is Severity.INFO else counted(len(some), word)
            parts.append(_p(_mark(_LIGHTS[severity], title, shape=shape), style="margin:12px 0 2px"))
            parts.append(_table(_finding(one, report.made_at) for one in group(some)))
    return "".join(parts)


def _finding(found: Group, now: datetime) -> str:
    one = found.first
    since = "new" if one.since is None or one.since >= now else f"since {ago(one.since, now).removesuffix(' ago')}"
    remedy = f'<br><span class="lk-ink">→ {_with_code(one.remedy)}</span>' if one.remedy else ""
    about = _muted(f"expected {escape(one.expected)} · {escape(area_name(one.area))} · {escape(one.id)}",
                   "font-size:13px")  # fmt: skip
    return _tr(f"<b>{escape(found.subject)}</b>: {escape(one.got)}{remedy}<br>{about}", _aside(since))


def _with_code(text: str) -> str:
    """Escape a text; what stands in backticks is a command."""
    style = "font:13px ui-monospace,Menlo,Consolas,monospace"
    return re.sub(r"`([^`]+)`", rf'<code style="{style}">\1</code>', escape(text))


def _aside(text: str) -> str:
    """Words at the right edge of a row."""
    return _muted(text, "font-size:13px;white-space:nowrap;float:right")


def _tr(*cells: str, head: bool = False) -> str:
    tag = "th" if head else "td"
    style = f"padding:5px 12px 5px 0;vertical-align:top;text-align:left;border-bottom:1px solid {LIGHT.line}"
    style += f";font-weight:600;font-size:13px;color:{LIGHT.muted}" if head else ""
    kind = "lk-line lk-muted" if head else "lk-line"
    return "<tr>" + "".join(f'<{tag} class="{kind}" style="{style}">{cell}</{tag}>' for cell in cells) + "</tr>"


def _table(rows: Iterable[str]) -> str:
    return (
        '<table width="100%" cellspacing="0" cellpadding="0" style="border-collapse:collapse;margin:2px 0 8px">'
        f"{''.join(rows)}</table>"
    )


def _accepted(report: HealthReport) -> str:
    if not report.accepted:
        return ""
    rows = (
        _tr(f"<b>{escape(one.finding.subject)}</b>: {escape(one.finding.got)}<br>{_muted(escape(one.reason))}",
            _aside(f"until {one.until:%Y-%m-%d}"))
        for one in report.accepted
    )  # fmt: skip
    return _head("Accepted for a time") + _table(rows)


def _panel(panel: Panel, embed: Embed) -> str:
    parts = [_head(panel.title), _p(escape(panel.says))]
    if panel.plot is not None:
        parts.append(_picture(panel, embed))
    shown, more = panel.shown()
    if shown:
        rows = [_tr("", *(escape(word) for word in panel.head), head=True)]
        rows += [_tr(_mark(row.light), *(escape(cell) for cell in row.cells)) for row in shown]
        parts.append(f'<div style="font-size:13px">{_table(rows)}</div>')
    if more:
        parts.append(_p(_muted(f"and {more} more, none of them worse", "font-size:13px")))
    return f'<div class="lk-keep">{"".join(parts)}</div>'


def _picture(panel: Panel, embed: Embed) -> str:
    assert panel.plot is not None  # noqa: S101  # the caller has looked
    pictures = zip(("light", "dark"), panel.plot.pngs(), strict=True)
    light, dark = (embed(f"{panel.name}-{name}", png) for name, png in pictures)
    return (
        f'<picture><source media="screen and (prefers-color-scheme:dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(panel.plot.alt)}" width="760" '
        'style="display:block;width:100%;max-width:760px;height:auto;margin:4px 0 8px"></picture>'
    )


def _checks(report: HealthReport) -> str:
    words = {
        Outcome.PASSED: (Light.GOOD, "✓"), Outcome.FOUND: (Light.LOOK, "▲"), Outcome.ACCEPTED: (Light.UNKNOWN, "✓"),
        Outcome.UNASKED: (Light.UNKNOWN, "○"), Outcome.BROKEN: (Light.LOOK, "▲"),
    }  # fmt: skip
    parts = [_head("What was checked")]
    for area in report.areas:
        mine = [one for one in report.checks if one.area == area.area]
        rows = [
            f"{_mark(words[one.outcome][0], shape=words[one.outcome][1])} {escape(one.sentence)}{_why(one.missing)}<br>"
            for one in mine
        ]
        if rows:
            half = (len(rows) + 1) // 2
            cells = "".join(
                f'<td width="50%" style="vertical-align:top;padding:0 14px 0 0;font-size:12.5px">{"".join(some)}</td>'
                for some in (rows[:half], rows[half:])
            )
            parts.append(_p(f"<b>{escape(area_name(area.area))}</b>", style="margin:8px 0 0;font-size:13px"))
            parts.append(
                f'<table role="presentation" width="100%" cellspacing="0" cellpadding="0"><tr>{cells}</tr></table>'
            )
    return "".join(parts)


def _why(missing: Sequence[str]) -> str:
    return _muted(f" (not asked: {escape(', '.join(missing))} could not be read)") if missing else ""


def _reading(report: HealthReport) -> str:
    cost = report.cost
    if not cost.readings:
        return ""
    slow = cost.slowest
    slowest = f", the slowest was {escape(slow.system)} with {slow.seconds:.1f} s" if slow is not None else ""
    asked = ", ".join(f"{number} of {escape(name)}" for name, number in cost.requests.items())
    text = f"{len(cost.readings)} readings side by side took {cost.seconds:.1f} s{slowest}. Requests: {asked}."
    return _p(_muted(text, "font-size:12px"), style="margin-top:22px")
