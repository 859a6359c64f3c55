"""Versions and ranges as Helm and Flux read them: `1.10.2`, `v1.2.x`, `>=1.2.0 <2.0.0`, `^1.2`, `~1.2`, `1 || 2`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_TERM = re.compile(r"(>=|<=|!=|=>|=<|[><=^~]|~>)?\s*v?([0-9xX*][0-9A-Za-z.*+-]*)")


@dataclass(frozen=True, order=True)
class Version:
    """A semantic version; `final` orders a pre-release before its release."""

    major: int
    minor: int = 0
    patch: int = 0
    final: bool = True
    pre: str = ""


def parse_version(text: str) -> Version | None:
    """Read a version; None when it is none."""
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        return None
    major, minor, patch = (int(found[n] or 0) for n in (1, 2, 3))
    return Version(major, minor, patch, found[4] is None, found[4] or "")


def is_exact(text: str) -> bool:
    """Tell whether a text names one version rather than a range."""
    return re.fullmatch(r"=?\s*v?\d+\.\d+\.\d+([-+].*)?", text.strip()) is not None


def satisfies(version: Version, text: str) -> bool:
    """Tell whether a version lies in a range; an empty range is `*`."""
    return any(_all(version, part) for part in (text or "*").split("||"))


def newest(versions: Iterable[str], text: str) -> str | None:
    """Return the newest of the versions in a range, None when there is none."""
    read = [(parsed, one) for one in versions if (parsed := parse_version(one)) is not None]
    found = [pair for pair in read if satisfies(pair[0], text)]
    return max(found)[1] if found else None


def _all(version: Version, part: str) -> bool:
    terms = _TERM.findall(re.sub(r"\s+-\s+(\S+)", r" <=\1", re.sub(r"(\S+)(\s+-\s+)", r">=\1\2", part)))
    if not version.final and "-" not in part:
        return False
    return bool(terms) and all(_one(version, operator, number) for operator, number in terms)


def _one(version: Version, operator: str, text: str) -> bool:
    numbers = [None if part in "xX*" else int(part) for part in re.split(r"[-+]", text)[0].split(".")[:3]]
    known = [number for number in numbers if number is not None]
    padded = (*known, 0, 0, 0)
    low = parse_version(text) or Version(padded[0], padded[1], padded[2])
    if operator in _COMPARE:
        return _COMPARE[operator](version, low)
    return low <= version and _head(version)[: _held(operator, known)] == [*known, 0, 0][: _held(operator, known)]


def _held(operator: str, known: list[int]) -> int:
    """Return how many leading numbers must stay as they are."""
    if operator == "^":
        first = next((place for place, number in enumerate(known) if number), len(known) - 1)
        return first + 1
    if operator in {"~", "~>"}:
        return min(2, len(known))
    return len(known)


def _head(version: Version) -> list[int]:
    return [version.major, version.minor, version.patch]


_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "=>": lambda one, other: one >= other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    "=<": lambda one, other: one <= other,
    "!=": lambda one, other: one != other,
}
