"""Server-side Tables: the columns and cells that `kubectl get` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.store import Record, dump
from labkit.twin.kube.tables import cluster, custom, network, pods, storage, workloads
from labkit.twin.kube.tables.cells import Cells, default_cells

_DEFAULT = "Name Created_At"
_COLUMNS: dict[str, str] = {
    **pods.COLUMNS,
    **workloads.COLUMNS,
    **network.COLUMNS,
    **storage.COLUMNS,
    **cluster.COLUMNS,
}
_CELLS: dict[str, Cells] = {
    **pods.CELLS,
    **workloads.CELLS,
    **network.CELLS,
    **storage.CELLS,
    **cluster.CELLS,
}


@dataclass(frozen=True)
class Printer:
    """How objects of one resource become rows."""

    columns: list[Object]
    cells: Cells


def printer_of(resource: Resource) -> Printer:
    """Return the printer of a resource; without own columns it shows name and creation time."""
    if resource.version_spec is not None:
        return Printer(*custom.printer(resource.version_spec))
    text = _COLUMNS.get(resource.key, _DEFAULT)
    columns = [_column(word) for word in text.split()]
    return Printer(columns, _CELLS.get(resource.key, default_cells))


def _column(word: str) -> Object:
    """Read `Cluster-IP` or, for wide output only, `Selector*`; an underscore stands for a space."""
    name = word.rstrip("*").replace("_", " ")
    priority = 1 if word.endswith("*") else 0
    form = "name" if name == "Name" else ""
    return {"name": name, "type": "string", "format": form, "description": "", "priority": priority}


def table(
    printer: Printer,
    records: Iterable[Record],
    meta: bytes,
    now: float,
    shown: Callable[[Record], bytes],
    *,
    headed: bool = True,
) -> bytes:
    """Return a Table as JSON.

    Args:
        printer: of the resource.
        records: the rows.
        meta: the list's metadata as JSON.
        now: for ages, in seconds since the epoch.
        shown: the JSON of a row's object; `null` when none is wanted.
        headed: whether the columns are described; later events of a watch leave them out.
    """
    rows = b",".join([_row(record, printer.cells(record.object, now), shown(record)) for record in records])
    columns = dump(printer.columns if headed else [])
    head = b'{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":'
    return b'%s%s,"columnDefinitions":%s,"rows":[%s]}' % (head, meta, columns, rows)


def _row(record: Record, cells: list[Any], shown: bytes) -> bytes:
    state = pods.row_conditions(record.object) if record.object.get("kind") == "Pod" else b""
    return b'{"cells":%s%s,"object":%s}' % (dump(cells), state, shown)
