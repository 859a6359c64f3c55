"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386)."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.clone import clone


class PatchError(Exception):
    """A patch that cannot be applied to this object."""


def merge_patch(target: Any, patch: Any) -> Any:
    """Return the target with a merge patch laid over it; null removes."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """Return the target with the operations done in order.

    Raises:
        PatchError: a test fails, a path does not exist, or an operation cannot be read.
    """
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    document = {"": clone(target)}
    for step in operations:
        if not isinstance(step, dict) or "op" not in step or "path" not in step:
            raise PatchError(f"operation without op and path: {step!r}")
        _operate(document, step)
    return document[""]


def _operate(document: dict[str, Any], step: dict[str, Any]) -> None:
    op, path = step["op"], _tokens(str(step["path"]))
    match op:
        case "add":
            _add(document, path, clone(_value(step)))
        case "remove":
            _remove(document, path)
        case "replace":
            _remove(document, path)
            _add(document, path, clone(_value(step)))
        case "test":
            if _find(document, path) != step.get("value"):
                raise PatchError(f"testing value {step['path']} failed")
        case "copy":
            _add(document, path, clone(_find(document, _tokens(str(step.get("from", ""))))))
        case "move":
            source = _tokens(str(step.get("from", "")))
            moved = _find(document, source)
            _remove(document, source)
            _add(document, path, moved)
        case _:
            raise PatchError(f"unexpected kind: {op}")


def _value(step: dict[str, Any]) -> Any:
    if "value" not in step:
        raise PatchError(f"operation {step['op']} without a value")
    return step["value"]


def _tokens(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise PatchError(f"path {path!r} does not start with a slash")
    return ["", *(part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])]


def _find(value: Any, tokens: list[str]) -> Any:
    for token in tokens:
        try:
            value = value[int(token)] if isinstance(value, list) else value[token]
        except (KeyError, IndexError, ValueError, TypeError) as exc:
            raise PatchError(f"path {'/'.join(tokens)} does not exist") from exc
    return value


def _add(document: dict[str, Any], tokens: list[str], value: Any) -> None:
    parent, last = _find(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, list):
        index = len(parent) if last == "-" else _index(last)
        if index > len(parent):
            raise PatchError(f"index {last} is out of bounds")
        parent.insert(index, value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise PatchError(f"path {'/'.join(tokens)} does not exist")


def _remove(document: dict[str, Any], tokens: list[str]) -> None:
    _find(document, tokens)
    parent, last = _find(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]


def _index(token: str) -> int:
    if not token.isdigit():
        raise PatchError(f"{token!r} is no index")
    return int(token)
