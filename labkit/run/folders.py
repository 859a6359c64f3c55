"""Where a run finds its inputs and puts its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from labkit.errors import InputError, Mistake

OUTPUT_VARIABLE = "LABKIT_OUTPUT"


def _here_and_above() -> Iterator[Path]:
    here = Path.cwd()
    yield here
    yield from here.parents


def find_input(path: str | Path) -> Path:
    """Return a file given relative to this folder or to one above (notebooks run in their own folder).

    Raises:
        InputError: when it is nowhere.
    """
    wanted = Path(path).expanduser()
    for folder in _here_and_above():
        candidate = folder / wanted  # an absolute path stays what it is
        if candidate.is_file():
            return candidate.resolve()
    got = "a folder" if wanted.is_dir() else f"none (looked from {Path.cwd()})"
    copy = f"begin with a copy of {_example()}" if wanted.name == "lab.yaml" else ""
    raise InputError([Mistake(str(path), 0, 0, "", "a file, here or in a folder above", got)], next_step=copy)


def _example() -> Path:
    """Return the lab file that came with labkit: in the wheel, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "share" / "parameters" / "lab.yaml"
    return shipped if shipped.exists() else package.parent / "parameters" / "lab.yaml"


def outputs_root(near: Path) -> Path:
    """Return the `outputs` folder that belongs to a lab file: beside its `parameters` folder, else here."""
    home = near.parent.parent if near.parent.name == "parameters" else Path.cwd()
    return home / "outputs"


def new_run_folder(runbook: str, *, near: Path) -> Path:
    """Make and return the folder of a run: the one of `LABKIT_OUTPUT`, else `outputs/<time>-<runbook>`."""
    if given := os.environ.get(OUTPUT_VARIABLE):
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    root = outputs_root(near)
    for number in range(1000):
        folder = root / (f"{stamp}-{runbook}" + (f"-{number}" if number else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise InputError([Mistake(str(root), 0, 0, "", "room for one more run this second", "1000 of them")])
