"""A run's journal, followed in a terminal: the plan, what goes on just now, and one line per event elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from labkit.errors import counted
from labkit.plan import SIGNS, Action, Finding, Plan
from labkit.report.plans import plan_rich, plan_text

Event = dict[str, Any]


def describe_event(event: Event) -> str:
    """Return an event of the journal as a line, or nothing when it says nothing to a person."""
    what = event["event"]
    if what == "planned":
        changes = counted(len(event["changes"]), "change")
        return f"plan {event['digest']}: {changes}" if event["changes"] else "plan: nothing to change"
    if what in {"step", "change done", "change failed"}:
        text = {"step": event["text"], "change done": "done", "change failed": f"FAILED: {event['text']}"}[what]
        return f"{_sign(event)} {_target(event)}: {text}"
    # Errors come once more, as what the run ends with, unless it is known that they do not end it.
    if what == "finding" and (event["severity"] != "error" or not event.get("ends", True)):
        return f"{event['severity']}: {Finding.model_validate(event)}"
    if what == "reported":
        return str(event["sentence"])
    if what == "planned again":
        return f"planned again: {counted(len(event['changes']), 'change')} left"
    return ""


class Follower:
    """Prints events as they come. On a terminal, the steps of running changes stand below, each in its own row.

    Args:
        folder: the run's; its plan is shown in full. Without it, a plan is one line.
        console: where to print; standard output when None.
    """

    def __init__(self, folder: Path | None = None, console: Console | None = None) -> None:
        self._folder = folder
        self._out = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._running: dict[str, tuple[Event, float]] = {}
        self._live: Live | None = None
        self._count = self._done = 0

    def __call__(self, event: Event) -> None:
        """Take one event of the journal."""
        what = event["event"]
        if what == "planned" and event["changes"] and self._folder is not None:
            self._print_plan(self._folder / "plan.json")
        elif self._out.is_terminal and what in {"change started", "step"}:
            self._step(event)
        else:
            self._print(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:  # the run died without its last event
            self._live.stop()

    def _print_plan(self, path: Path) -> None:
        plan = Plan.model_validate_json(path.read_text(encoding="utf-8"))
        if self._out.is_terminal:
            self._out.print(plan_rich(plan), soft_wrap=False)
        else:
            self._out.print(plan_text(plan), markup=False)
        self._count, self._done = len(plan), 0

    def _print(self, event: Event) -> None:
        line = describe_event(event)
        if event["event"] in {"change done", "change failed"}:
            _, began = self._running.pop(event["change"], (event, 0.0))
            self._done += event["event"] == "change done"
            line += f"  {time.monotonic() - began:.1f} s" if began else ""
        if line:
            self._out.print(Text(line, style=_style(event)))
        self._draw()

    def _step(self, event: Event) -> None:
        _, began = self._running.get(event["change"], (event, time.monotonic()))
        self._running[event["change"]] = (event, began)
        self._draw()

    def _draw(self) -> None:
        if self._running and self._live is None:
            self._live = Live(console=self._out, get_renderable=self._table, transient=True, refresh_per_second=8)
            self._live.start()
        elif self._live is not None and not self._running:
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for event, began in list(self._running.values()):  # drawn by a thread of its own
            took = Text(f"{now - began:.1f} s", style="dim")
            grid.add_row(_sign(event), _target(event), took, Text(event["text"], overflow="ellipsis", no_wrap=True))
        if self._count:
            grid.add_row("", Text(f"{self._done} of {self._count} done", style="dim"))
        return grid


def _sign(event: Event) -> str:
    return SIGNS[Action(event["action"])]


def _target(event: Event) -> str:
    return str(event["change"].rsplit("/", 1)[0])


def _style(event: Event) -> str:
    if event["event"] == "change failed":
        return "red"
    if event["event"] == "change done":
        return "green"
    if event.get("severity") == "warning":
        return "yellow"
    return "dim" if event["event"] == "step" else ""
