"""Which plans went through on a twin: kept by digest beside the outputs, told when the lab's plan is approved."""

from __future__ import annotations

import json
from pathlib import Path

from labkit.run.journal import now_utc

_FILE = "rehearsed.jsonl"


def remember_rehearsal(root: Path, digest: str) -> None:
    """Record that the plan of this digest was applied on a twin and left nothing to change."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / _FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"digest": digest, "time": now_utc()}) + "\n")


def last_rehearsal(root: Path, digest: str) -> str | None:
    """Return when the plan of this digest last went through on a twin, or None."""
    path = root / _FILE
    if not path.exists():
        return None
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}"))
    return max((row["time"] for row in rows if row["digest"] == digest), default=None)


def say_rehearsal(root: Path, digest: str) -> str:
    """Say in words whether the plan of this digest was rehearsed."""
    time = last_rehearsal(root, digest)
    return f"rehearsed on the twin at {time}" if time else "this very plan was not rehearsed on the twin yet"
