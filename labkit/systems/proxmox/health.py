"""What the health report wants to know of Proxmox: as many calls for three VMs as for three hundred.

Four calls for the whole cluster; for each host its state, its disks and its certificates (and its ZFS pools, when a
disk holds one); one for each backup storage. Whatever one host or one storage does not tell is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from labkit.errors import StepFailed, SystemDown
from labkit.facts.pvehealth import (
    HostCertificate,
    HostDisk,
    HostHealth,
    HostPool,
    PveHealth,
    StorageHealth,
    TaskRow,
    VmBackup,
)
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.proxmox.client import Client
from labkit.systems.proxmox.errors import ProxmoxError, Trouble
from labkit.systems.proxmox.rows import is_quorate, parse_resources, parse_vm
from labkit.systems.proxmox.session import session_of

SIDE_BY_SIDE = 16
_EACH = ("status", "disks/list", "certificates/info")
"""What each host is asked, in the order in which `_host` takes it."""
_Rows = Iterable[Mapping[str, Any]]


def read_proxmox_health(lab: Lab, access: Access) -> PveHealth:
    """Read what the health report looks at.

    Raises:
        SystemDown: no host answers, the certificate is another one, or the token is refused.
        StepFailed: the token may not read.
    """
    client = session_of(lab, access).reader
    try:
        return _read(client)
    except ProxmoxError as exc:
        kind = SystemDown if exc.trouble is Trouble.AWAY else StepFailed
        raise kind(f"reading Proxmox: {exc.message}", next_step=exc.next_step) from exc


def _read(client: Client) -> PveHealth:
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        version = pool.submit(client.get, "version")
        status = pool.submit(client.get, "cluster/status")
        tasks = pool.submit(_permitted, client, "cluster/tasks")
        jobs = pool.submit(_permitted, client, "cluster/backup")
        rows = list(client.get("cluster/resources"))
        found, storages = parse_resources(rows), parse_storages(rows)
        hosts = parse_hosts(status.result(), found["node"])
        online = [host.name for host in hosts if host.online]
        answers = {(name, what): pool.submit(_ask, client, f"nodes/{name}/{what}") for name in online for what in _EACH}
        places = backup_places(storages, online)
        backups = list(pool.map(lambda place: _read_backups(client, *place), places))
        details = {name: _host({what: answers[name, what].result() for what in _EACH}) for name in online}
        with_zfs = [name for name in online if _has_zfs(details[name])]
        pools = pool.map(lambda name: _ask(client, f"nodes/{name}/disks/zfs")[0] or (), with_zfs)
        for name, pool_rows in zip(with_zfs, pools, strict=True):
            details[name]["pools"] = tuple(parse_pool(row) for row in pool_rows)
        return PveHealth(
            version=str(version.result()["version"]),
            quorate=is_quorate(status.result()),
            hosts=tuple(host.model_copy(update=details.get(host.name, {})) for host in hosts),
            storages=storages,
            vms=tuple(sorted((parse_vm(row) for row in found["vm"]), key=lambda vm: vm.vmid)),
            backups=tuple(sorted((one for some, _ in backups for one in some), key=lambda one: one.made, reverse=True)),
            unread=tuple(problem for _, problem in backups if problem),
            backup_jobs=count_jobs(jobs.result()),
            tasks=tuple(parse_task(row) for row in tasks.result() or ()),
            read_at=datetime.now(UTC),
        )


def _permitted(client: Client, path: str) -> Any:
    """The answer to a question that a token need not be allowed to ask; None then."""
    try:
        return client.get(path)
    except ProxmoxError as exc:
        if exc.trouble in (Trouble.DENIED, Trouble.OTHER):
            return None
        raise


def _ask(client: Client, path: str) -> tuple[Any, str]:
    """The answer of one host, or why there is none: a host that is slow or going away spoils nothing else."""
    try:
        return client.get(path), ""
    except ProxmoxError as exc:
        return None, exc.reason


def _host(answers: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """What a host tells of itself."""
    problem = next((f"{what}: {why}" for what, (_, why) in answers.items() if why), "")
    status, disks, certificates = (answers[what][0] for what in _EACH)
    return {
        **(parse_status(status) if status else {}),
        "disks": parse_disks(disks or ()),
        "certificates": parse_certificates(certificates or ()),
        "problem": problem,
    }


def _has_zfs(details: Mapping[str, Any]) -> bool:
    return any("ZFS" in disk.used.upper() for disk in details["disks"])


def backup_places(storages: Sequence[StorageHealth], online: Sequence[str]) -> list[tuple[str, str]]:
    """Return where to look for backups: host and storage, a shared storage once."""
    places, told = [], set()
    for storage in storages:
        if "backup" not in storage.content or not storage.available or storage.node not in online:
            continue
        key = ("" if storage.shared else storage.node, storage.name)
        if key not in told:
            told.add(key)
            places.append((storage.node, storage.name))
    return places


def _read_backups(client: Client, node: str, storage: str) -> tuple[list[VmBackup], str]:
    try:
        rows = client.get(f"nodes/{node}/storage/{storage}/content", content="backup")
    except ProxmoxError as exc:
        return [], f"storage {storage} on {node}: {exc.reason}"
    return [parse_backup(node, storage, row) for row in rows if row.get("vmid") and row.get("ctime")], ""


def parse_hosts(status: _Rows, resources: _Rows) -> tuple[HostHealth, ...]:
    """Join the hosts of /cluster/status with their figures from /cluster/resources."""
    figures = {str(row["node"]): row for row in resources}
    found = []
    for row in sorted((row for row in status if row["type"] == "node"), key=lambda row: str(row.get("name"))):
        name = str(row["name"])
        numbers = {key: int(figures.get(name, {}).get(key) or 0) for key in ("maxcpu", "maxmem", "mem", "uptime")}
        online = bool(int(row.get("online") or 0))
        found.append(HostHealth(name=name, online=online, ip=str(row.get("ip") or ""), **numbers))
    return tuple(found)


def parse_storages(resources: _Rows) -> tuple[StorageHealth, ...]:
    """Read the storages of /cluster/resources."""
    return tuple(
        StorageHealth(
            node=str(row["node"]),
            name=str(row["storage"]),
            type=str(row.get("plugintype") or ""),
            content=tuple(sorted(part for part in str(row.get("content") or "").split(",") if part)),
            available=row.get("status") == "available",
            shared=bool(int(row.get("shared") or 0)),
            total=int(row.get("maxdisk") or 0),
            used=int(row.get("disk") or 0),
        )
        for row in sorted(
            (row for row in resources if row.get("type") == "storage"), key=lambda row: (row["node"], row["storage"])
        )
    )


def parse_status(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read /nodes/{node}/status: version, kernel and the root file system."""
    said = str(row.get("pveversion") or "").split("/")
    root, kernel = row.get("rootfs") or {}, row.get("current-kernel") or {}
    words = str(row.get("kversion") or "").split()  # before Proxmox 8
    return {
        "version": said[1] if len(said) > 1 else "",
        "kernel": str(kernel.get("release") or (words[1] if len(words) > 1 else "")),
        "root_total": int(root.get("total") or 0),
        "root_used": int(root.get("used") or 0),
        "uptime": int(row.get("uptime") or 0),
    }


