"""Changes of files as unified diffs, for JupyterLab and for a terminal. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from labkit.report.html import box

_STYLES = {"+": "color:#1a7f37", "-": "color:#cf222e", "@": "color:#8250df"}


@dataclass(frozen=True)
class DiffView:
    """Files before and after; shown as a diff.

    Attributes:
        files: path, text before and text after; None where there is none.
        notes: lines that stand below, such as findings.
    """

    files: Sequence[tuple[str, str | None, str | None]]
    notes: Sequence[str] = field(default=())

    def __str__(self) -> str:
        if not self.files:
            return "no file changes"
        return "\n".join([*(unified(*one) for one in self.files), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [_html(unified(*one)) for one in self.files] or ["<p>no file changes</p>"]
        return box(*parts, *(f"<p>{escape(note)}</p>" for note in self.notes))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def unified(path: str, before: str | None, after: str | None) -> str:
    """Return one file's unified diff, as git shows it."""
    old = "/dev/null" if before is None else f"a/{path}"
    new = "/dev/null" if after is None else f"b/{path}"
    lines = difflib.unified_diff((before or "").splitlines(), (after or "").splitlines(), old, new, lineterm="")
    return "\n".join(lines)


def _html(diff: str) -> str:
    lines = (_line(line) for line in diff.splitlines())
    return f'<pre style="margin:0 0 1em">{"".join(lines)}</pre>'


def _line(line: str) -> str:
    style = "font-weight:bold" if line.startswith(("+++", "---")) else _STYLES.get(line[:1], "")
    text = escape(line) or " "
    return f'<span style="{style}">{text}</span>\n' if style else f"{text}\n"
