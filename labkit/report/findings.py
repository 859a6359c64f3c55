"""Findings of checks as a table, in HTML and for a terminal. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from labkit.errors import counted
from labkit.plan import Finding, Severity
from labkit.report.html import Cell, box, table
from labkit.report.plans import SEVERITY_STYLE

_HEAD = ("", "subject", "expected", "got", "what to do")


@dataclass(frozen=True)
class FindingsView:
    """What was checked and found true (a sentence each), how much was checked, and what was found, worst first."""

    passed: tuple[str, ...]
    asked: int
    findings: tuple[Finding, ...]

    def _sorted(self) -> list[Finding]:
        return sorted(self.findings, key=lambda f: (-f.severity.rank, f.id, f.subject))

    def headline(self) -> str:
        """Say in one line how it stands."""
        errors = sum(finding.severity is Severity.ERROR for finding in self.findings)
        warnings = sum(finding.severity is Severity.WARNING for finding in self.findings)
        if not errors and not warnings:
            return f"all good: {counted(self.asked, 'check')} passed"
        return f"{counted(errors, 'error')}, {counted(warnings, 'warning')} in {counted(self.asked, 'check')}"

    def __repr__(self) -> str:
        return "\n".join([self.headline(), *(f"{f.severity}: {f}" for f in self._sorted())])

    def _repr_html_(self) -> str:
        passed = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.passed)
        rows = [
            (Cell(f.severity, SEVERITY_STYLE[f.severity][0]), f.subject, f.expected, f.got, f.remedy)
            for f in self._sorted()
        ]
        parts = [f"<p><b>{escape(self.headline())}</b></p>"]
        if rows:
            parts.append(table(_HEAD, rows))
        if passed:
            parts.append(f'<ul class="calm">{passed}</ul>')
        return box(*parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.headline(), style="bold")
        if self.findings:
            rows = Table(*_HEAD, box=None, pad_edge=False, header_style="dim")
            for f in self._sorted():
                mark = Text(f.severity, style=SEVERITY_STYLE[f.severity][1])
                rows.add_row(mark, f.subject, f.expected, f.got, f.remedy)
            yield rows
