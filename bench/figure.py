"""A figure: what was measured, its value, and the limit that it must keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value; `limit` is the most (or, with `least`, the least) that it may be."""

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    least: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the limit is kept."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"  ({'at least' if self.least else 'at most'} {self.limit:g})"
        mark = "ok  " if self.ok else "MISS"
        note = f"  {self.note}" if self.note else ""
        return f"{mark} {self.name}: {self.value:.2f}{self.unit and ' ' + self.unit}{limit}{note}"
