"""Copy JSON-like values quickly."""

from __future__ import annotations

import marshal
from typing import TypeVar

T = TypeVar("T")


def clone(value: T) -> T:
    """Return a deep copy of a value of dictionaries, lists and scalars."""
    copied: T = marshal.loads(marshal.dumps(value))  # type: ignore[arg-type]  # noqa: S302 - our own bytes, several times faster than deepcopy
    return copied
