"""Find the secret references of a lab. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from labkit.lab.models import SECRET_SCHEMES


def walk_references(value: object, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted place and the text of every secret reference below a model, mapping or sequence."""
    if isinstance(value, BaseModel):
        children: list[tuple[object, object]] = [(name, getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, tuple | list):
        children = list(enumerate(value))
    else:
        if isinstance(value, str) and value.partition(":")[0] in SECRET_SCHEMES and ":" in value:
            yield where, value
        return
    for name, child in children:
        yield from walk_references(child, f"{where}.{name}" if where else str(name))
