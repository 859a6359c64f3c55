"""How the NAS is doing, as a test, a scenario or a fault wishes: any row that its API shows can be changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from labkit.errors import StepFailed
from labkit.twin.nas.content import Content, Row

LISTS = ("pools", "datasets", "snapshots", "shares", "snapshot_tasks", "replications", "alerts", "disks", "services",
         "keys")  # fmt: skip


class NasConditions:
    """Change what the NAS has.

    `nas`: `rows` (one of `LISTS`), `at` (the place of a row in it, 0 for the first), and `merge`, whose keys are
    merged into that row; `add` appends a row, `remove` takes the row away, `clear` takes all.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self.actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {"nas": self.change}

    async def change(self, given: dict[str, Any]) -> None:
        """Change, add or remove a row."""
        name = str(given.get("rows"))
        if name not in LISTS:
            raise StepFailed(f"nas: expected rows to be one of {', '.join(LISTS)}, got {name}")
        rows: list[Row] = getattr(self._content, name)
        place = int(given.get("at") or 0)
        if given.get("clear"):
            rows.clear()
        elif "add" in given:
            rows.append(dict(given["add"]))
        elif place >= len(rows):
            raise StepFailed(f"nas: expected a row {place} of {name}, got {len(rows)} rows")
        elif given.get("remove"):
            del rows[place]
        else:
            rows[place] = merged(rows[place], given.get("merge") or {})


def merged(row: Any, changes: Any) -> Any:
    """Return a tree with the keys of another one merged into it; anything but a mapping replaces."""
    if not isinstance(row, dict) or not isinstance(changes, dict):
        return changes
    return {**row, **{key: merged(row.get(key), value) for key, value in changes.items()}}
