"""Two runs on one lab exclude each other: a locked file with its holder, freed by the kernel when a run dies."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import Refused
from labkit.run.journal import now_utc, whoami


@contextmanager
def lab_lock(path: Path, *, runbook: str) -> Iterator[None]:
    """Hold the lock of a lab for the time of the block.

    Raises:
        Refused: when another run holds it; the message names its holder and the way out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Refused(
                f"lock {path}: expected no other run on this lab, got {_holder(path)}",
                next_step="wait until that run has ended; the lock goes with its process",
            ) from exc
        file.seek(0)
        file.truncate()
        json.dump({"who": whoami(), "pid": os.getpid(), "runbook": runbook, "since": now_utc()}, file)
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()
            fcntl.flock(file, fcntl.LOCK_UN)


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return "one that has just begun"
    return f"{held['runbook']} by {held['who']} (process {held['pid']}) since {held['since']}"
