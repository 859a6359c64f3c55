"""Longhorn's objects as facts: what 1.9 and 1.10 leave open is settled."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from labkit.facts.longhorn import Volume
from labkit.systems.longhorn import parse
from labkit.systems.longhorn.claims import parse_claim, parse_pv, quantity, users_of
from labkit.systems.longhorn.read import parse_evidence

KNOWN = {"namespace": "media", "pvcName": "photos", "pvName": "pvc-1"}


def volume(**status: Any) -> Volume:
    spec = {"size": "1073741824", "numberOfReplicas": 2, "fromBackup": "nfs://nas:/x?backup=b&volume=v"}
    return parse.parse_volume({"metadata": {"name": "pvc-1", "labels": None}, "spec": spec, "status": status})


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "reason": reason, "message": message}]}


def test_before_the_first_pass_a_restore_is_not_over() -> None:
    assert volume(restoreRequired=False).is_restoring
    assert volume(restoreInitiated=True, restoreRequired=True).is_restoring
    assert not volume(restoreInitiated=True, restoreRequired=False).is_restoring
    assert volume().size == 1 << 30


def test_a_restore_that_does_not_run_has_not_failed() -> None:
    assert volume(**condition("Restore", "False")).restore_failed == ""
    assert volume(**condition("Restore", "True", "RestoreInProgress")).restore_failed == ""
    failed = volume(**condition("Restore", "False", "RestoreFailure", "All replica restore failed"))
    assert failed.restore_failed == "All replica restore failed"


def test_what_is_not_scheduled_says_why() -> None:
    found = volume(**condition("Scheduled", "False", "ReplicaSchedulingFailure", "insufficient storage"))
    assert (found.scheduled, found.unscheduled_because) == (False, "insufficient storage")
    assert volume().scheduled


def test_unavailable_is_bad_news_when_it_is_true() -> None:
    def target(status: str, *, available: bool) -> Any:
        told = condition("Unavailable", status, "Unavailable", "mount failed")
        item = {"metadata": {"name": "default"}, "spec": {"backupTargetURL": "nfs://n:/x", "pollInterval": "5m0s"},
                "status": {**told, "available": available, "lastSyncedAt": "2026-11-23T10:00:00Z"}}  # fmt: skip
        return parse.parse_target(item)

    assert (target("False", available=True).available, target("False", available=True).problem) == (True, "")
    assert (target("True", available=False).available, target("True", available=False).problem) == (
        False, "mount failed",
    )  # fmt: skip
    assert target("False", available=True).poll_seconds == 300
    assert target("False", available=True).last_synced == datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "spec"),
    [("pvc-1-1a2b3c4d", {"volumeName": "pvc-1", "backupTargetName": "default"}), ("pvc-1", {})],
)
def test_a_backup_volume_is_known_by_its_spec_and_not_by_its_name(name: str, spec: dict[str, str]) -> None:
    found = parse.parse_backup_volume({"metadata": {"name": name}, "spec": spec, "status": {}})
    assert (found.volume, found.target, found.last_synced) == ("pvc-1", "default", None)


def test_a_backup_knows_its_claim_by_its_label_and_its_device_by_volume_size() -> None:
    labels = {"KubernetesStatus": json.dumps(KNOWN), "RecurringJob": "nightly", "labkit.io/drill": "media.photos"}
    status = {
        "state": "Completed",
        "size": "4194304",
        "volumeSize": "1073741824",
        "volumeName": "pvc-1",
        "labels": labels,
        "backupCreatedAt": "2026-11-23T10:00:00Z",
        "snapshotCreatedAt": "",
        "progress": 100,
    }
    item = {"metadata": {"name": "backup-1", "labels": {"backup-volume": "pvc-1", "backup-target": "default"}},
            "spec": {}, "status": status}  # fmt: skip
    found = parse.parse_backup(item)
    assert (found.namespace, found.claim, found.job, found.drill) == ("media", "photos", "nightly", "media.photos")
    assert (found.size, found.volume_size, found.snapshot_created) == (4194304, 1 << 30, None)
    bare = parse.parse_backup({**item, "status": {"error": "no room", "state": "Error"}})
    assert (bare.volume, bare.claim, bare.error) == ("pvc-1", "", "no room")


@pytest.mark.parametrize(
    ("value", "said"), [("3", "3"), ('{"v1":"3","v2":"2"}', "3"), ("{}", "{}"), ('{"v1', '{"v1'), ("true", "true")]
)
def test_settings_are_read_as_each_version_writes_them(value: str, said: str) -> None:
    assert parse.parse_setting({"metadata": {"name": "x"}, "value": value}) == said


@pytest.mark.parametrize(("text", "seconds"), [("5m0s", 300), ("1h30m", 5400), ("0", 0), ("300", 300), ("500ms", 0.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse.duration(text) == seconds


@pytest.mark.parametrize("text", ["", None, "yesterday", 3])
def test_what_is_no_time_is_none(text: Any) -> None:
    assert parse.moment(text) is None


def test_progress_is_the_least_of_all_replicas() -> None:
    def engine(*percents: int) -> dict[str, Any]:
        return {"status": {"restoreStatus": {f"tcp://{n}": {"progress": p} for n, p in enumerate(percents)}}}

    assert parse.parse_progress(engine(80, 20)).percent == 20  # type: ignore[union-attr]
    assert parse.parse_progress({"status": {"restoreStatus": None}}) is None


def test_a_node_and_its_disks() -> None:
    bad = condition("Schedulable", "False", "DiskPressure", "no room")
    item = {"metadata": {"name": "n1"}, "spec": {"allowScheduling": True, "disks": {"d": {"storageReserved": 5}}},
            "status": {"diskStatus": {"d": {"storageMaximum": 100, "storageAvailable": 40, **bad}}}}  # fmt: skip
    (disk,) = parse.parse_node(item).disks
    assert (disk.maximum, disk.available, disk.reserved, disk.schedulable, disk.problem) == (
        100, 40, 5, False, "no room",
    )  # fmt: skip
    assert parse.parse_node(item).schedulable


@pytest.mark.parametrize(
    ("text", "size"), [("10Gi", 10 << 30), ("500M", 500 * 10**6), ("1.5Gi", 3 << 29), ("7", 7), (None, 0), ("x", 0)]
)
def test_quantities(text: Any, size: int) -> None:
    assert quantity(text) == size


def test_a_claim_with_its_pods_and_its_kustomization() -> None:
    labels = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
    item = {"metadata": {"namespace": "media", "name": "photos", "labels": labels}, "spec": {"volumeName": "pvc-1"}}
    pods = [
        {"metadata": {"namespace": "media", "name": name}, "status": {"phase": phase},
         "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "photos"}}, {"emptyDir": {}}]}}
        for name, phase in (("b", "Running"), ("a", "Pending"), ("done", "Succeeded"))
    ]  # fmt: skip
    found = parse_claim(item, users_of(pods))
    assert (found.pods, found.kustomization, found.volume) == (("a", "b"), "flux-system/apps", "pvc-1")


def test_a_volume_that_is_not_csi() -> None:
    found = parse_pv({"metadata": {"name": "m"}, "spec": {"nfs": {"server": "nas"}, "capacity": {"storage": "1Ti"}}})
    assert (found.driver, found.handle, found.capacity) == ("nfs", "", 1 << 40)


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"namespace": "a"}'])
def test_evidence_that_cannot_be_read_is_none(text: str) -> None:
    assert parse_evidence(text) is None