def parse_certificates(rows: _Rows) -> tuple[HostCertificate, ...]:
    """Read /nodes/{node}/certificates/info; what has no end is left out."""
    return tuple(
        HostCertificate(file=str(row.get("filename") or ""), expires=_moment(row["notafter"]))
        for row in rows
        if row.get("notafter")
    )


def parse_disks(rows: _Rows) -> tuple[HostDisk, ...]:
    """Read /nodes/{node}/disks/list, where `wearout` is what is left of a disk's life."""
    return tuple(
        HostDisk(
            device=str(row.get("devpath") or ""),
            model=str(row.get("model") or "").strip(),
            serial=str(row.get("serial") or ""),
            size=int(row.get("size") or 0),
            kind=str(row.get("type") or ""),
            used=str(row.get("used") or ""),
            health=str(row.get("health") or ""),
            wear=_worn(row.get("wearout")),
        )
        for row in sorted(rows, key=lambda row: str(row.get("devpath")))
    )


def _worn(left: object) -> int | None:
    text = str(left)
    return max(0, 100 - int(text)) if text.isdecimal() else None


def parse_pool(row: Mapping[str, Any]) -> HostPool:
    """Read one pool of /nodes/{node}/disks/zfs."""
    return HostPool(name=str(row["name"]), health=str(row.get("health") or ""), size=int(row.get("size") or 0),
                    free=int(row.get("free") or 0))  # fmt: skip


def parse_backup(node: str, storage: str, row: Mapping[str, Any]) -> VmBackup:
    """Read one backup of a storage's content."""
    state = row.get("verification") or {}
    verified = str(state.get("state") or "") if isinstance(state, Mapping) else str(state)
    return VmBackup(vmid=int(row["vmid"]), made=_moment(row["ctime"]), storage=storage, node=node,
                    size=int(row.get("size") or 0), verified=verified)  # fmt: skip


def parse_task(row: Mapping[str, Any]) -> TaskRow:
    """Read one task of /cluster/tasks."""
    return TaskRow(
        node=str(row.get("node") or ""),
        kind=str(row.get("type") or ""),
        id=str(row.get("id") or ""),
        user=str(row.get("user") or ""),
        started=_moment(row.get("starttime") or 0),
        status=str(row.get("status") or ("unknown" if row.get("endtime") else "")),
    )


def count_jobs(rows: Sequence[Mapping[str, Any]] | None) -> int | None:
    """Count the backup jobs that are switched on."""
    return None if rows is None else sum(int(row.get("enabled", 1) or 0) != 0 for row in rows)


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
