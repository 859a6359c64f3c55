"""The part of JSONPath that printer columns use: fields, indexes, wildcards and filters on equality."""

from __future__ import annotations

import re
from typing import Any

Step = tuple[str, Any]
_TOKEN = re.compile(
    r"\.\.?(?P<field>(?:\\.|[^.\[\]\\])+)"
    r"|\[\?\(@\.?(?P<path>[^=!<>\s)]*)\s*(?P<op>==|!=)\s*(?P<value>\"[^\"]*\"|'[^']*'|[^)]*)\)\]"
    r"|\[(?P<index>-?\d+|\*)\]"
    r"|\[['\"](?P<quoted>[^'\"]+)['\"]\]"
)


def parse(text: str) -> list[Step]:
    """Read a path such as `.status.conditions[?(@.type=="Ready")].status` into steps."""
    text = text.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if text and text[0] not in ".[":
        text = f".{text}"
    steps: list[Step] = []
    for found in _TOKEN.finditer(text):
        if found["field"] is not None:
            name = found["field"].replace("\\", "")
            steps.append(("all", None) if name == "*" else ("field", name))
        elif found["quoted"] is not None:
            steps.append(("field", found["quoted"]))
        elif found["index"] is not None:
            steps.append(("all", None) if found["index"] == "*" else ("index", int(found["index"])))
        else:
            wanted = found["value"].strip().strip("\"'")
            steps.append(("filter", (found["path"].split("."), found["op"] == "==", wanted)))
    return steps


def find(value: Any, steps: list[Step]) -> list[Any]:
    """Return every value that the steps lead to."""
    found = [value]
    for kind, argument in steps:
        found = [item for current in found for item in _step(current, kind, argument)]
    return found


def _step(value: Any, kind: str, argument: Any) -> list[Any]:
    if kind == "field":
        return [value[argument]] if isinstance(value, dict) and value.get(argument) is not None else []
    if kind == "all":
        if isinstance(value, dict):
            return list(value.values())
        return value if isinstance(value, list) else []
    if not isinstance(value, list):
        return []
    if kind == "index":
        return value[argument:][:1] if -len(value) <= argument < len(value) else []
    path, equal, wanted = argument
    return [item for item in value if (_plain(item, path) == wanted) is equal]


def _plain(value: Any, path: list[str]) -> str:
    for key in path:
        value = value.get(key) if isinstance(value, dict) and key else value
    return str(value).lower() if isinstance(value, bool) else str(value)
