"""Read a TrueNAS box: a dozen queries over one connection, side by side; the same for two disks and for forty."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from labkit.facts.nas import Dataset, NasAlert, NasDisk, NasFacts, NasKey, NasTask, NfsShare, Pool, PoolDisk
from labkit.lab import Lab
from labkit.systems import loop
from labkit.systems.access import Access
from labkit.systems.nas.client import NasClient, NasError, open_nas

_LIMIT = 60.0
Rows = list[dict[str, Any]]
_CALLS: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "info": ("system.info", ()),
    "pools": ("pool.query", ()),
    "datasets": ("pool.dataset.query", ([], {"extra": {
        "flat": True, "retrieve_children": False, "properties": ["used", "available", "quota", "mountpoint"],
        "retrieve_user_props": False,
    }})),
    "shares": ("sharing.nfs.query", ()),
    "services": ("service.query", ([["service", "=", "nfs"]],)),
    "nfs": ("nfs.config", ()),
    "tasks": ("pool.snapshottask.query", ()),
    "replications": ("replication.query", ()),
    "alerts": ("alert.list", ()),
    "disks": ("disk.query", ([], {"extra": {"pools": True}})),
    "temperatures": ("disk.temperatures", ([], False)),
    "tests": ("smart.test.results", ()),
    "keys": ("api_key.query", ()),
}  # fmt: skip
"""What is asked; a method that the release does not have, or the key's role may not call, gives nothing."""
_MAY_BE_CLOSED = frozenset({"keys", "temperatures", "tests"})


def read_nas(lab: Lab, access: Access) -> NasFacts:
    """Return what is there of the NAS; facts that say so when the lab file names no API key.

    Raises:
        SystemDown: it cannot be reached, or its certificate is not the expected one.
        InputError: it does not take the key.
        NasError: the key may not read what is needed; the role READONLY_ADMIN may.
    """
    if lab.nas.api_key is None:
        return NasFacts(used=False, read_at=datetime.now(UTC))
    return loop.call(_read(lab, access), timeout=_LIMIT)


async def _read(lab: Lab, access: Access) -> NasFacts:
    async with open_nas(lab, access) as client:
        answers = await asyncio.gather(*(_ask(client, name) for name in _CALLS))
        found = dict(zip(_CALLS, answers, strict=True))
        facts = _facts(found)
        home = facts.dataset_of(_path(lab.nas.backup_target))
        if home is None:
            return facts
        newest = await _newest_snapshot(client, home.name)
        return facts.model_copy(update={"backup_dataset": home.name, "newest_snapshot": newest})


async def _ask(client: NasClient, name: str) -> Any:
    method, params = _CALLS[name]
    try:
        return await client.find(method, *params)
    except NasError:
        if name in _MAY_BE_CLOSED:
            return None
        raise


async def _newest_snapshot(client: NasClient, dataset: str) -> datetime | None:
    """Return when the newest snapshot was made; the method's name differs between releases."""
    asked = ([["dataset", "=", dataset]], {"order_by": ["-createtxg"], "select": ["name", "properties.creation"],
                                           "extra": {"properties": ["creation"]}})  # fmt: skip
    calls: list[Coroutine[Any, Any, Any]] = [client.find(f"{kind}.snapshot.query", *asked) for kind in ("pool", "zfs")]
    answers = [answer for answer in await asyncio.gather(*calls) if answer is not None]
    rows: Rows = answers[0] if answers else []
    times = [_moment(((row.get("properties") or {}).get("creation") or {}).get("parsed")) for row in rows]
    return max((moment for moment in times if moment is not None), default=None)


def _facts(found: Mapping[str, Any]) -> NasFacts:
    info, temperatures = found["info"] or {}, found["temperatures"] or {}
    return NasFacts(
        version=str(info.get("version") or ""),
        hostname=str(info.get("hostname") or ""),
        uptime=int(info.get("uptime_seconds") or 0),
        pools=tuple(_pool(row) for row in found["pools"] or ()),
        datasets=tuple(_dataset(row) for row in found["datasets"] or ()),
        shares=tuple(_share(row) for row in found["shares"] or ()),
        nfs_running=any(row.get("state") == "RUNNING" for row in found["services"] or ()),
        nfs_protocols=tuple((found["nfs"] or {}).get("protocols") or ()),
        snapshot_tasks=tuple(_task(row, str(row["dataset"]), str(row["dataset"])) for row in found["tasks"] or ()),
        replications=tuple(
            _task(row, str(row["name"]), ", ".join(row.get("source_datasets") or ())) for row in found["replications"]
            or ()
        ),
        alerts=tuple(_alert(row) for row in found["alerts"] or () if not row.get("dismissed")),
        disks=tuple(_disks(found["disks"] or [], temperatures, found["tests"] or [])),
        keys=tuple(NasKey(name=str(row["name"]), expires=_moment(row.get("expires_at"))) for row in found["keys"]
                   or ()),
        read_at=datetime.now(UTC),
    )  # fmt: skip


