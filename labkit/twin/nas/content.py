"""What is on the NAS: pools, datasets, snapshots, shares, tasks, alerts, disks; made from the lab file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.seed import Seed

Row = dict[str, Any]
_TB, _GB, _DAY = 10**12, 10**9, 86400
_DISKS = 4
USER = "labkit"
"""The user that the API key belongs to."""
_BULK = ("media", "documents", "pictures")
"""Beside the backups: what static volumes of apps mount."""


def date(seconds: float) -> dict[str, int]:
    """Write a time as the API does: milliseconds since the epoch."""
    return {"$date": int(seconds * 1000)}


def dataset_of(target: str) -> str:
    """Return the dataset behind a backup target: what follows /mnt/ in its path."""
    path = target.partition("://")[2].partition(":")[2].partition("?")[0].strip("/")
    return path.removeprefix("mnt/") or "tank/backups"


@dataclass
class Content:
    """The state of one NAS; lists of rows as the API shows them."""

    pools: list[Row]
    datasets: list[Row]
    snapshots: list[Row]
    shares: list[Row]
    snapshot_tasks: list[Row]
    replications: list[Row]
    alerts: list[Row]
    disks: list[Row]
    services: list[Row]
    keys: list[Row]
    jobs: list[Row] = field(default_factory=list)


def make_content(target: str, network: str, seed: Seed, now: float) -> Content:
    """Return a healthy NAS of four disks that exports a backup target."""
    dataset = dataset_of(target)
    pool = dataset.partition("/")[0]
    disks = [_disk(f"sd{letter}", pool, seed) for letter in "abcd"[:_DISKS]]
    bulk = [f"{pool}/{name}" for name in _BULK]
    names = [pool, *_parents(dataset), dataset, *bulk]
    snapshots = [_snapshot(dataset, now - days * _DAY, number) for number, days in enumerate(range(14, 0, -1))]
    shared = {dataset: "Longhorn backups"} | dict.fromkeys(bulk, "bulk data of apps")
    return Content(
        pools=[_pool(pool, disks, seed, now)], datasets=[_dataset(name) for name in dict.fromkeys(names)],
        snapshots=snapshots, shares=[_share(number, *one, network) for number, one in enumerate(shared.items(), 1)],
        snapshot_tasks=[_snapshot_task(dataset, snapshots[-1], now)],
        replications=[_replication(dataset, snapshots[-1], now)], alerts=_alerts(now), disks=disks,
        services=_services(), keys=_keys(now),
    )  # fmt: skip


def _parents(dataset: str) -> list[str]:
    parts = dataset.split("/")
    return ["/".join(parts[:n]) for n in range(2, len(parts))]


def _disk(name: str, pool: str, seed: Seed) -> Row:
    serial = seed.hex("disk serial", name, length=8).upper()
    return {
        "identifier": f"{{serial_lunid}}{serial}_5000c500{serial.lower()}", "name": name, "devname": name,
        "serial": serial, "lunid": f"5000c500{serial.lower()}", "size": 8 * _TB, "model": "ST8000VN004", "type": "HDD",
        "rotationrate": 7200, "bus": "ATA", "zfs_guid": seed.hex("guid", name, length=16), "pool": pool,
        "hddstandby": "ALWAYS ON", "enclosure": None, "description": "", "subsystem": "scsi",
    }  # fmt: skip


def _pool(name: str, disks: list[Row], seed: Seed, now: float) -> Row:
    stats = {"read_errors": 0, "write_errors": 0, "checksum_errors": 0, "size": 8 * _TB, "allocated": 0}
    children = [
        {"type": "DISK", "name": disk["name"], "path": f"/dev/{disk['name']}1", "guid": disk["zfs_guid"],
         "status": "ONLINE", "stats": stats, "children": [], "device": f"{disk['name']}1", "disk": disk["name"]}
        for disk in disks
    ]  # fmt: skip
    vdev = {"type": "RAIDZ2", "name": "raidz2-0", "path": None, "guid": seed.hex("vdev", length=16), "stats": stats,
            "status": "ONLINE", "children": children, "device": None, "disk": None}  # fmt: skip
    start = now - 5 * _DAY
    scan = {
        "function": "SCRUB", "state": "FINISHED", "start_time": date(start), "end_time": date(start + 21600),
        "percentage": 100.0, "bytes_to_process": 6 * _TB, "bytes_processed": 6 * _TB, "bytes_issued": 6 * _TB,
        "pause": None, "errors": 0, "total_secs_left": None,
    }  # fmt: skip
    return {
        "id": 1, "name": name, "guid": seed.hex("pool", name, length=16), "path": f"/mnt/{name}", "status": "ONLINE",
        "healthy": True, "warning": False, "status_code": "OK", "status_detail": None, "size": 32 * _TB,
        "allocated": 6 * _TB, "free": 26 * _TB, "freeing": 0, "fragmentation": "3", "dedup_table_size": 0,
        "autotrim": {"value": "off", "rawvalue": "off", "parsed": "off", "source": "DEFAULT"}, "scan": scan,
        "expand": None,
        "topology": {"data": [vdev], "log": [], "cache": [], "spare": [], "special": [], "dedup": []},
    }  # fmt: skip


def _share(number: int, dataset: str, comment: str, network: str) -> Row:
    return {
        "id": number, "path": f"/mnt/{dataset}", "comment": comment, "networks": [network], "hosts": [],
        "ro": False, "maproot_user": "root", "maproot_group": "root", "mapall_user": None, "mapall_group": None,
        "security": [], "enabled": True, "locked": False, "expose_snapshots": False, "aliases": [],
    }  # fmt: skip


def _value(parsed: Any, raw: str, source: str = "NONE") -> Row:
    return {"value": str(raw).upper() if isinstance(parsed, str) else raw, "rawvalue": raw, "parsed": parsed,
            "source": source}  # fmt: skip


def _dataset(name: str) -> Row:
    mount = f"/mnt/{name}"
    return {
        "id": name, "name": name, "pool": name.partition("/")[0], "type": "FILESYSTEM", "mountpoint": mount,
        "encrypted": False, "encryption_root": None, "key_loaded": False, "locked": False, "children": [],
        "user_properties": {}, "used": _value(420 * _GB, str(420 * _GB)), "quota": _value(None, "0", "LOCAL"),
        "available": _value(12 * _TB, str(12 * _TB)), "refquota": _value(None, "0", "LOCAL"),
        "compression": _value("lz4", "lz4", "INHERITED"), "readonly": _value(False, "off", "DEFAULT"),
        "recordsize": _value(131072, "131072", "DEFAULT"), "sync": _value("standard", "standard", "DEFAULT"),
    }  # fmt: skip


def make_snapshot(dataset: str, name: str, moment: float, number: int) -> Row:
    """Return a snapshot of a dataset."""
    full = f"{dataset}@{name}"
    created = {"value": "", "rawvalue": str(int(moment)), "parsed": date(int(moment)), "source": "NONE"}
    return {
        "id": full, "name": full, "dataset": dataset, "snapshot_name": name, "pool": dataset.partition("/")[0],
        "type": "SNAPSHOT", "createtxg": str(100000 + number),
        "properties": {"creation": created, "used": _value(2 * _GB, str(2 * _GB)),
                       "referenced": _value(420 * _GB, str(420 * _GB))},
    }  # fmt: skip


def _snapshot(dataset: str, moment: float, number: int) -> Row:
    return make_snapshot(dataset, time.strftime("auto-%Y-%m-%d_%H-%M", time.gmtime(moment)), moment, number)


def _schedule(hour: str) -> Row:
    return {"minute": "0", "hour": hour, "dom": "*", "month": "*", "dow": "*", "begin": "00:00", "end": "23:59"}


def _snapshot_task(dataset: str, last: Row, now: float) -> Row:
    state = {"state": "FINISHED", "datetime": date(now - _DAY), "last_snapshot": last["id"]}
    return {
        "id": 1, "dataset": dataset, "recursive": False, "lifetime_value": 2, "lifetime_unit": "WEEK", "enabled": True,
        "exclude": [], "naming_schema": "auto-%Y-%m-%d_%H-%M", "allow_empty": True, "schedule": _schedule("4"),
        "vmware_sync": False, "state": state,
    }  # fmt: skip


def _replication(dataset: str, last: Row, now: float) -> Row:
    state = {"state": "FINISHED", "datetime": date(now - _DAY + 600), "last_snapshot": last["id"], "warnings": []}
    return {
        "id": 1, "name": f"{dataset} - vault", "direction": "PUSH", "transport": "SSH", "source_datasets": [dataset],
        "target_dataset": "vault/" + dataset.partition("/")[2], "recursive": False, "auto": True, "enabled": True,
        "schedule": None, "retention_policy": "SOURCE", "periodic_snapshot_tasks": [{"id": 1}], "state": state,
        "job": None,
    }  # fmt: skip


def _services() -> list[Row]:
    return [
        {"id": 9, "service": "nfs", "enable": True, "state": "RUNNING", "pids": [1412]},
        {"id": 4, "service": "cifs", "enable": False, "state": "STOPPED", "pids": []},
        {"id": 10, "service": "ssh", "enable": True, "state": "RUNNING", "pids": [1377]},
    ]


def _keys(now: float) -> list[Row]:
    return [{"id": 1, "name": USER, "username": USER, "user_identifier": USER, "expires_at": None, "local": True,
             "revoked": False, "revoked_reason": None, "created_at": date(now)}]  # fmt: skip


def _alerts(now: float) -> list[Row]:
    text = "Updates are available for 1 application."
    return [
        {
            "uuid": "6c0b1a52-8c39-4c6e-9c59-0c6f4f1f0a11", "id": "6c0b1a52-8c39-4c6e-9c59-0c6f4f1f0a11",
            "source": "AppUpdate", "klass": "AppUpdate", "level": "INFO", "formatted": text, "text": text, "args": {},
            "node": "Controller A", "key": "[]", "datetime": date(now - 3 * _DAY), "dismissed": True,
            "last_occurrence": date(now - _DAY), "one_shot": False, "mail": None,
        }
    ]  # fmt: skip
