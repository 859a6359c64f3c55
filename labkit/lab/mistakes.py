"""Validation errors in the words of the lab file: what was expected, what was got, what was probably meant."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from labkit.lab.models import Lab
from labkit.lab.positions import Document, Path, short
from labkit.lab.types import SECRET_SCHEMES, UNITS, Address, FormError, Network

_SECRET_KEYS = re.compile(r"secret|password|token|read_token|ssh_key|deploy_key|age_key|api_key")
_SECRET_WORDS = re.compile(r"secret|token|password|auth|key|endpoint", re.IGNORECASE)
_OTHER_SCHEMES = ("vault", "op", "bw", "pass", "aws", "gcp", "azure", "age", "gpg", "cmd", "exec", "http", "https")
_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "at least one",
}


def is_secret(path: Path) -> bool:
    """Say whether the value at a path may be a secret, written where a reference should stand."""
    if any(isinstance(part, str) and _SECRET_KEYS.fullmatch(part) for part in path):
        return True
    return path[:2] == ("k3s", "config") and any(_SECRET_WORDS.search(str(part)) for part in path[2:])


def note(document: Document, errors: Iterable[ErrorDetails]) -> None:
    """Add every validation error to the document's mistakes, at the place that it is about."""
    for error in errors:
        path: Path = tuple(part for part in error["loc"] if part != "[key]")
        if path in document.bad:
            continue
        if error["type"] == "missing":
            _missing(document, path)
        elif error["type"] == "extra_forbidden":
            _unknown(document, path)
        elif error["loc"][-1:] == ("[key]",):
            _bad_key(document, path, error)
        else:
            _bad_value(document, path, error)
        document.bad.add(path)


def guess(word: str, options: Sequence[str], form: str = "{}") -> str:
    """Ask whether the nearest option was meant; empty when none is near."""
    by_lower = {option.lower(): option for option in reversed(options)}
    near = difflib.get_close_matches(word.lower(), list(by_lower), 1, 0.6)
    return f"did you mean `{form.format(by_lower[near[0]])}`?" if near else ""


def describe(value: object, path: Path) -> str:
    """Say what a value is without showing what may be a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if is_secret(path):
        return f"a literal of {len(text)} characters"
    if re.search(r"://.*@", text):
        return "a URL with an @ in it (not shown)"
    kind = "the boolean " if isinstance(value, bool) else "" if isinstance(value, str) else "the number "
    return f"{kind}`{short(text)}`" if text else "an empty text"


def look(tree: Any, path: Path) -> Any:
    """Return the value at a path, or None."""
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _missing(document: Document, path: Path) -> None:
    model, name = model_at(path[:-1]), str(path[-1])
    meaning = (model.model_fields[name].description or "") if model else ""
    place = document.value_place(path[:-1])
    document.add(place, path, f"the key `{name}`", "no such key", meaning.split("\n")[0].rstrip("."))


def _unknown(document: Document, path: Path) -> None:
    model, name = model_at(path[:-1]), str(path[-1])
    options = list(model.model_fields) if model else []
    present = look(document.tree, path[:-1])
    free = [option for option in options if option not in present]
    hint = guess(name, free) or guess(name, options)
    expected = f"one of the keys {', '.join(options)}"
    document.add(document.key_place(path), path, expected, f"the unknown key `{short(name)}`", hint)


def _bad_key(document: Document, path: Path, error: ErrorDetails) -> None:
    name = str(path[-1])
    tidy = re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "-", name.lower())).strip("-")[:63].strip("-")
    hint = f"did you mean `{tidy}`?" if path[0] in ("vms", "hosts") and tidy not in ("", name) else ""
    place = document.key_place(path)
    got = f"`{short(name)}`" if len(name) <= 63 else f"a name of {len(name)} characters"
    document.add(place, path, _expected(error), got if name else "an empty text", hint)


def _bad_value(document: Document, path: Path, error: ErrorDetails) -> None:
    value = look(document.tree, path)
    expected = _expected(error)
    got, hint = describe(value, path), ""
    if is_secret(path) and "schemes" in expected:
        got, hint = _scheme(str(value))
    elif error["type"] == "literal_error":
        hint = guess(str(value), _options(error))
    elif path[-1:] in (("memory",), ("disk",)):
        hint = _size_hint(value, str(path[-1]))
    elif error["type"] == "string_type" and isinstance(value, bool | int | float) and not is_secret(path):
        hint = "put it in quotes"
    elif error["type"] == "model_type" and value is None:
        hint = "write {} when nothing is to be said"
    elif "an IPv4 address" in expected:
        hint = _address_hint(str(value))
    elif "host bits" in expected:
        hint = f"did you mean `{Network(str(value), strict=False)}`?"
    elif "range" in expected:
        hint = _range_hint(str(value))
    elif "credentials" in expected:
        hint = "tokens and keys go into the lab file by reference"
    document.add(document.value_place(path), path, expected, got, hint)


def _scheme(value: str) -> tuple[str, str]:
    """Name an unknown scheme only when it surely is one, and no part of a literal secret."""
    scheme = value.partition(":")[0]
    hint = guess(scheme, SECRET_SCHEMES, "{}:")
    if hint or scheme in _OTHER_SCHEMES:
        return f"the unknown scheme `{scheme}:`", hint
    return f"a literal of {len(value)} characters", hint


def _size_hint(value: object, field: str) -> str:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
    if match is None or isinstance(value, bool):
        return ""
    number, unit = match[1], match[2]
    if not unit:
        meant = "GiB" if field == "disk" or float(number) < 256 else "MiB"
    else:
        meant = next((known for known in UNITS if known[0].lower() == unit[0].lower() and known != unit), "")
    return f"did you mean `{number} {meant}`?" if meant and float(number) > 0 else ""


def _address_hint(value: str) -> str:
    """Leave out the prefix length or the port that does not belong to an address."""
    bare = re.split("[/:]", value.strip())[0]
    try:
        return f"did you mean `{Address(bare)}`?"
    except ValueError:
        return ""


def _range_hint(value: str) -> str:
    """Complete `192.168.5.50-59`, or turn a reversed range round."""
    first, _, last = (part.strip() for part in value.partition("-"))
    if last.isdecimal():
        last = f"{first.rpartition('.')[0]}.{last}"
    try:
        low, high = sorted((Address(first), Address(last)))
    except ValueError:
        return ""
    return f"did you mean `{low}-{high}`?"


def _expected(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "value_error" and isinstance(context["error"], FormError):
        return str(context["error"])
    if kind == "value_error" and error["loc"][-1] == "cidr":
        bits = " without host bits" if "host bits" in error["msg"] else ""
        return f"an IPv4 network{bits}, for example 192.168.5.0/24"
    if kind == "value_error":
        return "an IPv4 address, for example 192.168.5.20"
    if kind == "literal_error":
        return f"one of {', '.join(_options(error))}"
    return _KINDS.get(kind, error["msg"]).format(**context)


def _options(error: ErrorDetails) -> list[str]:
    """The values that an enumeration accepts, out of pydantic's sentence."""
    return re.findall(r"'([^']*)'", (error.get("ctx") or {})["expected"])


def model_at(path: Path) -> type[BaseModel] | None:
    """Return the model that describes the mapping at a path, or None."""
    kind: Any = Lab
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        elif typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        else:
            return None
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kind = next(option for option in typing.get_args(kind) if option is not type(None))
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
