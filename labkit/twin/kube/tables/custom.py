"""The tables of custom kinds: the printer columns of their CRDs."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.jsonpath import find, parse
from labkit.twin.kube.store import dump
from labkit.twin.kube.tables.cells import Cells, name_of, since

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def printer(version: dict[str, Any]) -> tuple[list[Object], Cells]:
    """Return the columns and the cells of one version of a CRD."""
    columns: list[Object] = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
    readers = []
    for column in version.get("additionalPrinterColumns") or (_AGE,):
        columns.append(
            {
                "name": column["name"],
                "type": column["type"],
                "format": column.get("format", ""),
                "description": column.get("description", ""),
                "priority": column.get("priority", 0),
            }
        )
        readers.append((column["type"], parse(column["jsonPath"])))

    def cells(obj: Object, now: float) -> list[Any]:
        return [name_of(obj), *(_cell(kind, find(obj, path), now) for kind, path in readers)]

    return columns, cells


def _cell(kind: str, values: list[Any], now: float) -> Any:
    if not values:
        return None
    first = values[0]
    match kind:
        case "date":
            return since(first, now) if isinstance(first, str) else "<invalid>"
        case "integer":
            return int(first) if isinstance(first, int | float) else None
        case "number":
            return float(first) if isinstance(first, int | float) else None
        case "boolean":
            return first if isinstance(first, bool) else None
    return " ".join(_text(value) for value in values)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else dump(value).decode()
