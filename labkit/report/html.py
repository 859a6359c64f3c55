"""Pieces of HTML that read well in JupyterLab, light and dark, and in a saved page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = f"<style>{Path(__file__).with_name('style.css').read_text(encoding='utf-8')}</style>"


@dataclass(frozen=True)
class Cell:
    """One table cell: its text, and a class of the style sheet."""

    text: str
    kind: str = ""


def table(head: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> str:
    """Return an HTML table; every text is escaped."""
    top = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def box(*parts: str) -> str:
    """Wrap parts in labkit's style."""
    return f'{STYLE}<div class="labkit">{"".join(parts)}</div>'


def _cell(value: str | Cell) -> str:
    cell = Cell(value) if isinstance(value, str) else value
    kind = f' class="{cell.kind}"' if cell.kind else ""
    return f"<td{kind}>{escape(cell.text)}</td>"


@dataclass(frozen=True)
class Note:
    """A plain sentence, shown as text and as HTML."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return box(f"<p>{escape(self.text)}</p>")
