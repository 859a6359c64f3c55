"""The page of a rehearsal. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from labkit.errors import counted
from labkit.report.html import STYLE

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>{style}
<style>
:root {{color-scheme: light dark}}
body.labkit {{margin: 2.5rem auto; padding: 0 1rem; max-width: 60rem; font-size: 15px}}
h1 {{font-size: 1.5rem; margin: 0 0 .2em}} h2 {{font-size: 1.1rem; margin: 1.6em 0 .3em}}
.bar {{height: .7rem; margin-top: .3rem; border-radius: .2rem; background: #4078c0; min-width: 2px}}
.bar.bad {{background: #cf222e}} td.wide {{width: 30%}} pre {{white-space: pre-wrap; background: #8882; padding: .8em}}
img {{max-width: 100%; border-radius: .4rem}} details {{margin: .3em 0}} summary {{cursor: pointer}}
</style></head>
<body class="labkit"><h1>{title}</h1><p>{lead}</p>
<table><thead><tr><th></th><th>runbook</th><th>changes</th><th>second plan</th><th>time</th><th></th></tr></thead>
<tbody>{rows}</tbody></table>{errors}
<p class="calm">Every runbook was applied on the twin and then planned again from fresh facts: a second plan of 0
changes means that it reached what the lab file asks for. The notebooks hold every table and every message.</p>
{health}{loss}{warnings}{picture}{changes}
</body></html>
"""


def rehearsal_page(summary: Mapping[str, Any], runs: Sequence[Mapping[str, Any]] = (), picture: bytes = b"") -> str:
    """Return the index page of a rehearsal.

    Args:
        summary: the rehearsal's summary.json.
        runs: the summaries of its runs, with their findings and what they applied.
        picture: a PNG of the lab; none when empty.
    """
    runbooks = summary["runbooks"]
    longest = max((row["seconds"] for row in runbooks), default=1) or 1
    good = sum(bool(row["ok"]) for row in runbooks)
    title = f"Rehearsal of lab {summary['lab']}"
    lead = (
        f"<b class='good'>All {good} runbooks went through</b>"
        if summary["ok"]
        else f"<b class='bad'>{len(runbooks) - good} of {len(runbooks)} runbooks did not go through</b>"
    )
    lead += f" in {summary['seconds']:.0f} seconds, with {sum(row['changes'] for row in runbooks)} changes on the twin."
    errors = "".join(
        f"<h2>{escape(row['name'])}</h2><pre>{escape(row['error'])}</pre>" for row in runbooks if row["error"]
    )
    return _PAGE.format(
        title=escape(title),
        style=STYLE,
        lead=lead,
        rows="".join(_row(row, longest) for row in runbooks),
        errors=errors,
        health=_health(runbooks, runs),
        loss=_loss(summary.get("loss")),
        warnings=_warnings(runs),
        picture=_picture(picture),
        changes=_changes(runs),
    )


def _health(runbooks: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> str:
    """What the last health report says, and the way to it."""
    said = [(row, run["health"]) for row, run in zip(runbooks, runs, strict=False) if run.get("health")]
    if not said:
        return ""
    row, health = said[-1]
    page = f"{row['notebook'].rpartition('/')[0]}/health.html"
    return f"<h2>How the lab stands</h2><p><a href='{escape(page)}'>{escape(health['sentence'])}</a></p>"


def _loss(loss: Mapping[str, Any] | None) -> str:
    """What was lost in the end and came back, volume by volume."""
    if loss is None:
        return ""
    kind = "good" if loss["ok"] else "bad"
    rows = "".join(
        f"<tr><td class='{'good' if row['ok'] else 'bad'}'>{'✓' if row['ok'] else '✗'}</td>"
        + "".join(f"<td>{escape(text)}</td>" for text in (row["claim"], row["taken"] or "—"))
        + "".join(f"<td><code>{escape(row[key][:16] or '—')}</code></td>" for key in ("before", "after"))
        + f"<td class='num'>{row['lost']}</td><td>{escape(_remark(row))}</td></tr>"
        for row in loss["volumes"]
    )
    heads = ("", "claim", "backup as of", "sha256 before", "sha256 after", "writes lost", "")
    head = "".join(f"<th>{word}</th>" for word in heads)
    notes = "".join(f"<li>{escape(note)}</li>" for note in loss["notes"])
    return (
        f"<h2>Everything was lost</h2><p><b class='{kind}'>{escape(loss['words'])}.</b> All machines were deleted with "
        "their disks; Git, the keys and the NAS stayed. The checksums are the twin's own: of the files of each volume "
        f"when its backup was taken, and now.</p><ul>{notes}</ul>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _remark(row: Mapping[str, Any]) -> str:
    passed = f"{counted(row['passed_over'], 'newer backup')} passed over" if row["passed_over"] else ""
    return "; ".join(filter(None, (row["problem"], passed)))


def _warnings(runs: Sequence[Mapping[str, Any]]) -> str:
    found = {
        (f["severity"], f["subject"], f["expected"], f["got"], f["remedy"]): None
        for run in runs
        for f in run.get("findings", ())
        if f["severity"] != "info"
    }
    if not found:
        return ""
    kinds = {"warning": "warn", "error": "bad"}
    rows = "".join(
        f"<tr><td class='{kinds[severity]}'>{severity}</td>"
        + "".join(f"<td>{escape(text)}</td>" for text in texts)
        + "</tr>"
        for severity, *texts in found
    )
    head = "".join(f"<th>{word}</th>" for word in ("", "subject", "expected", "got", "what to do"))
    return f"<h2>What was found</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _picture(png: bytes) -> str:
    if not png:
        return ""
    data = base64.b64encode(png).decode()
    return f"<h2>The lab</h2><img alt='hosts and VMs of the lab' src='data:image/png;base64,{data}'>"


def _changes(runs: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        f"<details><summary>{escape(run['runbook'])}: {counted(len(run['applied']), 'change')}</summary><ul>"
        + "".join(f"<li>{escape(name)}</li>" for name in run["applied"])
        + "</ul></details>"
        for run in runs
        if run.get("applied")
    ]
    return f"<h2>What was changed on the twin</h2>{''.join(parts)}" if parts else ""


def _row(row: Mapping[str, Any], longest: float) -> str:
    mark = "<td class='good'>✓</td>" if row["ok"] else "<td class='bad'>✗</td>"
    page = row["notebook"].removesuffix(".ipynb") + ".html"
    width = max(1, round(100 * row["seconds"] / longest))
    kind = "bar" if row["ok"] else "bar bad"
    return (
        f"<tr>{mark}<td><a href='{escape(page)}'>{escape(row['name'])}</a></td>"
        f"<td class='num'>{row['changes']}</td><td class='num'>{row['second_plan_changes']}</td>"
        f"<td class='num'>{row['seconds']:.1f} s</td>"
        f"<td class='wide'><div class='{kind}' style='width:{width}%'></div></td></tr>"
    )