def _pool(row: Mapping[str, Any]) -> Pool:
    scan = row.get("scan") or {}
    return Pool(
        name=str(row["name"]),
        status=str(row.get("status") or ""),
        healthy=bool(row.get("healthy")),
        warning=bool(row.get("warning")),
        detail=str(row.get("status_detail") or ""),
        size=int(row.get("size") or 0),
        allocated=int(row.get("allocated") or 0),
        free=int(row.get("free") or 0),
        scan=str(scan.get("function") or ""),
        scan_state=str(scan.get("state") or ""),
        scan_end=_moment(scan.get("end_time")),
        scan_errors=int(scan.get("errors") or 0),
        bad_disks=tuple(_bad_disks(row.get("topology") or {})),
    )


def _bad_disks(topology: Mapping[str, Any]) -> Iterator[PoolDisk]:
    """Yield the leaves that are not online, or have counted errors."""
    waiting = [vdev for group in topology.values() for vdev in group or ()]
    while waiting:
        vdev = waiting.pop()
        waiting += vdev.get("children") or ()
        if vdev.get("children"):
            continue
        stats = vdev.get("stats") or {}
        errors = sum(int(stats.get(f"{kind}_errors") or 0) for kind in ("read", "write", "checksum"))
        status = str(vdev.get("status") or "")
        if errors or status not in ("ONLINE", "AVAIL"):
            yield PoolDisk(name=str(vdev.get("disk") or vdev.get("name")), status=status, errors=errors)


def _dataset(row: Mapping[str, Any]) -> Dataset:
    return Dataset(
        name=str(row["name"]), mountpoint=str(row.get("mountpoint") or ""), used=_parsed(row.get("used")),
        available=_parsed(row.get("available")), quota=_parsed(row.get("quota")), locked=bool(row.get("locked")),
    )  # fmt: skip


def _share(row: Mapping[str, Any]) -> NfsShare:
    return NfsShare(
        path=str(row["path"]), enabled=bool(row.get("enabled")), read_only=bool(row.get("ro")),
        networks=tuple(row.get("networks") or ()), hosts=tuple(row.get("hosts") or ()), locked=bool(row.get("locked")),
    )  # fmt: skip


def _task(row: Mapping[str, Any], name: str, dataset: str) -> NasTask:
    state = row.get("state") or {}
    return NasTask(
        name=name,
        dataset=dataset,
        target=str(row.get("target_dataset") or ""),
        enabled=bool(row.get("enabled")),
        state=str(state.get("state") or ""),
        at=_moment(state.get("datetime")),
        last_snapshot=str(state.get("last_snapshot") or ""),
        problem=str(state.get("error") or state.get("reason") or ""),
        cron=_cron(row.get("schedule")),
    )


def _alert(row: Mapping[str, Any]) -> NasAlert:
    return NasAlert(level=str(row.get("level") or ""), kind=str(row.get("klass") or ""),
                    text=" ".join(str(row.get("text") or row.get("klass") or "").split()),
                    at=_moment(row.get("datetime")))  # fmt: skip


def _disks(rows: Rows, temperatures: Mapping[str, Any], tests: Rows) -> Iterator[NasDisk]:
    last: dict[str, Mapping[str, Any]] = {str(row.get("disk")): next(iter(row.get("tests") or ()), {}) for row in tests}
    for row in rows:
        test = last.get(str(row["name"]), {})
        failed = str(test.get("status_verbose") or "failed") if test.get("status") == "FAILED" else ""
        yield NasDisk(name=str(row["name"]), model=str(row.get("model") or ""), serial=str(row.get("serial") or ""),
                      pool=str(row.get("pool") or ""), temperature=temperatures.get(row["name"]),
                      failed_test=failed)  # fmt: skip


def _cron(schedule: Mapping[str, Any] | None) -> str:
    fields = ("minute", "hour", "dom", "month", "dow")
    return " ".join(str(schedule.get(field, "*")) for field in fields) if schedule else ""


def _parsed(value: Any) -> int:
    """Return the number of a ZFS property, 0 for none."""
    found = value.get("parsed") if isinstance(value, Mapping) else value
    return int(found) if isinstance(found, int | float) else 0


def _moment(value: Any) -> datetime | None:
    """Return a time of the API, which writes milliseconds since the epoch as `{"$date": ms}`."""
    milliseconds = value.get("$date") if isinstance(value, Mapping) else None
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _path(target: str) -> str:
    """Return the path of a backup target on the box: that of `nfs://host:/path?options`."""
    parts = urlsplit(target)
    return parts.path.rstrip("/") or "/"
