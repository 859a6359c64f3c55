"""postBuild substitution: `${NAME}` with the forms of a shell that Flux knows, strict as Flux 2.9 is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_FOUND = re.compile(r"\$\$|\$\{#?([A-Za-z_][A-Za-z0-9_]*)([^}]*)\}")
_SLICE = re.compile(r":(\d+)(?::(\d+))?")
_CASES: dict[str, Callable[[str], str]] = {
    "^^": str.upper,
    ",,": str.lower,
    "^": lambda text: text[:1].upper() + text[1:],
    ",": lambda text: text[:1].lower() + text[1:],
}


class NotSet(Exception):
    """A variable has neither a value nor a default."""


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Fill in variables; raise NotSet with the name of one that has no value and no default."""
    return _FOUND.sub(lambda match: _value(match, values), text)


def _value(match: re.Match[str], values: Mapping[str, str]) -> str:
    if match[0] == "$$":
        return "$"
    name, rest = match[1], match[2]
    known = values.get(name)
    if match[0].startswith("${#"):
        return str(len(known or ""))
    for sign in (":-", ":="):
        if rest.startswith(sign):
            return known or rest[2:]
    if rest[:1] in ("-", "="):
        return rest[1:] if known is None else known
    if known is None:
        raise NotSet(name)
    return _changed(known, rest)


def _changed(value: str, rest: str) -> str:
    if rest in _CASES:
        return _CASES[rest](value)
    if part := _SLICE.fullmatch(rest):
        start = int(part[1])
        return value[start : start + int(part[2])] if part[2] else value[start:]
    if rest.startswith("/"):
        every = rest.startswith("//")
        old, _, new = rest.lstrip("/").partition("/")
        return value.replace(old, new) if every else value.replace(old, new, 1)
    if rest.startswith("#"):
        return value.removeprefix(rest.lstrip("#"))
    return value.removesuffix(rest.lstrip("%")) if rest.startswith("%") else value
