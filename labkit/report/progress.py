"""The progress of an apply: one row per change. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labkit.plan import SIGNS, Change
from labkit.report.html import Cell, box, table

_KIND = {"waiting": "calm", "running": "", "done": "good", "failed": "bad"}


@dataclass
class ChangeState:
    """Where one change stands, what it said last, and how long it has taken (seconds)."""

    change: Change
    state: str = "waiting"
    text: str = ""
    began: float = 0.0
    seconds: float = 0.0

    def update(self, state: str, text: str, now: float) -> None:
        """Take an event at a moment of a monotonic clock."""
        if not self.began:
            self.began = now
        self.state, self.seconds = state, now - self.began
        self.text = text or self.text


def progress_html(states: Sequence[ChangeState]) -> str:
    """Return the rows as HTML with a count on top."""
    done = sum(row.state == "done" for row in states)
    failed = sum(row.state == "failed" for row in states)
    head = f"<p>{done} of {len(states)} done{f', {failed} failed' if failed else ''}</p>"
    return box(head, table(("", "target", "state", "last word", "took"), [_row(row) for row in states]))


def _row(row: ChangeState) -> tuple[str | Cell, ...]:
    return (
        Cell(SIGNS[row.change.action], "sign"),
        Cell(row.change.target, "name"),
        Cell(row.state, _KIND.get(row.state, "")),
        row.text,
        Cell(f"{row.seconds:.1f} s" if row.began else "", "num"),
    )


def progress_line(row: ChangeState) -> str:
    """Return one row as a line for a terminal or a log."""
    said = (row.text or "begins") if row.state == "running" else row.state
    return f"{SIGNS[row.change.action]} {row.change.target}: {said}"
