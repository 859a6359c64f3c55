"""The page of a rehearsal. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from labkit.report.html import STYLE

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>{style}
<style>
:root {{color-scheme: light dark}}
body {{margin: 2.5rem auto; padding: 0 1rem; max-width: 60rem}}
.labkit {{font-size: 15px}} h1 {{font-size: 1.5rem; margin: 0 0 .2em}}
.bar {{height: .7rem; border-radius: .2rem; background: #4078c0; min-width: 2px}}
.bar.bad {{background: #cf222e}} td.wide {{width: 30%}} pre {{white-space: pre-wrap; background: #8882; padding: .8em}}
</style></head>
<body class="labkit"><h1>{title}</h1><p>{lead}</p>
<table><thead><tr><th></th><th>runbook</th><th>changes</th><th>second plan</th><th>time</th><th></th></tr></thead>
<tbody>{rows}</tbody></table>{errors}
<p class="calm">Every runbook was applied on the twin and then planned again from fresh facts: a second plan of 0
changes means that it reached what the lab file asks for. The notebooks hold every table and every message.</p>
</body></html>
"""


def rehearsal_page(summary: Mapping[str, Any]) -> str:
    """Return the index page of a rehearsal from its summary."""
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
    rows = "".join(_row(row, longest) for row in runbooks)
    return _PAGE.format(title=escape(title), style=STYLE, lead=lead, rows=rows, errors=errors)


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
