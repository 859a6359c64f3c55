"""A run's journal, followed in a terminal: a live table on a terminal, one line per event elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from labkit.plan import SIGNS, Action

Event = dict[str, Any]


def describe_event(event: Event) -> str:
    """Return an event of the journal as a line, or nothing when it says nothing to a person."""
    what = event["event"]
    if what == "planned":
        count = len(event["changes"])
        return f"plan {event['digest']}: {count} changes" if count else "plan: nothing to change"
    if what in {"step", "change done", "change failed"}:
        sign = SIGNS[Action(event["action"])]
        target = event["change"].rsplit("/", 1)[0]
        text = {"step": event["text"], "change done": "done", "change failed": f"FAILED: {event['text']}"}[what]
        return f"{sign} {target}: {text}"
    if what == "finding":
        return f"{event['severity']}: {event['subject']}: expected {event['expected']}, got {event['got']}"
    if what == "planned again":
        return f"planned again: {len(event['changes'])} changes left"
    return ""


def follower(console: Console | None = None) -> Callable[[Event], None]:
    """Return a listener that prints events as they come, styled on a terminal."""
    out = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def listen(event: Event) -> None:
        line = describe_event(event)
        if line:
            out.print(line, style=_style(event), markup=False)

    return listen


def _style(event: Event) -> str:
    if event["event"] == "change failed" or event.get("severity") == "error":
        return "red"
    if event["event"] == "change done":
        return "green"
    if event.get("severity") == "warning":
        return "yellow"
    return "dim" if event["event"] == "step" else ""
