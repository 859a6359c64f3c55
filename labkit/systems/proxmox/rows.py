"""From the answers of Proxmox to typed facts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labkit.facts.proxmox import Node, Storage, VmConfig, VmRow
from labkit.lab.pveformat import parse_tags


def parse_resources(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Sort the rows of /cluster/resources into `vm` and `node`."""
    found: dict[str, list[Mapping[str, Any]]] = {"vm": [], "node": []}
    kinds = {"qemu": "vm", "lxc": "vm", "node": "node"}
    for row in rows:
        if kind := kinds.get(str(row.get("type"))):
            found[kind].append(row)
    return found


def parse_vm(row: Mapping[str, Any]) -> VmRow:
    """Read one guest of /cluster/resources; a host that is away leaves out most of it."""
    return VmRow(
        vmid=int(row["vmid"]),
        name=str(row.get("name") or ""),
        node=str(row["node"]),
        kind="lxc" if row["type"] == "lxc" else "qemu",
        status=str(row.get("status") or "unknown"),
        template=bool(int(row.get("template") or 0)),
        lock=str(row.get("lock") or ""),
        tags=parse_tags(str(row.get("tags") or "")),
        ha=str(row.get("hastate") or ""),
        pool=str(row.get("pool") or ""),
        **_numbers(row, "maxcpu", "maxmem", "maxdisk"),
    )


def parse_nodes(status: Iterable[Mapping[str, Any]], resources: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """Join the hosts of /cluster/status with their sizes from /cluster/resources."""
    sizes = {str(row["node"]): row for row in resources}
    return tuple(
        Node(
            name=str(row["name"]),
            online=bool(int(row.get("online") or 0)),
            ip=str(row.get("ip") or ""),
            **_numbers(sizes.get(str(row["name"]), {}), "maxcpu", "maxmem", "mem"),
        )
        for row in sorted(status, key=lambda row: str(row.get("name")))
        if row["type"] == "node"
    )


def is_quorate(status: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the cluster takes writes; a single host without a cluster always does."""
    return all(bool(int(row.get("quorate") or 0)) for row in status if row["type"] == "cluster")


def parse_storage(node: str, row: Mapping[str, Any]) -> Storage:
    """Read one storage of /nodes/{node}/storage."""
    flags: Callable[[str], bool] = lambda key: bool(int(row.get(key) or 0))  # noqa: E731  # reads as a table
    return Storage(
        node=node,
        name=str(row["storage"]),
        type=str(row.get("type") or ""),
        content=tuple(sorted(part for part in str(row.get("content") or "").split(",") if part)),
        active=flags("active"),
        enabled=flags("enabled"),
        shared=flags("shared"),
        **_numbers(row, "total", "used", "avail"),
    )


def parse_pending(rows: Iterable[Mapping[str, Any]]) -> VmConfig:
    """Read /nodes/{node}/qemu/{vmid}/pending: what runs, and what waits for the next start."""
    values: dict[str, str] = {}
    pending: dict[str, str | None] = {}
    for row in rows:
        key = str(row["key"])
        if key == "digest":
            continue
        if "value" in row:
            values[key] = str(row["value"])
        if row.get("delete"):
            pending[key] = None
        elif "pending" in row:
            pending[key] = str(row["pending"])
    return VmConfig(values=values, pending=pending)


def _numbers(row: Mapping[str, Any], *keys: str) -> dict[str, int]:
    return {key: int(row.get(key) or 0) for key in keys}
