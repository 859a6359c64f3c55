"""The claims that a repository names: what a restored volume needs to fit them."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.facts.repository import Build, Cluster, Resource
from labkit.facts.restore import GitClaim
from labkit.rules.claims import git_claims, parse_quantity

DRIVER = "driver.longhorn.io"
BY = "flux-system/apps"


def cluster(*trees: dict[str, Any]) -> Cluster:
    made = tuple(Resource(tree, "apps/notes/all.yaml", 7, tree, by=BY) for tree in trees)
    return Cluster("flux-system", (Build(Resource({}, "apps.yaml", 1), "apps", made),))


def pvc(name: str = "notes-data", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    shape = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": shape | spec,
            "metadata": {"name": name, "namespace": "notes", "labels": labels or {}}}  # fmt: skip


def storage_class(name: str, provisioner: str = DRIVER, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": provisioner, **more}  # fmt: skip


def chart(**persistence: Any) -> dict[str, Any]:
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": "longhorn", "namespace": "longhorn-system"},
        "spec": {"chart": {"spec": {"chart": "longhorn", "version": "1.10.2"}}, "values": {"persistence": persistence}},
    }  # fmt: skip


def one(*trees: dict[str, Any]) -> GitClaim:
    (found,) = git_claims(cluster(*trees))
    return found


def test_a_claim_has_all_that_its_volume_needs() -> None:
    found = one(pvc(storageClassName="longhorn", volumeName="pvc-1"), chart(defaultClassReplicaCount=2))
    assert (found.id, found.pinned, found.handle, found.requested) == ("notes/notes-data", "pvc-1", "", 2 << 30)
    assert (found.kustomization, found.place) == (BY, "apps/notes/all.yaml:7")
    assert found.parameters == {"numberOfReplicas": "2"}
    assert found.job_labels == {}


def test_its_class_counts() -> None:
    fast = storage_class("fast", parameters={"numberOfReplicas": "1", "fsType": "xfs"}, mountOptions=["noatime"])
    found = one(pvc(storageClassName="fast"), fast)
    assert found.parameters == {"numberOfReplicas": "1", "fsType": "xfs"}
    assert found.mount_options == ("noatime",)


@pytest.mark.parametrize(
    "trees",
    [
        [pvc(storageClassName="")],
        [pvc(storageClassName="nfs"), storage_class("nfs", "nfs.csi.k8s.io")],
        [pvc(storageClassName="longhorn"), storage_class("longhorn", "other")],
        [pvc()],
    ],
    ids=["no class", "another driver", "another driver by that name", "no default"],
)
def test_claims_elsewhere_do_not_count(trees: list[dict[str, Any]]) -> None:
    assert git_claims(cluster(*trees)) == ()


def test_a_claim_without_a_class_has_the_default_one() -> None:
    assert one(pvc(), chart()).storage_class == "longhorn"


def test_a_persistent_volume_in_git_names_the_volume() -> None:
    pv = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "notes-pv"},
          "spec": {"csi": {"driver": DRIVER, "volumeHandle": "notes"}}}  # fmt: skip
    found = one(pvc(storageClassName="longhorn-static", volumeName="notes-pv"), pv)
    assert (found.pinned, found.handle) == ("notes-pv", "notes")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, {}),
        ({"recurring-job-group.longhorn.io/often": "enabled"}, {}),
        (
            {"recurring-job.longhorn.io/source": "enabled", "recurring-job-group.longhorn.io/often": "enabled"},
            {"recurring-job-group.longhorn.io/often": "enabled"},
        ),
        (
            {"recurring-job.longhorn.io/source": "enabled", "recurring-job.longhorn.io/nightly": "enabled"},
            {"recurring-job.longhorn.io/nightly": "enabled"},
        ),
    ],
    ids=["none: the default group", "labels that Longhorn does not read", "a group", "a job"],
)
def test_jobs_come_along(labels: dict[str, str], expected: dict[str, str]) -> None:
    assert one(pvc(labels=labels, storageClassName="longhorn")).job_labels == expected


def test_the_claims_of_a_stateful_set() -> None:
    template = {"metadata": {"name": "data"}, "spec": pvc(storageClassName="longhorn")["spec"]}
    other = {"metadata": {"name": "cache"}, "spec": pvc(storageClassName="")["spec"]}
    found = git_claims(cluster({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "notes"},
        "spec": {"replicas": 2, "volumeClaimTemplates": [template, other]},
    }))  # fmt: skip
    assert [(one.id, one.template) for one in found] == [
        ("notes/data-db-0", "notes/db"), ("notes/data-db-1", "notes/db"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"),
    [("10Gi", 10 << 30), ("1.5Gi", 3 << 29), ("5G", 5 * 10**9), ("1048576", 1 << 20), ("", 0), (None, 0), ("x", 0)],
)
def test_quantities(text: object, size: int) -> None:
    assert parse_quantity(text) == size
