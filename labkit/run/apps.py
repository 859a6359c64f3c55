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


def load_app(lab: Lab, name: str, *, near: str | Path = "", remove: bool = False, **given: Any) -> AppSpec:
    """Return the app of that name: of its file, when there is one, and of parameters that say something.

    Args:
        lab: for the domain and the NAS.
        name: of the app, and of its file `apps/<name>.yaml`.
        near: the lab file; the app's is looked for beside it, then in `parameters` here and above.
        remove: it is to be removed, and needs nothing but its name.
        given: fields of `AppSpec` by name; `config` is the size of its volume, `callback` a path for OIDC.

    Raises:
        InputError: with every mistake, each with its place.
    """
    if not name:
        raise InputError([Mistake("parameters", 0, 0, "name", "the name of an app", "an empty text")])
    if remove:
        return _load(lab, name=name, image="removed:0", port=1)
    file = _file_of(name, near)
    if file is None:
        try:
            return _load(lab, name=name, **given)
        except InputError as exc:
            raise InputError(exc.mistakes, next_step=f"give what is missing, or write {FOLDER}/{name}.yaml") from exc
    app = _load(lab, file=file, **given)
    if app.name != name:
        raise InputError([Mistake(str(file), 0, 0, "name", name, app.name, "the file is named after its app")])
    return app


def _file_of(name: str, near: str | Path) -> Path | None:
    if near and (beside := find_input(near).parent / "apps" / f"{name}.yaml").is_file():
        return beside
    try:
        return find_input(FOLDER / f"{name}.yaml")
    except InputError:
        return None
