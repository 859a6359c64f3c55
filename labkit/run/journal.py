"""The journal of a run: one JSON line per event, flushed at once, redacted."""

from __future__ import annotations

import getpass
import json
import os
import platform
import threading
from datetime import UTC, datetime
from pathlib import Path

from labkit.secrets import redact


def now_utc() -> str:
    """Return the present moment as `2026-11-23T06:30:00.123Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def whoami() -> str:
    """Return `user@machine`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        user = str(os.getuid())
    return f"{user}@{platform.node()}"


class Journal:
    """Append events to `journal.jsonl`; safe to use from many threads."""

    def __init__(self, path: Path, **common: str) -> None:
        self.path = path
        self._common = common
        self._guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Appending: a folder that is used again keeps what was written before.
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, **data: object) -> None:
        """Write one event; values must be JSON."""
        line = json.dumps({"time": now_utc(), "event": event, **self._common, **data}, default=str)
        with self._guard:
            self._file.write(redact(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; later events are an error."""
        self._file.close()


def read_journal(path: Path) -> list[dict[str, object]]:
    """Return the events of a journal; a last line cut off by a crash is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events
