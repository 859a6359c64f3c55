"""Execute a runbook headless with papermill, following its journal, and say how it ended."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit import errors
from labkit.errors import LabError
from labkit.run.folders import OUTPUT_VARIABLE
from labkit.run.parameters import find_notebook

Listen = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        runbook: its name.
        status: the exit status, 0 when all went well.
        seconds: how long it took, kernel start included.
        notebook: the executed notebook.
        summary: what the run wrote into summary.json; empty when it did not come that far.
        error: the message of the error that ended it.
    """

    runbook: str
    status: int
    seconds: float
    notebook: Path
    summary: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the run did what it was asked to do."""
        return self.status == 0


def execute(
    runbook: str,
    values: Mapping[str, Any],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    listen: Listen | None = None,
) -> Ending:
    """Execute a runbook in a kernel of its own; errors of the runbook come back in the Ending.

    Args:
        runbook: its name.
        values: its parameters, already checked.
        folder: the folder of the run; the executed notebook is saved there after every cell.
        environment: variables for the kernel beside this process's.
        listen: is called with every event of the journal as it is written.
    """
    import papermill  # noqa: PLC0415  # slow to import
    from nbclient.exceptions import DeadKernelError  # noqa: PLC0415
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415

    from labkit.runbooks.kernel import SocketKernelManager  # noqa: PLC0415

    notebook = find_notebook(runbook)
    name = notebook.stem[3:]
    target = folder / notebook.name
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    status, error = 0, ""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    with _environment({OUTPUT_VARIABLE: str(folder), **(environment or {})}), _following(folder, listen):
        try:
            papermill.execute_notebook(
                str(notebook),
                str(target),
                parameters=dict(values),
                kernel_name="python3",
                progress_bar=False,
                kernel_manager_class=SocketKernelManager,
            )
        except PapermillExecutionError as exc:
            status, error = exit_status(exc.ename), exc.evalue
        except DeadKernelError:
            status, error = 5, f"{name}: expected its process to live, it was killed; run it again: it goes on"
    return Ending(name, status, time.monotonic() - began, target, _summary(folder), error)


def exit_status(name: str) -> int:
    """Return the exit status that belongs to the name of an exception; 5 for what is none of labkit's own."""
    kind = getattr(errors, name, None)
    return kind.exit_status if isinstance(kind, type) and issubclass(kind, LabError) else 5


def export_html(notebook: Path) -> Path:
    """Write an executed notebook as one HTML page beside it, and return the page's path."""
    from nbconvert import HTMLExporter  # noqa: PLC0415  # slow to import

    page, _ = HTMLExporter(template_name="lab", exclude_anchor_links=True).from_filename(str(notebook))
    target = notebook.with_suffix(".html")
    target.write_text(page, encoding="utf-8")
    return target


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / "summary.json"
    if not path.exists():
        return {}
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _following(folder: Path, listen: Listen | None) -> Iterator[None]:
    """Pass every new line of the run's journal to `listen` while the block runs."""
    if listen is None:
        yield
        return
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(folder / "journal.jsonl", listen, over), daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def _follow(path: Path, listen: Listen, over: threading.Event) -> None:
    position, rest = 0, ""
    while True:
        last = over.wait(0.1)
        if path.exists():
            with path.open(encoding="utf-8") as file:
                file.seek(position)
                rest += file.read()
                position = file.tell()
            *lines, rest = rest.split("\n")
            for line in lines:
                listen(json.loads(line))
        if last:
            return
