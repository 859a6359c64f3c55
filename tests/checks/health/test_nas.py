"""What the report says of a TrueNAS box: for each check a box that is fine, and what it must find."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.health import Area, Scene, nas
from labkit.checks.health.base import registered
from labkit.facts.git import GitFacts
from labkit.facts.manifests import parse_manifests
from labkit.facts.nas import (
    Dataset,
    NasAlert,
    NasDisk,
    NasFacts,
    NasKey,
    NasTask,
    NfsShare,
    Pool,
    PoolDisk,
)
from labkit.facts.repository import Cluster, RepositoryFacts, Resource
from labkit.lab.loader import load_lab

NOW = datetime(2026, 5, 4, 6, 30, tzinfo=UTC)
LAB = load_lab(Path(__file__).parents[3] / "parameters" / "lab.yaml")
TB = 10**12
POOL = Pool(name="tank", status="ONLINE", healthy=True, size=32 * TB, allocated=6 * TB, free=26 * TB, scan="SCRUB",
            scan_state="FINISHED", scan_end=NOW - timedelta(days=5))  # fmt: skip
TASK = NasTask(name="tank/backups/appdata", dataset="tank/backups/appdata", state="FINISHED",
               at=NOW - timedelta(hours=3), last_snapshot="tank/backups/appdata@auto-1")  # fmt: skip
FINE = NasFacts(
    version="25.10.1",
    pools=(POOL,),
    datasets=(Dataset(name="tank/backups/appdata", mountpoint="/mnt/tank/backups/appdata", used=TB),),
    shares=(NfsShare(path="/mnt/tank/backups/appdata", enabled=True), NfsShare(path="/mnt/tank/media", enabled=True)),
    nfs_running=True,
    nfs_protocols=("NFSV3", "NFSV4"),
    snapshot_tasks=(TASK,),
    replications=(TASK.model_copy(update={"name": "to the vault"}),),
    backup_dataset="tank/backups/appdata",
    newest_snapshot=NOW - timedelta(hours=20),
    disks=(NasDisk(name="sda", temperature=34),),
    keys=(NasKey(name="labkit"),),
    read_at=NOW,
)
VOLUME = """
apiVersion: v1
kind: PersistentVolume
metadata: {name: movies}
spec: {nfs: {server: scale.lan, path: /mnt/tank/media/movies}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: scanner, namespace: default}
spec: {template: {spec: {volumes: [{name: in, nfs: {server: scale.lan, path: /mnt/tank/scans}}]}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: elsewhere}
spec: {nfs: {server: other.lan, path: /mnt/tank/nothing}}
"""


def git() -> GitFacts:
    resources = tuple(Resource(tree, "pv.yaml", 1, tree) for tree in parse_manifests(VOLUME).trees)

    class Built(Cluster):
        resources = ()  # type: ignore[assignment]

    built = Built("kubernetes", ())
    object.__setattr__(built, "resources", resources)
    return GitFacts(url="", branch="main", path="kubernetes", repository=RepositoryFacts("", (), clusters=(built,)))


def findings(facts: NasFacts, **more: Any) -> list[tuple[str, str, str, str]]:
    scene = Scene(LAB, {"nas": facts, **more}, NOW)
    checks = [check for check in registered() if check.area is Area.NAS and not check.missing(scene)]
    assert checks, nas.__name__
    return [(f.id, str(f.severity), f.subject, f.got) for check in checks for f in check(scene)]


def test_a_box_that_is_well_says_nothing() -> None:
    assert findings(FINE) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"used": False, "keys": ()}, ("nas.api-key", "info", "TrueNAS", "none")),
        ({"keys": (NasKey(name="k", expires=NOW + timedelta(days=3)),)},
         ("nas.api-key", "warning", "API key k", "until 2026-05-07 (3 days)")),
        ({"pools": (POOL.model_copy(update={"status": "DEGRADED", "healthy": False,
                                            "bad_disks": (PoolDisk(name="sdb", status="FAULTED", errors=3),)}),)},
         ("nas.pool-online", "error", "pool tank", "DEGRADED; sdb FAULTED")),
        ({"pools": (POOL.model_copy(update={"bad_disks": (PoolDisk(name="sdc", status="ONLINE", errors=7),)}),)},
         ("nas.disk-errors", "warning", "disk sdc in pool tank", "7 errors")),
        ({"pools": (POOL.model_copy(update={"allocated": 27 * TB, "free": 5 * TB}),)},
         ("nas.pool-room", "warning", "pool tank", "84 % of 29 TiB used, 4.5 TiB free")),
        ({"pools": (POOL.model_copy(update={"allocated": 30 * TB, "free": 2 * TB}),)},
         ("nas.pool-room", "error", "pool tank", "94 % of 29 TiB used, 1.8 TiB free")),
        ({"pools": (POOL.model_copy(update={"scan_end": NOW - timedelta(days=60)}),)},
         ("nas.scrub", "warning", "pool tank", "60 days ago")),
        ({"pools": (POOL.model_copy(update={"scan_end": None, "scan_state": ""}),)},
         ("nas.scrub", "warning", "pool tank", "never")),
        ({"pools": (POOL.model_copy(update={"scan_errors": 2}),)}, ("nas.scrub", "error", "pool tank", "2 errors")),
        ({"datasets": (Dataset(name="tank/x", used=95, quota=100),)},
         ("nas.dataset-quota", "warning", "dataset tank/x", "95 B of 100 B")),
        ({"datasets": (Dataset(name="tank/x", locked=True),)},
         ("nas.dataset-locked", "error", "dataset tank/x", "locked: what it exports is empty")),
        ({"alerts": (NasAlert(level="CRITICAL", kind="SMARTFailedSelfTest", text="sdb failed", at=NOW),)},
         ("nas.alerts", "error", "alert SMARTFailedSelfTest", "sdb failed (0 seconds ago)")),
        ({"disks": (NasDisk(name="sda", temperature=58),)}, ("nas.disk-warm", "warning", "disk sda", "58 °C")),
        ({"disks": (NasDisk(name="sda", failed_test="read failure"),)},
         ("nas.disk-test", "error", "disk sda", "read failure")),
        ({"newest_snapshot": None}, ("nas.snapshots", "warning", "dataset tank/backups/appdata", "none")),
        ({"newest_snapshot": NOW - timedelta(days=9)},
         ("nas.snapshots", "warning", "dataset tank/backups/appdata", "9 days ago")),
        ({"snapshot_tasks": (TASK.model_copy(update={"state": "ERROR", "problem": "no space left"}),)},
         ("nas.snapshot-task", "warning", "snapshot task of tank/backups/appdata", "ERROR: no space left")),
        ({"replications": (TASK.model_copy(update={"state": "HOLD", "problem": "pool is offline"}),)},
         ("nas.replication", "error", "replication tank/backups/appdata", "HOLD: pool is offline")),
        ({"replications": (TASK.model_copy(update={"at": NOW - timedelta(days=6)}),)},
         ("nas.replication", "warning", "replication tank/backups/appdata",
          "6 days ago, last tank/backups/appdata@auto-1")),
        ({"replications": (TASK.model_copy(update={"at": None, "last_snapshot": "", "state": "PENDING"}),)},
         ("nas.replication", "warning", "replication tank/backups/appdata", "never")),
        ({"nfs_running": False}, ("nas.nfs-service", "error", "NFS on the NAS", "stopped")),
        ({"nfs_protocols": ("NFSV3",)}, ("nas.nfs-service", "error", "NFS on the NAS", "NFSV3")),
        ({"shares": ()}, ("nas.export-backups", "error", "export /mnt/tank/backups/appdata", "none")),
        ({"shares": (NfsShare(path="/mnt/tank", enabled=True, read_only=True),)},
         ("nas.export-backups", "error", "export /mnt/tank/backups/appdata", "one that is read-only")),
    ],
)  # fmt: skip
def test_each_thing_that_can_be_wrong(changed: dict[str, Any], expected: tuple[str, str, str, str]) -> None:
    assert findings(FINE.model_copy(update=changed)) == [expected]


def test_what_manifests_mount_must_be_exported() -> None:
    assert findings(FINE, git=git()) == [
        ("nas.export-apps", "error", "export /mnt/tank/scans", "none"),
    ]
