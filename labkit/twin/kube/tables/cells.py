"""Cells that many tables share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labkit.twin.kube.clock import age, parse_stamp
from labkit.twin.kube.door import Object

Cells = Callable[[Object, float], list[Any]]
NONE, UNSET, UNKNOWN = "<none>", "<unset>", "<unknown>"


def since(stamp: str | None, now: float) -> str:
    """Return the age of a time stamp, `<unknown>` without one."""
    if not stamp:
        return UNKNOWN
    try:
        return age(now - parse_stamp(stamp))
    except ValueError:
        return "<invalid>"


def created(obj: Object, now: float) -> str:
    """Return the age of an object."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def name_of(obj: Object) -> str:
    """Return the name of an object."""
    return str(obj["metadata"]["name"])


def default_cells(obj: Object, _now: float) -> list[Any]:
    """Return name and creation time."""
    return [name_of(obj), obj["metadata"].get("creationTimestamp", UNKNOWN)]


def named(obj: Object, now: float) -> list[Any]:
    """Return name and age."""
    return [name_of(obj), created(obj, now)]


def listed(words: Iterable[Any], empty: str = NONE) -> str:
    """Join words with commas."""
    return ",".join(str(word) for word in words) or empty


def containers(spec: Object) -> tuple[str, str]:
    """Return the names and the images of a pod template's containers."""
    found = spec.get("containers", ())
    return ",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)


def labels_text(labels: Object | None) -> str:
    """Write labels as `a=b,c=d`."""
    return listed(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def access_modes(modes: Iterable[str]) -> str:
    """Shorten access modes: RWO, ROX, RWX, RWOP."""
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    found = set(modes)
    return ",".join(text for mode, text in short.items() if mode in found)
