"""A plan as a table: HTML for JupyterLab, rich for a terminal. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue
from rich.console import Group
from rich.table import Table
from rich.text import Text

from labkit.plan import SIGNS, Change, Plan, Risk, Severity
from labkit.report.html import Cell, box, table

RISK_STYLE: Mapping[Risk, tuple[str, str]] = {
    Risk.SAFE: ("good", "green"),
    Risk.DISRUPTIVE: ("warn", "yellow"),
    Risk.DESTRUCTIVE: ("bad", "red"),
}
SEVERITY_STYLE: Mapping[Severity, tuple[str, str]] = {
    Severity.INFO: ("calm", "dim"),
    Severity.WARNING: ("warn", "yellow"),
    Severity.ERROR: ("bad", "red"),
}
_HEAD = ("", "kind", "target", "what", "risk")


def describe(change: Change) -> str:
    """Say what a change does: `cores 2 → 4, memory 4096 → 8192`, or its note."""
    if change.note and not change.before:
        return change.note
    keys = list(dict.fromkeys([*change.after, *change.before]))
    words = ", ".join(_difference(key, change.before, change.after) for key in keys)
    return f"{words} ({change.note})" if change.note and words else words or change.note


def _difference(key: str, before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> str:
    if key not in before:
        return f"{key} {_short(after[key])}"
    if key not in after:
        return f"{key} {_short(before[key])} → gone"
    return f"{key} {_short(before[key])} → {_short(after[key])}"


def _short(value: JsonValue) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def plan_html(plan: Plan) -> str:
    """Return the plan as an HTML table with its findings, risk and digest."""
    rows = [
        (Cell(SIGNS[change.action], "sign"), change.kind, Cell(change.target, "name"), describe(change),
         Cell(change.risk, RISK_STYLE[change.risk][0]))
        for change in plan.changes
    ]  # fmt: skip
    found = [
        (Cell(finding.severity, SEVERITY_STYLE[finding.severity][0]), finding.subject, finding.expected, finding.got,
         finding.remedy)
        for finding in plan.findings
    ]  # fmt: skip
    parts = [f"<p><b>{plan.runbook}</b>: {plan.summary()}</p>"]
    if rows:
        parts.append(table(_HEAD, rows))
    if found:
        parts.append(table(("", "subject", "expected", "got", "what to do"), found))
    return box(*parts)


def plan_text(plan: Plan) -> str:
    """Return the plan as plain lines."""
    lines = [f"{plan.runbook}: {plan.summary()}"]
    lines += [f"{SIGNS[c.action]} {c.kind} {c.target}: {describe(c)} [{c.risk}]" for c in plan.changes]
    lines += [f"{finding.severity}: {finding}" for finding in plan.findings]
    return "\n".join(lines)


def plan_rich(plan: Plan) -> Group:
    """Return the plan for a terminal."""
    parts: list[Table | Text] = [Text.assemble((plan.runbook, "bold"), ": ", plan.summary())]
    if plan.changes:
        changes = Table(*_HEAD, box=None, pad_edge=False, header_style="dim")
        for change in plan.changes:
            risk = Text(change.risk, style=RISK_STYLE[change.risk][1])
            changes.add_row(SIGNS[change.action], change.kind, change.target, Text(describe(change)), risk)
        parts.append(changes)
    parts += [
        Text(f"{finding.severity}: {finding}", style=SEVERITY_STYLE[finding.severity][1]) for finding in plan.findings
    ]
    return Group(*parts)
