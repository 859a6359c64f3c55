"""The typed parameters of a runbook, as its notebook declares them: `name: type = literal  # help`."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import InputError, Mistake

TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list": list,
    "dict": dict,
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a runbook; `type` is a key of `TYPES`."""

    name: str
    type: str
    default: Any
    help: str


def notebooks_dir() -> Path:
    """Return the folder with the runbooks: `notebooks` here or above, else the ones that came with labkit."""
    package = Path(__file__).resolve().parents[1]
    here = Path.cwd()
    for folder in (here, *here.parents, package.parent, package / "share"):
        candidate = folder / "notebooks"
        if next(candidate.glob("[0-9][0-9]-*.ipynb"), None) is not None:
            return candidate
    raise InputError([Mistake("notebooks", 0, 0, "", "a folder with runbooks, here or above", "none")])


def list_notebooks() -> dict[str, Path]:
    """Return the notebook of each runbook by name (`provision-vms`), in the order of their numbers."""
    found = sorted(notebooks_dir().glob("[0-9][0-9]-*.ipynb"))
    return {path.stem[3:]: path for path in found}


def find_notebook(runbook: str) -> Path:
    """Return the notebook of a runbook, given as `provision-vms`, `10-provision-vms` or a file name.

    Raises:
        InputError: with the nearest name.
    """
    known = list_notebooks()
    name = Path(runbook).name.removesuffix(".ipynb")
    if name[:2].isdigit() and name[2:3] == "-":
        name = name[3:]
    if name in known:
        return known[name]
    raise InputError(
        [Mistake("runbook", 0, 0, "", f"one of {', '.join(known)}", repr(runbook), _near(name, known))],
        next_step="`labkit runbooks` lists them",
    )


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook as parsed JSON."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def source(cell: Mapping[str, Any]) -> str:
    """Return the source of a cell as one text."""
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def parse_parameters(text: str) -> tuple[Parameter, ...]:
    """Return the parameters that a cell declares; each stands on one line."""
    lines = text.splitlines()
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            _, _, comment = lines[node.lineno - 1][node.end_col_offset or 0 :].partition("#")
            name, kind = node.target.id, ast.unparse(node.annotation)
            found.append(Parameter(name, kind, ast.literal_eval(node.value), comment.strip()))
    return tuple(found)


def declared(runbook: str) -> tuple[Parameter, ...]:
    """Return the parameters of a runbook from the cell tagged `parameters` of its notebook."""
    for cell in read_notebook(find_notebook(runbook))["cells"]:
        if "parameters" in cell["metadata"].get("tags", ()):
            return parse_parameters(source(cell))
    return ()


def check_values(
    known: Iterable[Parameter],
    given: Mapping[str, Any],
    *,
    file: str = "parameters",
    lines: Mapping[str, int] | None = None,
) -> None:
    """Refuse unknown names and wrong types, all at once.

    Raises:
        InputError: one mistake per parameter, with the line of `lines` when it is known.
    """
    by_name = {parameter.name: parameter for parameter in known}
    mistakes = []
    for name, value in given.items():
        line = (lines or {}).get(name, 0)
        parameter = by_name.get(name)
        if parameter is None:
            expected = "one of the parameters " + ", ".join(by_name)
            mistakes.append(
                Mistake(file, line, int(bool(line)), name, expected, "an unknown name", _near(name, by_name))
            )
        elif not _fits(value, parameter.type):
            got = f"{type(value).__name__} {value!r}"
            mistakes.append(Mistake(file, line, int(bool(line)), name, f"a value of type {parameter.type}", got))
    if mistakes:
        raise InputError(mistakes)


def check_injected(runbook: str) -> None:
    """Check, inside a kernel, what papermill injected and what the parameters cell holds now.

    papermill only warns about a parameter that the notebook does not declare; here it is an error. Outside a
    kernel there is nothing to check.
    """
    namespace = _kernel_namespace()
    if namespace is None:
        return
    known = declared(runbook)
    injected = next((text for text in reversed(namespace.get("In", [])) if text.startswith("# Parameters")), "")
    names = [
        target.id
        for node in ast.parse(injected).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    here = [parameter.name for parameter in known if parameter.name in namespace]
    check_values(known, {name: namespace.get(name) for name in [*names, *here]})


def _kernel_namespace() -> Mapping[str, Any] | None:
    try:
        from IPython import get_ipython  # noqa: PLC0415  # only there inside a kernel
    except ImportError:
        return None
    shell = get_ipython()
    return None if shell is None else shell.user_ns


def _fits(value: object, kind: str) -> bool:
    accepted = TYPES.get(kind)
    if accepted is None:
        return False
    if isinstance(value, bool) and kind != "bool":
        return False
    return isinstance(value, accepted)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""
