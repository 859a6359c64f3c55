"""The app of a run: its file is looked for like every input, and the parameters stand above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labkit.errors import InputError, Mistake
from labkit.lab import Lab
from labkit.lab.apploader import load_app as _load
from labkit.lab.apps import AppSpec
from labkit.run.folders import find_input

FOLDER = Path("parameters/apps")


def load_app(lab: Lab, name: str, *, remove: bool = False, **given: Any) -> AppSpec:
    """Return the app of that name: of its file, when there is one here or above, and of parameters that say something.

    One that is to be removed needs nothing but its name.

    Raises:
        InputError: with every mistake, each with its place.
    """
    if not name:
        raise InputError([Mistake("parameters", 0, 0, "name", "the name of an app", "an empty text")])
    try:
        file: Path | str = find_input(FOLDER / f"{name}.yaml")
    except InputError:
        file = ""
    if remove:
        file, given = "", {"image": "removed:0", "port": 1}
    app = _load(lab, file=file, **({} if file else {"name": name}), **given)
    if app.name != name:
        raise InputError([Mistake(str(file), 0, 0, "name", name, app.name, "the file is named after its app")])
    return app
