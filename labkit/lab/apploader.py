"""Load an app: from its file, with the parameters of a run above it; every mistake at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from labkit.errors import InputError, Mistake
from labkit.lab.apps import AppSpec, Oidc, looks_secret
from labkit.lab.models import Lab
from labkit.lab.positions import Document, dotted, parse_yaml

_LARGEST = 256 * 1024
_KINDS = {
    "string_type": "a text", "int_type": "a whole number", "bool_type": "true or false", "tuple_type": "a list",
    "dict_type": "a mapping", "model_type": "a mapping", "too_short": "at least one", "missing": "a value",
}  # fmt: skip


def load_app(lab: Lab, *, file: str | Path = "", **given: Any) -> AppSpec:
    """Return the app of a file and of parameters; a parameter that is not empty stands above the file.

    Args:
        lab: for the domain and the NAS.
        file: a YAML file with the fields of `AppSpec`; none when empty.
        given: fields by name. `config` is the size of the volume, `config_path` its mount, `callback` a path.

    Raises:
        InputError: with every mistake, each with its place.
    """
    document = _read(Path(file)) if str(file) else Document("parameters", {})
    if document.mistakes:
        raise InputError(document.mistakes)
    tree = {**document.tree, **_fields(document.tree, given)}
    if "host" not in tree and isinstance(tree.get("name"), str):
        tree["host"] = f"{tree['name']}.{lab.domain}"
    spec = _validate(document, tree)
    mistakes = [*document.mistakes, *(_crosscheck(lab, spec, document) if spec is not None else ())]
    if mistakes or spec is None:
        raise InputError(mistakes)
    return spec


def _fields(tree: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as fields; what is empty says nothing."""
    found = {key: value for key, value in given.items() if value not in ("", 0, None, [], {}, (), False)}
    size, mount = found.pop("config", None), found.pop("config_path", None)
    if size or mount:
        known = tree.get("volume")
        found["volume"] = {**(known if isinstance(known, dict) else {}), **({"size": size} if size else {}),
                           **({"mount": mount} if mount else {})}  # fmt: skip
    if callback := found.pop("callback", None):
        known = tree.get("oidc")
        found["oidc"] = {**(known if isinstance(known, dict) else {}), "callback": [callback]}
    return found


def _read(path: Path) -> Document:
    try:
        data = path.read_bytes()
        if len(data) > _LARGEST:
            raise InputError([Mistake(str(path), 0, 0, "", "the file of an app", f"more than {_LARGEST} bytes")])
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as exc:
        raise InputError([Mistake(str(path), 0, 0, "", "the file of an app", "no such file")]) from exc
    except (OSError, UnicodeDecodeError) as exc:
        got = getattr(exc, "strerror", None) or "bytes that are no UTF-8"
        raise InputError([Mistake(str(path), 0, 0, "", "the file of an app", got)]) from exc
    document = parse_yaml(text, str(path), _is_secret)
    if not isinstance(document.tree, dict) and not document.mistakes:
        document.add((1, 1), (), "a mapping with the fields of an app", "something else")
    return document


def _is_secret(path: tuple[str | int, ...]) -> bool:
    return path[:1] == ("secrets",) or (path[:1] == ("env",) and len(path) > 1 and looks_secret(str(path[1]), "x"))


def _validate(document: Document, tree: Mapping[str, Any]) -> AppSpec | None:
    try:
        return AppSpec.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as exc:
        for one in exc.errors(include_url=False, include_input=False):
            document.mistakes.append(_mistake(document, tree, one))
    return None


def _mistake(document: Document, tree: Mapping[str, Any], one: ErrorDetails) -> Mistake:
    path = tuple(part for part in one["loc"] if part not in ("[key]", "function-before[_nfs(), NfsMount]"))
    kind, context = one["type"], one.get("ctx") or {}
    place = document.key_place(path) if document.tree else (0, 0)
    if kind == "missing":
        return Mistake(document.file, *place, dotted(path), "a value", "none")
    if kind == "extra_forbidden":
        known = list((Oidc if path[0] == "oidc" and len(path) > 1 else AppSpec).model_fields)
        near = difflib.get_close_matches(str(path[-1]), known, 1)
        hint = f"did you mean `{near[0]}`?" if near else ""
        return Mistake(document.file, *place, dotted(path), f"one of {', '.join(known)}", "an unknown key", hint)
    if kind == "value_error":
        expected = str(context["error"])
    elif kind == "literal_error":
        expected = f"one of {context['expected']}"
    elif kind in ("greater_than_equal", "less_than_equal"):
        limit = context.get("ge", context.get("le"))
        expected = f"a number of at {'least' if kind.startswith('greater') else 'most'} {limit}"
    else:
        expected = _KINDS.get(kind, one["msg"])
    return Mistake(document.file, *place, dotted(path), expected, _show(_look(tree, path), path))


def _look(tree: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return tree if isinstance(tree, str) else None
    return tree


def _show(value: object, path: tuple[Any, ...]) -> str:
    """Say what a value is without showing what may be a secret."""
    if not path or isinstance(value, dict | list):
        return "what is given"
    if value is None:
        return "nothing"
    if _is_secret(path):
        return f"a literal of {len(str(value))} characters"
    return f"`{str(value)[:60]}`"


def _crosscheck(lab: Lab, spec: AppSpec, document: Document) -> list[Mistake]:
    """What the model alone cannot know: the lab's domain, and settings that are secrets in clear."""

    def at(*path: str) -> tuple[int, int]:
        return document.key_place(path) if document.tree else (0, 0)

    found = []
    if not spec.host.endswith(f".{lab.domain}"):
        hint = f"did you mean `{spec.host.split('.')[0]}.{lab.domain}`?"
        found.append(Mistake(document.file, *at("host"), "host", f"a host under {lab.domain}", f"`{spec.host}`", hint))
    elif "." in spec.host.removesuffix(f".{lab.domain}"):
        hint = "a wildcard certificate covers one level only"
        got = f"`{spec.host}`"
        found.append(Mistake(document.file, *at("host"), "host", f"one label before {lab.domain}", got, hint))
    for name, value in spec.env.items():
        if looks_secret(name, value):
            found.append(Mistake(document.file, *at("env", name), f"env.{name}", "no secret in clear",
                                 f"a literal of {len(value)} characters",
                                 f"write secrets: {{{name}: env:{name}}}"))  # fmt: skip
    return found
