"""Validation errors in the words of the lab file: what was expected, what was got, what was probably meant."""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from labkit.lab.models import Lab
from labkit.lab.positions import Document, Path, short
from labkit.lab.types import NO_LITERAL, SECRET_SCHEMES, UNITS, Address, FormError, Network, SecretRef

_SECRET_KEYS = re.compile(r"secret|password|token|read_token|ssh_key|deploy_key|age_key|api_key")
_SECRET_WORDS = re.compile(r"secret|token|password|auth|key|endpoint", re.IGNORECASE)
_OTHER_SCHEMES = ("vault", "op", "bw", "pass", "aws", "gcp", "azure", "age", "gpg", "cmd", "exec", "http", "https")
_SYNONYMS = {"worker": "agent", "node": "agent", "master": "server", "control-plane": "server"}
_ADDRESS = "an IPv4 address, for example 192.168.5.20"
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
    if path[:2] == ("messages", "to"):
        return True
    return path[:2] == ("k3s", "config") and any(_SECRET_WORDS.search(str(part)) for part in path[2:])


def note(document: Document, errors: Iterable[ErrorDetails]) -> None:
    """Add every validation error to the document's mistakes, at the place that it is about."""
    for error in errors:
        path: Path = tuple(part for part in error["loc"] if part != "[key]")
        if path in document.bad or (error["type"] == "too_short" and look(document.tree, path)):
            continue  # told already; a list whose entries are wrong counts as too short, too
        if error["type"] == "missing":
            _missing(document, path)
        elif error["type"] == "extra_forbidden":
            _unknown(document, path)
        elif error["loc"][-1:] == ("[key]",):
            _bad_key(document, path, error)
            continue  # what stands under the key may still be sound
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
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
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
    got, where = f"the unknown key `{short(name)}`", path
    if is_secret(path[:-1]) and not hint:  # below a token, it may be the secret itself
        got, where = f"an unknown key of {len(name)} characters", path[:-1]
    document.add(document.key_place(path), where, expected, got, hint)


def _bad_key(document: Document, path: Path, error: ErrorDetails) -> None:
    name = str(path[-1])
    tidy = re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "-", name.lower())).strip("-")[:63].strip("-")
    named = path[0] in {"hosts", "vms"} and len(path) == 2
    hint = f"did you mean `{tidy}`?" if named and tidy not in ("", name) else ""
    place = document.key_place(path)
    got = f"`{short(name)}`" if len(name) <= 63 else f"a name of {len(name)} characters"
    document.add(place, path, _expected(error), got if name else "an empty text", hint)


def _bad_value(document: Document, path: Path, error: ErrorDetails) -> None:
    value = look(document.tree, path)
    expected, got = _expected(error), describe(value, path)
    hint = _hint(error, path, value, expected)
    if kind_at(path) is SecretRef:
        expected = expected if isinstance(value, str) else NO_LITERAL
        if isinstance(value, str | bool | int | float):
            got, hint = _reference(str(value))
    elif error["type"] == "string_type" and kind_at(path) is Address:
        expected, hint = _ADDRESS, ""
    document.add(document.value_place(path), path, expected, got, hint)


def _hint(error: ErrorDetails, path: Path, value: object, expected: str) -> str:
    """Say what was probably meant; empty when nothing is near."""
    text, kind = str(value), error["type"]
    if kind in _ASIDES:
        return _ASIDES[kind](value)
    if kind == "literal_error":
        return guess(_SYNONYMS.get(text.lower(), text), _options(error))
    if path[-1:] in (("memory",), ("disk",)):
        return _size_hint(value, str(path[-1]))
    return next((make(text) for words, make in _MEANT.items() if words in expected), "")


def _reference(value: str) -> tuple[str, str]:
    """Name the scheme of a reference only when it surely is one, and no part of a literal secret."""
    scheme, _, rest = value.partition(":")
    if scheme in SECRET_SCHEMES:
        return f"`{scheme}:` and {len(rest)} characters", ""
    hint = guess(scheme, SECRET_SCHEMES, "{}:") if rest else ""
    if rest and (hint or scheme in _OTHER_SCHEMES):
        return f"the unknown scheme `{scheme}:`", hint
    return f"a literal of {len(value)} characters", "" if rest else "write where it is kept, not what it is"


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


def _network_hint(value: str) -> str:
    return f"did you mean `{Network(value, strict=False)}`?"


_BOOLEANS = {
    word: f"did you mean `{meant}`?"
    for meant, words in {"true": ("yes", "on", "y", "1"), "false": ("no", "off", "n", "0")}.items()
    for word in words
}
_ASIDES: dict[str, Callable[[object], str]] = {
    "string_type": lambda value: "put it in quotes" if isinstance(value, bool | int | float) else "",
    "model_type": lambda value: "write {} when nothing is to be said" if value is None else "",
    "bool_type": lambda value: _BOOLEANS.get(str(value).lower(), ""),
}
_MEANT: dict[str, Callable[[str], str]] = {
    "an IPv4 address": _address_hint,
    "host bits": _network_hint,
    "range": _range_hint,
    "credentials": lambda _: "tokens and keys go into the lab file by reference",
}


def _expected(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "value_error" and isinstance(context["error"], FormError):
        return str(context["error"])
    if kind == "value_error" and error["loc"][-1] == "cidr":
        bits = " without host bits" if "host bits" in error["msg"] else ""
        return f"an IPv4 network{bits}, for example 192.168.5.0/24"
    if kind == "value_error":
        return _ADDRESS
    if kind == "literal_error":
        return f"one of {', '.join(_options(error))}"
    if kind == "model_type" and (model := model_at(error["loc"])):
        return f"a mapping with the keys {', '.join(model.model_fields)}"
    return _KINDS[kind].format(**context) if kind in _KINDS else error["msg"]


def _options(error: ErrorDetails) -> list[str]:
    """The values that an enumeration accepts, out of pydantic's sentence."""
    return re.findall(r"'([^']*)'", (error.get("ctx") or {})["expected"])


def model_at(path: Path) -> type[BaseModel] | None:
    """Return the model that describes the mapping at a path, or None."""
    kind = kind_at(path)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def kind_at(path: Path) -> Any:
    """Return the type of the value at a path (of an optional one without None), or None."""
    kind: Any = Lab
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _hints(kind).get(str(part))
        elif typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        elif typing.get_origin(kind) is tuple:
            kind = typing.get_args(kind)[0]
        else:
            return None
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kind = next(option for option in typing.get_args(kind) if option is not type(None))
    return kind


@functools.cache
def _hints(model: type[BaseModel]) -> dict[str, Any]:
    return typing.get_type_hints(model, include_extras=True)
