"""How quick the command is: its help against an import of typer, a run against papermill alone."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from labkit.run.parameters import find_notebook


def seconds(*argv: str, times: int, env: dict[str, str] | None = None) -> float:
    """Return the median time of a program in seconds; the first run, which warms caches, does not count."""
    took = []
    for _ in range(times + 1):
        began = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True, env={**os.environ, **(env or {})})
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


def figures() -> Iterator[Figure]:
    """Yield the figures."""
    labkit = str(Path(sys.executable).with_name("labkit"))
    help_ = seconds(labkit, "--help", times=15)
    typer = seconds(sys.executable, "-c", "import typer", times=15)
    yield Figure("labkit --help / import typer", help_ / typer, limit=2.0, note=f"{help_:.3f} s / {typer:.3f} s")
    with tempfile.TemporaryDirectory() as folder:
        notebook = find_notebook("provision-vms")
        lab = json.dumps(str(Path("parameters/lab.yaml").resolve()))
        target, output = str(Path(folder, "out.ipynb")), {"LABKIT_OUTPUT": str(Path(folder, "run"))}
        papermill = seconds(
            sys.executable, "-m", "papermill", "--no-progress-bar", "-y", f"lab: {lab}", str(notebook), target,
            times=3, env=output,
        )  # fmt: skip
        mine = seconds(labkit, "run", "provision-vms", times=3, env=output)
    yield Figure("labkit run / papermill alone", mine / papermill, limit=1.1, note=f"{mine:.2f} s / {papermill:.2f} s")
