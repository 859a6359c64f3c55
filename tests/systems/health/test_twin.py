"""The readers of the health report against the twin, over its real protocols: what is planted is what is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labkit.facts.kubehealth import KubeHealth
from labkit.facts.pvehealth import PveHealth
from labkit.systems.k3s import open_cluster
from tests.systems.health.conftest import Bench

Step = tuple[str, dict[str, Any]]
Rows = list[tuple[str, str, str]]
DNS = ("kubernetes.single-replica", "info", "Deployment kube-system/coredns")
PVE, GUESTS, KUBE = "proxmox-health", "guest-health", "kubernetes"


def test_a_twin_that_is_well_has_one_coredns_and_no_other_finding(bench: Bench) -> None:
    assert bench.find() == [DNS]


def test_facts_are_complete(bench: Bench) -> None:
    facts = bench.read()
    pve: PveHealth = facts[PVE]
    assert [host.name for host in pve.hosts] == ["north", "south", "west"]
    north = pve.hosts[0]
    assert (north.version, north.kernel, bool(north.root_total), north.problem) == ("9.1.1", "6.17.2-1-pve", True, "")
    assert [disk.wear for disk in north.disks] == [4]
    assert [one.file for one in north.certificates] == ["pve-root-ca.pem", "pve-ssl.pem"]
    guest = facts[GUESTS].guest("one")
    assert guest.k3s_version == "v1.33.4+k3s1"
    assert len(guest.certificates) == 19
    assert guest.file_systems[0].target == "/"
    assert abs(guest.clock_offset) <= guest.clock_error + 0.05
    kube: KubeHealth = facts[KUBE]
    assert len(kube.nodes) == 5
    assert {one.opens for one in kube.snapshots or ()} == {"same"}
    assert [one.server for one in kube.serving] == ["one", "two", "three"]
    assert kube.kubeconfig_expires is not None
    again = KubeHealth.model_validate_json(kube.model_dump_json())
    assert again == kube
    assert PveHealth.model_validate_json(pve.model_dump_json()) == pve


def test_the_number_of_requests_is_known(bench: Bench) -> None:
    bench.read()  # host keys are learnt once
    hosts = 3
    assert bench.requests(PVE) == {"8006": 5 + 4 * hosts}  # state, disks, certificates, and the backups on `local`
    assert bench.requests(GUESTS) == {"22": 2 * 5}  # a login and a command each
    before = bench.requests(KUBE)
    assert before == {"6443": 20 + 3}  # each kind once, and a look at each server's certificate
    cluster = open_cluster(bench.lab, bench.access)
    bench.twin.ask("add", name="stranger", vmid=700)
    try:
        cluster.post("/apis/apps/v1/namespaces/default/deployments", deployment("many", 30))
        bench.access.wait(lambda: running(cluster, "many") == 30 or None, what="pods", deadline=6000)
        assert bench.requests(KUBE) == before
        assert bench.requests(PVE) == {"8006": 5 + 4 * hosts}
    finally:
        cluster.delete("/apis/apps/v1/namespaces/default/deployments/many")
        bench.twin.ask("delete", name="stranger")
    bench.access.wait(lambda: running(cluster, "many") == 0 or None, what="pods gone", deadline=600)


def deployment(name: str, replicas: int, **more: Any) -> dict[str, Any]:
    labels = {"app": name}
    spec = {
        "containers": [{"name": "main", "image": "registry.example/app:1"}],
        "tolerations": [{"operator": "Exists"}],
    }
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels, **more.pop("meta", {})}, "spec": spec | more}},
    }  # fmt: skip


def running(cluster: Any, app: str) -> int:
    return len(cluster.table("/api/v1/pods", labelSelector=f"app={app}").rows)


PLANTED: dict[str, tuple[list[Step], list[Step], tuple[str, ...], Rows]] = {
    "storage": (
        [("storage", {"name": "local-lvm", "host": "south", "percent": 91})],
        [("storage", {"name": "local-lvm", "host": "south", "percent": None})],
        (PVE,), [("proxmox.storage-room", "warning", "storage local-lvm on south")],
    ),
    "storage away": (
        [("storage", {"name": "local", "host": "west", "available": False})],
        [("storage", {"name": "local", "host": "west", "available": True})],
        (PVE,), [("proxmox.storage-available", "error", "storage local on west")],
    ),
    "host": (
        [("host", {"name": "west", "version": "9.0.11", "certificate_days": 3, "up_days": 0.1, "root_percent": 97,
                   "memory_gib": 2, "disk": {"health": "FAILED", "left": 4, "used": "ZFS"},
                   "pools": [{"name": "rpool", "health": "DEGRADED", "size": 10, "alloc": 1, "free": 9}]})],
        [("host", {"name": "west", "version": "9.1.1", "certificate_days": 500, "up_days": 9, "root_percent": 9,
                   "memory_gib": None, "disk": {"health": "PASSED", "left": 96, "used": "LVM"}, "pools": []})],
        (PVE,), [
            ("proxmox.certificate", "warning", "host west"),
            ("proxmox.disk-health", "error", "disk /dev/nvme0n1 on west"),
            ("proxmox.disk-wear", "warning", "disk /dev/nvme0n1 on west"), ("proxmox.memory", "warning", "host west"),
            ("proxmox.pool", "error", "pool rpool on west"), ("proxmox.restarted", "info", "host west"),
            ("proxmox.root-room", "error", "host west"), ("proxmox.version", "warning", "host west"),
        ],
    ),
    "kernel": (
        [("host", {"name": "west", "kernel": "6.14.11-4-pve"})], [("host", {"name": "west", "kernel": "6.17.2-1-pve"})],
        (PVE,), [("proxmox.kernel", "info", "host west")],
    ),
    "backups": (
        [("storage", {"name": "nas", "content": "backup"}), ("backup-job", {"storage": "nas"}),
         *(("backup", {"vm": vm, "hours": hours, "storage": "nas"})
           for vm, hours in (("one", 5), ("two", 5), ("three", 5), ("four", 400))),
         ("task", {"host": "south", "status": "job errors", "hours": 4}), ("lock", {"vm": "two", "lock": "backup"})],
        [*(("backup", {"vm": vm, "hours": None}) for vm in ("one", "two", "three", "four")),
         ("backup-job", {"enabled": False}), ("task", {"host": "south", "status": "OK", "hours": 1}),
         ("unlock", {"name": "two"})],
        (PVE,), [
            ("proxmox.backup-age", "warning", "VM five"), ("proxmox.backup-age", "warning", "VM four"),
            ("proxmox.backup-task", "warning", "backup on south"), ("proxmox.vm-lock", "warning", "VM two"),
        ],
    ),
    "moved": (
        [("host", {"name": "west", "memory_gib": 16}), ("move", {"name": "five", "host": "west"})],
        [("host", {"name": "west", "memory_gib": None}), ("move", {"name": "five", "host": "south"})],
        (PVE, KUBE), [
            DNS, ("kubernetes.zone", "warning", "node five"), ("proxmox.vm-host", "warning", "VM five"),
        ],
    ),
    "agent": (
        [("fault", {"name": "agent-silent:four"})], [("clear", {"name": "agent-silent"})],
        (PVE, GUESTS), [("proxmox.guest-agent", "warning", "VM four")],
    ),
    "clock": (
        [("fault", {"name": "clock-off:four:9"})], [("clear", {"name": "clock-off"})],
        (GUESTS,), [("guests.clock", "warning", "guest four")],
    ),
    "silent": (
        [("fault", {"name": "ssh-silent:four"})], [("clear", {"name": "ssh-silent"})],
        (PVE, GUESTS), [("guests.reachable", "error", "guest four")],
    ),
    "guest": (
        [("guest", {"name": "four", "disk_percent": 95, "inode_percent": 97, "memory_percent": 96, "read_only": True,
                    "reboot_days": 30, "failed_unit": "snapd"})],
        [("guest", {"name": "four", "disk_percent": None, "inode_percent": 6, "memory_percent": 20,
                    "read_only": False, "reboot_days": None, "mended_unit": "snapd"})],
        (GUESTS,), [
            ("guests.disk", "error", "guest four"), ("guests.inodes", "warning", "guest four"),
            ("guests.memory", "warning", "guest four"), ("guests.read-only", "error", "guest four"),
            ("guests.reboot", "warning", "guest four"), ("guests.units", "warning", "guest four"),
        ],
    ),
    "certificates": (
        [("certificates", {"name": "two", "days": 3}), ("kubeconfig", {"days": 20})],
        [("certificates", {"days": 300}), ("kubeconfig", {"days": 300})],
        (GUESTS, KUBE), [
            ("kubernetes.certificate", "error", "node two"),
            ("kubernetes.kubeconfig", "warning", "kubeconfig ~/.kube/config"), DNS,
        ],
    ),
    "cordoned": (
        [("object", {"resource": "nodes", "name": "five", "merge": {"spec": {"unschedulable": True}}})],
        [("object", {"resource": "nodes", "name": "five", "merge": {"spec": {"unschedulable": None}}})],
        (KUBE,), [("kubernetes.cordoned", "warning", "node five"), DNS],
    ),
    "snapshots": (
        [("object", {"resource": "namespaces", "name": "kube-system", "hours": 900}), ("snapshots", {"hours": 40})],
        [("snapshots", {"hours": -40})], (KUBE,), [DNS, ("kubernetes.snapshot-age", "error", "etcd")],
    ),
    "snapshot failed": (
        [("snapshots", {"name": "two", "error": "no space left on device"})], [], (KUBE,),
        [DNS, ("kubernetes.snapshot-failed", "warning", "node two")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found_and_nothing_else(bench: Bench, name: str) -> None:
    steps, back, systems, expected = PLANTED[name]
    if name == "snapshot failed":
        back = mended(bench)
    try:
        for action, given in steps:
            bench.twin.ask(action, **given)
        assert bench.find(*systems) == sorted(expected)
    finally:
        for action, given in back:
            bench.twin.ask(action, **given)
    assert bench.find(*systems) == ([DNS] if KUBE in systems else [])


def mended(bench: Bench) -> list[Step]:
    """Return the steps that make the snapshots of a server good again."""
    cluster = open_cluster(bench.lab, bench.access)
    names = [one["metadata"]["name"] for one in cluster.items("/apis/k3s.cattle.io/v1/etcdsnapshotfiles")
             if one["spec"]["nodeName"] == "two"]  # fmt: skip
    merge = {"status": {"readyToUse": True, "error": None}}
    return [("object", {"resource": "etcdsnapshotfiles.k3s.cattle.io", "name": one, "merge": merge}) for one in names]


def test_pods_that_crash_or_wait_and_what_is_short(bench: Bench) -> None:
    cluster, path = open_cluster(bench.lab, bench.access), "/apis/apps/v1/namespaces/default/deployments"
    ends = {"meta": {"annotations": {"twin.labkit/run": "1", "twin.labkit/exit-code": "2"}}}
    cluster.post(path, deployment("crashes", 1, **ends))
    cluster.post(path, deployment("nowhere", 2, nodeSelector={"disk": "none"}))
    cluster.post("/api/v1/namespaces/default/persistentvolumeclaims", {
        "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "nosuch",
                                               "resources": {"requests": {"storage": "1Gi"}}}})  # fmt: skip
    try:
        crashed = until(bench, cluster, "crashes", "CrashLoopBackOff")
        waiting = until(bench, cluster, "nowhere", "Pending")
        for pod in waiting:
            bench.twin.ask("object", resource="pods", namespace="default", name=pod, hours=2)
        bench.twin.ask("object", resource="persistentvolumeclaims", namespace="default", name="data", hours=2)
        assert crashed
        assert bench.find(KUBE) == [
            ("kubernetes.claim", "error", "claim default/data"),
            ("kubernetes.pod-crash", "error", "Deployment default/crashes"),
            ("kubernetes.pod-pending", "error", "Deployment default/nowhere"),
            DNS,
        ]
        assert "exit code 2" in message_of(bench, "Deployment default/crashes")
        assert "didn't match Pod's node affinity" in message_of(bench, "Deployment default/nowhere")
    finally:
        for name in ("crashes", "nowhere"):
            cluster.delete(f"{path}/{name}")
        cluster.delete("/api/v1/namespaces/default/persistentvolumeclaims/data")


def message_of(bench: Bench, subject: str) -> str:
    """What the pods of a workload say at last; one that crashes is silent while it is tried again."""

    def probe() -> str | None:
        facts: KubeHealth = bench.read(KUBE)[KUBE]
        return next((pod.message for pod in facts.pods if pod.subject == subject and pod.message), None)

    found: str = bench.access.wait(probe, what=f"a message of {subject}", deadline=600, every=1)
    return found


def until(bench: Bench, cluster: Any, app: str, status: str) -> list[str]:
    def probe() -> list[str] | None:
        table = cluster.table("/api/v1/pods", labelSelector=f"app={app}")
        good = [row.metadata["name"] for row in table.rows if table.cell(row, "status") == status]
        return good if good and len(good) == len(table.rows) else None

    found: list[str] = bench.access.wait(probe, what=f"{app} {status}", deadline=600, every=1)
    return found


def test_webhooks_budgets_and_old_versions(bench: Bench) -> None:
    cluster = open_cluster(bench.lab, bench.access)
    hook = {"name": "a.guard.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
            "clientConfig": {"service": {"namespace": "default", "name": "guard"}}}  # fmt: skip
    hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    budgets = "/apis/policy/v1/namespaces/kube-system/poddisruptionbudgets"
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    undo: list[Callable[[], Any]] = []
    try:
        cluster.post(hooks, {"metadata": {"name": "guard"}, "webhooks": [hook]})
        undo.append(lambda: cluster.delete(f"{hooks}/guard"))
        cluster.post(budgets, {"metadata": {"name": "dns"}, "spec": {
            "minAvailable": 1, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}}})  # fmt: skip
        undo.append(lambda: cluster.delete(f"{budgets}/dns"))
        cluster.post(crds, definition())
        undo.append(lambda: cluster.delete(f"{crds}/boxes.shop.example"))
        bench.access.wait(lambda: cluster.find("/apis/shop.example/v1beta1/boxes"), what="kind", deadline=600)
        budget = f"{budgets}/dns"
        bench.access.wait(lambda: (cluster.get(budget).get("status") or {}).get("expectedPods"), what="budget",
                          deadline=600)  # fmt: skip
        bench.twin.ask("object", resource="customresourcedefinitions.apiextensions.k8s.io", name="boxes.shop.example",
                       merge={"status": {"storedVersions": ["v1beta1", "v1"]}})  # fmt: skip
        assert bench.find(KUBE) == sorted([
            ("kubernetes.budget", "warning", "PodDisruptionBudget kube-system/dns"),
            ("kubernetes.deprecated", "warning", "API boxes.shop.example/v1beta1"), DNS,
            ("kubernetes.stored-version", "warning", "definition boxes.shop.example"),
            ("kubernetes.webhook", "warning", "validating webhook guard"),
        ])  # fmt: skip
    finally:
        for step in undo:
            step()


def definition() -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema},
                {"name": "v1beta1", "served": True, "storage": False, "deprecated": True,
                 "schema": schema}]  # fmt: skip
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "boxes.shop.example"},
            "spec": {"group": "shop.example", "scope": "Namespaced", "versions": versions,
                     "names": {"plural": "boxes", "singular": "box", "kind": "Box",
                               "listKind": "BoxList"}}}  # fmt: skip


def test_a_vm_that_is_switched_off_is_told_once_per_system(bench: Bench) -> None:
    bench.twin.power_vm("five", on=False)
    try:
        assert bench.find(PVE, GUESTS) == [("proxmox.vm-running", "error", "VM five")]
    finally:
        bench.twin.power_vm("five", on=True)
