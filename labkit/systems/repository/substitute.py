"""Substitution as Flux does it after a build: `${NAME}` with the forms of a shell that it knows. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TAKE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)([^}]*)\}")
_DEFAULT = re.compile(r":?[-=](.*)", re.DOTALL)
DISABLED = re.compile(r"^    kustomize\.toolkit\.fluxcd\.io/substitute: \"?disabled\"?\s*$", re.MULTILINE)


def substitute(text: str, inputs: Mapping[str, str | None]) -> tuple[str, frozenset[str]]:
    """Fill in variables.

    Args:
        text: one object as YAML.
        inputs: values by name; None for one that exists but cannot be read (it lies encrypted): it stays as it is.

    Returns:
        The text, and the names that have neither a value nor a default; Flux before 2.9 puts nothing in their
        place, and so does this.
    """
    missing: set[str] = set()

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        name, operator = match[1], match[2]
        known = inputs.get(name)
        if name in inputs and known is None:
            return match[0]
        if known is None:
            if (default := _DEFAULT.fullmatch(operator)) is None:
                missing.add(name)
            return "" if default is None else default[1]
        return _applied(known, operator, match[0])

    return _TAKE.sub(value, text), frozenset(missing)


def _applied(value: str, operator: str, whole: str) -> str:
    """Apply what stands behind a name; a form that is not known here leaves the text as it is."""
    if not operator or operator[0] in "-=":
        return value
    if operator.startswith((":-", ":=")):
        return value or operator[2:]
    changed = {"^^": value.upper(), ",,": value.lower(), "^": value[:1].upper() + value[1:],
               ",": value[:1].lower() + value[1:]}  # fmt: skip
    return changed.get(operator, whole)
