"""Parameters of a runbook from files and from the command line, checked before anything starts."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from labkit.errors import InputError, Mistake
from labkit.run.parameters import Parameter, check_values


def gather(known: Sequence[Parameter], file: Path | None, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the parameters of a YAML file and of `-p NAME VALUE` pairs; the pairs win.

    Raises:
        InputError: unknown names and wrong types, all at once, with the line in the file.
    """
    values = load_parameters(file, known) if file is not None else {}
    given = {name: _typed(known, name, text) for name, text in pairs}
    check_values(known, given)
    return {**values, **given}


def sort_files(known: Sequence[Parameter], files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Tell lab files from files with parameters: the latter have no keys of a lab that are not the runbook's.

    Returns:
        The files with parameters, and the lab files.
    """
    names = {one.name for one in known}
    some: list[Path] = []
    labs: list[Path] = []
    for file in files:
        (labs if _keys(file) & (_OF_A_LAB - names) else some).append(file)
    return some, labs


_OF_A_LAB = frozenset({"vms", "hosts", "proxmox", "k3s", "guests", "nas"})


def _keys(file: Path) -> frozenset[str]:
    """The keys of a YAML file; none when it cannot be read: whoever loads it says why."""
    try:
        data = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return frozenset()
    return frozenset(str(key) for key in data) if isinstance(data, dict) else frozenset()


def load_parameters(file: Path, known: Sequence[Parameter]) -> dict[str, Any]:
    """Return the parameters of a YAML file, checked against those that the runbook declares."""
    try:
        data = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError([Mistake(str(file), 0, 0, "", "a readable file", exc.strerror or str(exc))]) from exc
    except UnicodeDecodeError as exc:
        raise InputError([Mistake(str(file), 0, 0, "", "text in UTF-8", "other bytes")]) from exc
    except MarkedYAMLError as exc:
        mark = exc.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        said = str(exc.problem).removeprefix("found ")
        raise InputError([Mistake(str(file), line, column, "", "valid YAML", said)]) from exc
    if data is None:
        return {}
    if not isinstance(data, CommentedMap):
        raise InputError([Mistake(str(file), 1, 1, "", "a mapping of parameter names to values", type(data).__name__)])
    lines = {name: data.lc.key(name)[0] + 1 for name in data}
    values = {str(name): _plain(value) for name, value in data.items()}
    check_values(known, values, file=str(file), lines=lines)
    return values


def _typed(known: Sequence[Parameter], name: str, text: str) -> object:
    """Turn a word of the command line into the declared type; what does not fit stays text and is refused."""
    kind = next((parameter.type for parameter in known if parameter.name == name), "str")
    if kind == "str":
        return text
    if kind == "bool":
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower(), text)
    if kind == "list" and not text.startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
