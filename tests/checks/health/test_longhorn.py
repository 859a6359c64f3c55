"""What the report says of Longhorn and of labkit itself: all well, and what it must find."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from labkit.checks.health import Area, labkit, longhorn
from labkit.facts.backups import StoredBackup, StoredVolume, StoreFacts
from labkit.facts.endpoints import Reference, ReferenceFacts
from labkit.facts.evidence import Evidence, Leftover
from labkit.facts.longhorn import (
    DRIVER,
    Backup,
    BackupTarget,
    Claim,
    LonghornDisk,
    LonghornFacts,
    LonghornNode,
    PersistentVolume,
    RecurringJob,
    Replica,
    RestoreProgress,
    Volume,
)
from labkit.facts.schedules import RunSeen, ScheduleFacts
from tests.checks.health.scenes import LAB, NOW, Row, found

MODULES = (labkit, longhorn)
GIB = 2**30
NAME = "pvc-1"
SUBJECT = "volume pvc-1 (default/notes)"
VOLUME = Volume(name=NAME, size=GIB, replicas=2, state="attached", robustness="healthy", namespace="default",
                claim="notes", pv=NAME, last_backup="backup-1", created_at=NOW - timedelta(days=90))  # fmt: skip
REPLICAS = tuple(Replica(name=f"r{node}", volume=NAME, node=node, running=True) for node in ("one", "two"))
DISK = LonghornDisk(name="disk-1", maximum=100 * GIB, available=70 * GIB, reserved=10 * GIB, scheduled=50 * GIB)
NODES = (LonghornNode(name="one", zone="hades", disks=(DISK,)), LonghornNode(name="two", zone="atlas"))
BACKUP = Backup(name="backup-1", volume=NAME, state="Completed", created=NOW - timedelta(hours=4),
                snapshot_created=NOW - timedelta(hours=4))  # fmt: skip
PROOF = Evidence(namespace="default", claim="notes", volume=NAME, backup="backup-1", proven=True,
                 at=NOW - timedelta(days=3))  # fmt: skip
TARGET = BackupTarget(name="default", url=LAB.nas.backup_target, available=True, poll_seconds=300)
JOB = RecurringJob(name="nightly", task="backup", cron="0 2 * * *", groups=("default",))
WELL: dict[str, Any] = {
    "installed": "1.10.2", "ready": True, "volumes": (VOLUME,), "replicas": REPLICAS, "targets": (TARGET,),
    "backups": (BACKUP,), "jobs": (JOB,), "nodes": NODES, "evidence": (PROOF,), "read_at": NOW,
    "claims": (Claim(namespace="default", name="notes", phase="Bound", volume=NAME),),
    "pvs": (PersistentVolume(name=NAME, phase="Bound", driver=DRIVER, handle=NAME),),
}  # fmt: skip
STORE = StoreFacts(where="/mnt/backups", read_at=NOW, volumes=(
    StoredVolume(name=NAME, backups=(StoredBackup(name="backup-1", volume=NAME, created=NOW),)),
))  # fmt: skip


def rows(*, store: StoreFacts = STORE, **changed: Any) -> list[Row]:
    return found(Area.LONGHORN, longhorn=LonghornFacts(**{**WELL, **changed}), store=store)


def volume(**changed: Any) -> dict[str, Any]:
    return {"volumes": (VOLUME.model_copy(update=changed),)}


def disk(**changed: Any) -> dict[str, Any]:
    return {"nodes": (NODES[0].model_copy(update={"disks": (DISK.model_copy(update=changed),)}), NODES[1])}


def test_a_longhorn_that_is_well_says_nothing() -> None:
    assert rows() == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"ready": False}, ("longhorn.running", "error", "Longhorn 1.10.2", "not so")),
        (volume(robustness="faulted"),
         ("longhorn.volume-faulted", "error", SUBJECT, "faulted: no replica of it can be read")),
        ({**volume(robustness="degraded", replicas=3), "replicas": REPLICAS},
         ("longhorn.volume-degraded", "warning", SUBJECT, "degraded: 2 of 3 replicas")),
        ({**volume(robustness="degraded", unscheduled_because="no room"), "replicas": REPLICAS[:1]},
         ("longhorn.volume-degraded", "error", SUBJECT, "degraded: 1 of 2 replicas; no room")),
        ({"nodes": (NODES[0], NODES[1].model_copy(update={"zone": "hades"}), LonghornNode(name="x", zone="venus"))},
         ("longhorn.one-zone", "warning", SUBJECT, "all 2 on hades")),
        ({"nodes": (*NODES, LonghornNode(name="three", zone="venus", ready=False, problem="KubernetesNodeNotReady"))},
         ("longhorn.node", "warning", "node three", "KubernetesNodeNotReady")),
        ({"nodes": (*NODES, LonghornNode(name="three", zone="venus", schedulable=False))},
         ("longhorn.node", "info", "node three", "switched off")),
        (disk(problem="DiskNotFound"), ("longhorn.node", "warning", "disk disk-1 of one", "DiskNotFound")),
        (disk(available=12 * GIB),
         ("longhorn.room", "warning", "disk disk-1 of one", "88 % of 100 GiB used, 12 GiB free")),
        (disk(scheduled=270 * GIB),
         ("longhorn.promised", "warning", "disk disk-1 of one", "300 %: 270 GiB on 90 GiB")),
        (volume(restore_failed="All replica restore failed"),
         ("longhorn.restoring", "error", SUBJECT, "All replica restore failed")),
        (volume(from_backup="nfs://x", restore_required=True, restore_initiated=True,
                restore=RestoreProgress(percent=40)),
         ("longhorn.restoring", "warning", SUBJECT, "begun 90 days ago, 40 % done")),
        ({"volumes": (VOLUME, Volume(name="pvc-0", size=GIB, replicas=2, namespace="default", claim="notes",
                                     actual_size=GIB))},
         ("longhorn.orphan-volume", "info", "volume pvc-0", "none (once default/notes, 1.0 GiB)")),
        ({"targets": (TARGET.model_copy(update={"available": False, "problem": "no route to host"}),)},
         ("longhorn.backup-target", "error", "backup target default", "no route to host")),
        ({"targets": (TARGET.model_copy(update={"poll_seconds": 0}),)},
         ("longhorn.backup-target", "warning", "backup target default", "never polled")),
        ({"jobs": ()}, ("longhorn.coverage", "warning", "default/notes", "none")),
        ({"jobs": (JOB, JOB.model_copy(update={"name": "weekly", "groups": ("rare",)}))},
         ("longhorn.coverage", "warning", "recurring job weekly", "none")),
        ({"backups": (BACKUP.model_copy(update={"snapshot_created": NOW - timedelta(days=3)}),)},
         ("longhorn.coverage", "warning", "default/notes", "the newest is 3 days old, 3 missed")),
        ({"evidence": ()}, ("longhorn.restore-proven", "warning", "default/notes", "never proven")),
        ({"evidence": (PROOF.model_copy(update={"at": NOW - timedelta(days=60)}),)},
         ("longhorn.restore-proven", "warning", "default/notes", "last proven 60 days ago")),
        ({"evidence": (PROOF.model_copy(update={"proven": False, "problem": "block 3 is damaged"}),)},
         ("longhorn.restore-proven", "error", "default/notes", "the last drill failed: block 3 is damaged")),
        ({"store": StoreFacts(where="/mnt/backups", problem="an empty store", empty=True, read_at=NOW)},
         ("longhorn.store", "error", "backup store", "an empty store")),
        ({"store": StoreFacts(where="/mnt/backups", problem="nothing says where it is", read_at=NOW)},
         ("longhorn.store", "info", "backup store", "nothing says where it is")),
    ],
)  # fmt: skip
def test_longhorn(changed: dict[str, Any], expected: Row) -> None:
    assert rows(**changed) == [expected]


def test_late_backups_go_unsaid_while_the_target_is_away() -> None:
    old = BACKUP.model_copy(update={"snapshot_created": NOW - timedelta(days=3)})
    away = TARGET.model_copy(update={"available": False, "problem": "timed out"})
    assert [row[0] for row in rows(backups=(old,), targets=(away,))] == ["longhorn.backup-target"]


def test_a_cluster_without_longhorn_has_nothing_to_tell() -> None:
    bare = LonghornFacts(read_at=NOW)
    empty = StoreFacts(where="/mnt/backups", problem="an empty store", empty=True, read_at=NOW)
    assert [row for row in found(Area.LONGHORN, longhorn=bare, store=empty) if row[0] == "longhorn.running"] == []


RUN = RunSeen(runbook="provision-vms", on="lab", started=NOW - timedelta(hours=2))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"schedules": ScheduleFacts(read_at=NOW)}, []),
        ({"schedules": ScheduleFacts(runs=(RUN.model_copy(update={"success": NOW}),), read_at=NOW)}, []),
        ({"schedules": ScheduleFacts(runs=(RUN.model_copy(update={"on": "twin"}),), read_at=NOW)}, []),
        ({"schedules": ScheduleFacts(runs=(RUN,), read_at=NOW)},
         [("labkit.last-run", "info", "runbook provision-vms", "one of 2 hours ago that did not")]),
        ({"longhorn": LonghornFacts(leftovers=(Leftover(kind="Volume", name="labkit-drill-1"),), read_at=NOW)},
         [("labkit.leftovers", "warning", "Volume labkit-drill-1", "left by a drill that was interrupted")]),
        ({"references": ReferenceFacts(references=(Reference(where="k3s.token", reference="env:T", problem="not set"),
                                                   Reference(where="nas.api_key", reference="env:K")))},
         [("labkit.references", "warning", "k3s.token", "env:T: not set")]),
    ],
)  # fmt: skip
def test_labkit_itself(facts: dict[str, Any], expected: list[Row]) -> None:
    assert found(Area.LABKIT, **facts) == expected
