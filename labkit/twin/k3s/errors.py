"""How k3s ends when it cannot go on, and how it writes its log."""

from __future__ import annotations

import json
from datetime import UTC, datetime


class Fatal(Exception):  # the level of the log line that it becomes
    """What ends a k3s process: the text of its last log line."""


def log_line(now: float, level: str, text: str) -> str:
    """Return a line as k3s logs it."""
    stamp = datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f'time="{stamp}" level={level} msg={json.dumps(text, ensure_ascii=False)}'
