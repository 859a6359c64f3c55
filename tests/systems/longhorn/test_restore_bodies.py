"""What is sent to the API for a restore: volumes, PersistentVolumes, claims; and who is known to use a claim."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.systems.longhorn.holders import belongs
from labkit.systems.longhorn.pvs import pv_body
from labkit.systems.longhorn.restore import volume_body
from labkit.systems.longhorn.volumes import plain_claim

URL = "nfs://nas:/x?backup=backup-1&volume=pvc-1"


def test_a_volume_from_a_backup_says_what_no_backup_does() -> None:
    after = {"size": 2 << 30, "access": "rwo", "replicas": 2, "labels": {"a": "b"}, "dataLocality": "best-effort",
             "nodeSelector": "ssd, fast", "encrypted": "true", "staleReplicaTimeout": "20"}  # fmt: skip
    body = volume_body("pvc-1", after, URL)
    assert body["metadata"] == {"name": "pvc-1", "namespace": "longhorn-system", "labels": {"a": "b"}}
    assert body["spec"] == {
        "size": "2147483648", "frontend": "blockdev", "accessMode": "rwo", "dataEngine": "v1", "fromBackup": URL,
        "staleReplicaTimeout": 20, "numberOfReplicas": 2, "dataLocality": "best-effort",
        "nodeSelector": ["ssd", "fast"], "encrypted": True,
    }  # fmt: skip
    assert "fromBackup" not in volume_body("pvc-1", {"size": 1, "access": "rwx"}, "")["spec"]


def test_a_persistent_volume_is_for_one_claim_only() -> None:
    after = {"volume": "restored-1", "claim": "notes/data", "class": "longhorn", "size": 5, "fs": "ext4",
             "modes": ["ReadWriteOnce"], "mount": ["noatime"]}  # fmt: skip
    spec = pv_body("pvc-1", after, {"numberOfReplicas": "2"})["spec"]
    assert spec["claimRef"] == {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "notes",
                                "name": "data"}  # fmt: skip
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"
    assert spec["csi"] == {"driver": "driver.longhorn.io", "fsType": "ext4", "volumeHandle": "restored-1",
                           "volumeAttributes": {"numberOfReplicas": "2"}}  # fmt: skip
    assert spec["mountOptions"] == ["noatime"]


def test_an_encrypted_volume_names_its_secrets() -> None:
    key = "csi.storage.k8s.io/node-stage-secret-"
    secrets = {f"{key}name": "${pvc.name}-crypto", f"{key}namespace": "${pvc.namespace}"}
    after = {"volume": "v", "claim": "notes/data", "class": "c", "size": 5, "fs": "ext4", "modes": [],
             "secrets": secrets}  # fmt: skip
    csi = pv_body("pvc-1", after, {})["spec"]["csi"]
    assert csi["nodeStageSecretRef"] == {"name": "data-crypto", "namespace": "notes"}
    assert "nodePublishSecretRef" not in csi


def test_a_claim_without_its_former_life() -> None:
    claim = {
        "metadata": {"name": "data", "namespace": "notes", "uid": "1", "labels": {"a": "b"}, "finalizers": ["x"],
                     "annotations": {"pv.kubernetes.io/bind-completed": "yes", "mine": "stays"}},
        "spec": {"volumeName": "pvc-1", "storageClassName": "longhorn"}, "status": {"phase": "Bound"},
    }  # fmt: skip
    assert plain_claim(claim) == {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"storageClassName": "longhorn"},
        "metadata": {"name": "data", "namespace": "notes", "labels": {"a": "b"}, "annotations": {"mine": "stays"}},
    }  # fmt: skip


def pod(name: str, labels: dict[str, str] | None = None, job: str = "", space: str = "notes") -> dict[str, Any]:
    owners = [{"kind": "Job", "name": job}] if job else []
    return {"metadata": {"name": name, "namespace": space, "labels": labels or {}, "ownerReferences": owners}}


@pytest.mark.parametrize(
    ("one", "kind", "mine"),
    [
        (pod("a", {"app": "db"}), "Deployment", True),
        (pod("a", {"app": "web"}), "Deployment", False),
        (pod("a", {"app": "db"}, space="other"), "Deployment", False),
        (pod("db-28000000-x", job="db-28000000"), "CronJob", True),
        (pod("db-x", job="db-manual"), "CronJob", False),
        (pod("web-28000000-x", job="web-28000000"), "CronJob", False),
    ],
)
def test_whose_pod_it_is(one: dict[str, Any], kind: str, mine: bool) -> None:
    item = {"metadata": {"name": "db", "namespace": "notes"}, "spec": {"selector": {"matchLabels": {"app": "db"}}}}
    assert belongs(one, item, kind) is mine
