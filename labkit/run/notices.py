"""What a run shows while it goes on: HTML in a notebook, lines in a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from labkit.errors import LabError
from labkit.plan import Change, Plan
from labkit.report.progress import ChangeState, progress_html, progress_line
from labkit.run.journal import Journal
from labkit.run.schedule import State
from labkit.secrets import redact

Draw = Callable[[str], None]
_REDRAW = 0.25  # seconds between two pictures: more would flood the notebook's file


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    try:
        from IPython import get_ipython  # noqa: PLC0415  # only there inside a kernel
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def register_pictures() -> None:
    """Teach a kernel how plans look, and to show labkit's errors as one message without a traceback."""
    if not in_notebook():
        return
    from IPython import get_ipython  # noqa: PLC0415  # only there inside a kernel

    from labkit.report.plans import plan_html, plan_text  # noqa: PLC0415  # display only

    shell = get_ipython()
    shell.set_custom_exc((LabError,), _show_error)
    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type(Plan, plan_html)
    formatters["text/plain"].for_type(Plan, lambda plan, printer, _cycle: printer.text(plan_text(plan)))


def _show_error(shell: Any, kind: type[LabError], error: LabError, _trace: Any, tb_offset: int | None = None) -> None:
    """Show an error as its kind and its text; the cell still counts as failed, so that Run All stops."""
    del tb_offset  # IPython passes it by name
    shell._showtraceback(kind, error, [f"{kind.__name__}: {redact(str(error))}"])  # noqa: SLF001


def show(thing: Any) -> None:
    """Show a text or something with a picture of itself, where a person looks."""
    if in_notebook():
        from IPython.display import display  # noqa: PLC0415  # only there inside a kernel

        from labkit.report.html import Note  # noqa: PLC0415  # display only

        display(Note(redact(thing)) if isinstance(thing, str) else thing)
    else:
        from rich.console import Console  # noqa: PLC0415  # display only

        Console(highlight=False).print(redact(thing) if isinstance(thing, str) else thing)


class Board:
    """The state of every change of a plan, drawn while they are applied and once at the end.

    Args:
        changes: the plan's changes.
        journal: gets every event.
        draw: shows HTML in place of what it showed before; in a kernel a display of its own when None.
    """

    def __init__(self, changes: Iterable[Change], journal: Journal, draw: Draw | None = None) -> None:
        self._states = {change.id: ChangeState(change) for change in changes}
        self._journal = journal
        self._guard = threading.Lock()
        self._show = draw
        self._drawn = 0.0
        self._later: threading.Timer | None = None

    def __enter__(self) -> Self:
        if self._show is None and in_notebook():
            self._show = _display()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._later is not None:
                self._later.cancel()
            self._draw()

    def listen(self, state: State, change: Change, text: str, data: Mapping[str, object]) -> None:
        """Take one event of a change: to the journal, and to the picture."""
        event = {
            State.RUNNING: "step" if text else "change started",
            State.DONE: "change done",
            State.FAILED: "change failed",
        }.get(state, str(state))
        details = {"before": change.before, "after": change.after} if event == "change started" else {}
        self._journal.write(event, change=change.id, action=change.action, text=text, **details, **data)
        with self._guard:
            now = time.monotonic()
            row = self._states[change.id]
            row.update(str(state), redact(text), now)
            if self._show is None:
                show(progress_line(row))
            elif now - self._drawn >= _REDRAW:
                self._draw()
            elif self._later is None or not self._later.is_alive():
                self._later = threading.Timer(_REDRAW, self._draw_later)
                self._later.daemon = True
                self._later.start()

    def _draw_later(self) -> None:
        with self._guard:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self._show is not None:
            self._show(progress_html(list(self._states.values())))


def _display() -> Draw:
    """Return a function that shows HTML in one display of the running cell, again and again."""
    from IPython.display import HTML, DisplayHandle  # noqa: PLC0415  # only there inside a kernel

    handle = DisplayHandle()
    shown: list[bool] = []

    def draw(html: str) -> None:
        if shown:
            handle.update(HTML(html))
        else:
            handle.display(HTML(html))
        shown.append(True)

    return draw
