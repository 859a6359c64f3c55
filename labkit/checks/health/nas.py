"""Health checks of the TrueNAS box: pools, scrubs, room, snapshots, replication, alerts, and what it exports. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import ago, count, listed, size, until
from labkit.facts.git import GitFacts
from labkit.facts.nas import NasFacts, NasTask
from labkit.plan import Severity

READS = ("nas",)
_FINE_TASKS = ("FINISHED", "RUNNING", "PENDING", "WAITING")
_LEVELS = {"WARNING": Severity.WARNING, "ERROR": Severity.ERROR, "CRITICAL": Severity.ERROR, "ALERT": Severity.ERROR,
           "EMERGENCY": Severity.ERROR}  # fmt: skip
_NFS4 = "NFSV4"


def seen(scene: Scene) -> NasFacts:
    """Return the facts of the box."""
    facts: NasFacts = scene["nas"]
    return facts


@health("nas.api-key", Area.NAS, "the lab file names an API key for the NAS, and it lasts", Severity.INFO, reads=READS)
def api_key(scene: Scene) -> Iterator[Found]:
    """Find a box that is not looked at, and keys about to expire."""
    facts, limit = seen(scene), scene.lab.health.limits.nas.key_days
    if not facts.used:
        yield Found("TrueNAS", "an API key, so that it can be looked at", "none",
                    "make one for a user with the role READONLY_ADMIN, and name it in nas.api_key")  # fmt: skip
    for key in facts.keys:
        if key.expires is not None and key.expires - scene.now < timedelta(days=limit):
            yield Found(f"API key {key.name}", f"valid for {limit} days more", until(key.expires, scene.now),
                        "renew it in TrueNAS under Credentials, API Keys", Severity.WARNING)  # fmt: skip


@health("nas.pool-online", Area.NAS, "every pool is online and healthy", Severity.ERROR, reads=READS)
def pool_online(scene: Scene) -> Iterator[Found]:
    """Find pools that are degraded, faulted or away."""
    for pool in seen(scene).pools:
        if pool.status != "ONLINE" or not pool.healthy:
            bad = listed(f"{disk.name} {disk.status}" for disk in pool.bad_disks)
            got = "; ".join(filter(None, (pool.status, bad, pool.detail)))
            yield Found(f"pool {pool.name}", "ONLINE", got,
                        f"`zpool status {pool.name}` names the disk to replace; change nothing else first")  # fmt: skip


@health("nas.disk-errors", Area.NAS, "no disk of a pool has counted errors", Severity.WARNING, reads=READS)
def disk_errors(scene: Scene) -> Iterator[Found]:
    """Find disks that still serve, but with errors."""
    for pool in seen(scene).pools:
        for disk in pool.bad_disks:
            if disk.errors and disk.status == "ONLINE":
                yield Found(f"disk {disk.name} in pool {pool.name}", "no errors", count(disk.errors, "error"),
                            f"look at its cable and SMART data, then `zpool clear {pool.name}` and scrub")  # fmt: skip


@health("nas.pool-room", Area.NAS, "every pool has room", Severity.WARNING, reads=READS)
def pool_room(scene: Scene) -> Iterator[Found]:
    """Find pools that are nearly full."""
    limits = scene.lab.health.limits.nas
    for pool in seen(scene).pools:
        if pool.percent >= limits.pool_percent:
            full = pool.percent >= limits.pool_full_percent
            yield Found(f"pool {pool.name}", f"less than {limits.pool_percent} % used",
                        f"{pool.percent:.0f} % of {size(pool.size)} used, {size(pool.free)} free",
                        "delete old snapshots or data, or add disks; ZFS becomes slow when it is nearly full",
                        Severity.ERROR if full else None)  # fmt: skip


@health("nas.scrub", Area.NAS, "every pool was scrubbed lately, without an error", Severity.WARNING, reads=READS)
def scrubbed(scene: Scene) -> Iterator[Found]:
    """Find pools whose last scrub is long ago, or found something."""
    limit = scene.lab.health.limits.nas.scrub_days
    for pool in seen(scene).pools:
        start = f"`zpool scrub {pool.name}`, and a scrub task in TrueNAS under Data Protection"
        if pool.scan_errors:
            yield Found(f"pool {pool.name}", "a scrub without errors", count(pool.scan_errors, "error"),
                        f"`zpool status -v {pool.name}` names the files", Severity.ERROR)  # fmt: skip
        elif not pool.size or pool.scan_state == "SCANNING":
            continue
        elif pool.scan_end is None:
            yield Found(f"pool {pool.name}", f"a scrub within {count(limit, 'day')}", "never", start)
        elif scene.now - pool.scan_end > timedelta(days=limit):
            yield Found(
                f"pool {pool.name}", f"a scrub within {count(limit, 'day')}", ago(pool.scan_end, scene.now), start
            )


@health("nas.dataset-quota", Area.NAS, "no dataset is at its quota", Severity.WARNING, reads=READS)
def dataset_quota(scene: Scene) -> Iterator[Found]:
    """Find datasets that have nearly used up what they may."""
    limit = scene.lab.health.limits.nas.pool_full_percent
    for dataset in seen(scene).datasets:
        if dataset.quota and 100 * dataset.used >= limit * dataset.quota:
            yield Found(f"dataset {dataset.name}", f"less than {limit} % of its quota",
                        f"{size(dataset.used)} of {size(dataset.quota)}", "raise its quota or make room")  # fmt: skip


@health("nas.dataset-locked", Area.NAS, "no dataset is locked", Severity.ERROR, reads=READS)
def dataset_locked(scene: Scene) -> Iterator[Found]:
    """Find encrypted datasets that nobody has unlocked."""
    for dataset in seen(scene).datasets:
        if dataset.locked:
            yield Found(f"dataset {dataset.name}", "unlocked", "locked: what it exports is empty",
                        "unlock it in TrueNAS under Datasets")  # fmt: skip


@health("nas.alerts", Area.NAS, "TrueNAS has no alerts", Severity.WARNING, reads=READS)
def alerts(scene: Scene) -> Iterator[Found]:
    """Find alerts from level WARNING on that nobody has dismissed."""
    for alert in seen(scene).alerts:
        if alert.level in _LEVELS:
            when = f" ({ago(alert.at, scene.now)})" if alert.at else ""
            yield Found(f"alert {alert.kind}", "none", f"{alert.text}{when}",
                        "follow it up; dismiss it in TrueNAS when it is dealt with", _LEVELS[alert.level])  # fmt: skip


@health("nas.disk-warm", Area.NAS, "no disk is too warm", Severity.WARNING, reads=READS)
def disk_warm(scene: Scene) -> Iterator[Found]:
    """Find disks above the limit."""
    limit = scene.lab.health.limits.nas.disk_celsius
    for disk in seen(scene).disks:
        if disk.temperature is not None and disk.temperature > limit:
            yield Found(f"disk {disk.name}", f"at most {limit} °C", f"{disk.temperature} °C",
                        "look at fans, dust and the room")  # fmt: skip


@health("nas.disk-test", Area.NAS, "no disk failed its last SMART test", Severity.ERROR, reads=READS)
def disk_test(scene: Scene) -> Iterator[Found]:
    """Find disks that say themselves that they fail."""
    for disk in seen(scene).disks:
        if disk.failed_test:
            yield Found(f"disk {disk.name}", "a passed SMART test", disk.failed_test,
                        f"replace {disk.model} {disk.serial}".strip())  # fmt: skip


@health("nas.snapshots", Area.NAS, "the backups' dataset is snapshotted", Severity.WARNING, reads=READS)
def snapshots(scene: Scene) -> Iterator[Found]:
    """Find backups that a slip on the NAS would take with it: no snapshot of their dataset, or an old one."""
    facts, limit = seen(scene), scene.lab.health.limits.nas.snapshot_hours
    if not facts.backup_dataset:
        return
    subject, expected = f"dataset {facts.backup_dataset}", f"a snapshot within {count(limit, 'hour')}"
    remedy = f"a periodic snapshot task of {facts.backup_dataset} in TrueNAS under Data Protection"
    if facts.newest_snapshot is None:
        yield Found(subject, expected, "none", remedy)
    elif scene.now - facts.newest_snapshot > timedelta(hours=limit):
        yield Found(subject, expected, ago(facts.newest_snapshot, scene.now), remedy)


@health("nas.snapshot-task", Area.NAS, "every snapshot task works", Severity.WARNING, reads=READS)
def snapshot_tasks(scene: Scene) -> Iterator[Found]:
    """Find periodic snapshot tasks that fail or hold."""
    for task in seen(scene).snapshot_tasks:
        if task.enabled and task.state not in _FINE_TASKS:
            yield Found(f"snapshot task of {task.dataset}", "FINISHED", _problem(task),
                        "look at it in TrueNAS under Data Protection")  # fmt: skip


@health("nas.replication", Area.NAS, "every replication works and is up to date", Severity.WARNING, reads=READS)
def replication(scene: Scene) -> Iterator[Found]:
    """Find replications that fail, hold, or have not run for long."""
    limit = scene.lab.health.limits.nas.replication_hours
    for task in seen(scene).replications:
        if not task.enabled:
            continue
        subject, remedy = f"replication {task.name}", "look at it in TrueNAS under Data Protection, and run it"
        if task.state not in _FINE_TASKS:
            yield Found(subject, "FINISHED", _problem(task), remedy, Severity.ERROR)
        elif task.at is not None and scene.now - task.at > timedelta(hours=limit):
            last = f", last {task.last_snapshot}" if task.last_snapshot else ""
            yield Found(subject, f"within {count(limit, 'hour')}", f"{ago(task.at, scene.now)}{last}", remedy)
        elif task.at is None and not task.last_snapshot:
            yield Found(subject, f"within {count(limit, 'hour')}", "never", remedy)


@health("nas.nfs-service", Area.NAS, "NFS runs, with version 4", Severity.ERROR, reads=READS)
def nfs_service(scene: Scene) -> Iterator[Found]:
    """Find an NFS service that Longhorn and the apps cannot mount from."""
    facts = seen(scene)
    if not facts.used or not scene.lab.nas.backup_target.startswith("nfs://"):
        return
    if not facts.nfs_running:
        yield Found("NFS on the NAS", "running", "stopped", "start it in TrueNAS under System, Services")
    elif facts.nfs_protocols and _NFS4 not in facts.nfs_protocols:
        yield Found("NFS on the NAS", f"{_NFS4} among its protocols, which Longhorn needs",
                    listed(facts.nfs_protocols), "add NFSv4 in TrueNAS under System, Services, NFS")  # fmt: skip


@health("nas.export-backups", Area.NAS, "the backup target is exported", Severity.ERROR, reads=READS)
def export_of_backups(scene: Scene) -> Iterator[Found]:
    """Find a backup target that no enabled export offers for writing."""
    target = scene.lab.nas.backup_target
    if seen(scene).used and target.startswith("nfs://"):
        yield from _missing_export(seen(scene), urlsplit(target).path, "the backup target", writable=True)


@health(
    "nas.export-apps", Area.NAS, "every path that manifests mount is exported", Severity.ERROR, reads=("nas", "git")
)
def exports_of_apps(scene: Scene) -> Iterator[Found]:
    """Find NFS volumes of Git whose path the NAS does not export."""
    facts, git = seen(scene), scene["git"]
    if not facts.used:
        return
    for path, users in sorted(nfs_paths(git, scene.lab.nas.host).items()):
        yield from _missing_export(facts, path, listed(users), writable=False)


def nfs_paths(git: GitFacts, server: str) -> dict[str, list[str]]:
    """Return the paths of a server that objects in Git mount over NFS, each with what mounts it."""
    found: dict[str, list[str]] = {}
    for cluster in git.repository.clusters:
        for resource in cluster.resources:
            volumes = resource.get("spec", "template", "spec", "volumes") or []
            for nfs in [resource.get("spec", "nfs"), *(volume.get("nfs") for volume in volumes)]:
                if isinstance(nfs, dict) and str(nfs.get("server")) == server:
                    found.setdefault(str(nfs.get("path")), []).append(resource.label)
    return found


def _missing_export(facts: NasFacts, path: str, user: str, *, writable: bool) -> Iterator[Found]:
    share = facts.share_of(path.rstrip("/"))
    remedy = "add or enable the share in TrueNAS under Shares, NFS"
    if share is None or not share.enabled:
        got = "none" if share is None else "one that is disabled"
        yield Found(f"export {path}", f"an NFS share, for {user}", got, remedy)
    elif share.read_only and writable:
        yield Found(
            f"export {path}", f"an NFS share that may be written to, for {user}", "one that is read-only", remedy
        )


def _problem(task: NasTask) -> str:
    return f"{task.state}: {task.problem}" if task.problem else task.state
