"""Upgrades and maintenance: in order, interrupted anywhere, held by budgets, and finished by the next run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError, Refused, StepFailed
from labkit.systems.kubernetes import Cluster
from labkit.twin.client import TwinHandle
from tests.e2e.k3s.conftest import enter, look, maintain, targets, upgrade

MakeTwin = Callable[..., TwinHandle]
NEXT = "v1.34.1+k3s1"


def deploy(cluster: Cluster, name: str, **more: Any) -> None:
    """Make a Deployment of one replica that may only run on a node of south."""
    labels = {"app": name}
    container = {"name": "main", "image": "example.test/main:1"}
    pod = {"containers": [container], "nodeSelector": {"topology.kubernetes.io/zone": "south"}, **more}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    cluster.post("/apis/apps/v1/namespaces/default/deployments", body)


def protect(cluster: Cluster, name: str) -> None:
    """Give the pods of a Deployment a budget that lets none of them go."""
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}}
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}
    cluster.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", body)
    path = f"/api/v1/namespaces/default/pods?labelSelector=app%3D{name}"

    def probe() -> bool | None:
        pods = cluster.get(path)["items"]
        return True if pods and all(pod["status"].get("phase") == "Running" for pod in pods) else None

    cluster.access.wait(probe, what="a pod that runs", deadline=600.0)


def test_an_upgrade(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="k3s-behind")
    plan = upgrade(lab_file)
    assert targets(plan)[0] == "snapshot/one/create"
    assert len(plan) == 6
    assert {node.version for node in look(lab_file, "k3s").nodes} == {"v1.33.4+k3s1"}
    assert targets(upgrade(lab_file)) == []
    with pytest.raises(Refused, match=r"one minor at a time, next v1\.34"):
        upgrade(lab_file, version="v1.35.0+k3s1")
    with pytest.raises(Refused, match="never goes back"):
        upgrade(lab_file, version="v1.32.0+k3s1")


def test_an_upgrade_that_was_stopped_goes_on(make_twin: MakeTwin, lab_file: Path) -> None:
    """By a connection that drops, by a budget, by a k3s that dies; never are two nodes out."""
    twin = make_twin(scenario="k3s")
    _, _, cluster = enter(lab_file)
    deploy(cluster, "database")
    protect(cluster, "database")
    stop_upgrade(twin, lab_file, "ssh-drops:one", "one")
    stop_upgrade(twin, lab_file, "", r"two: .*default/database-.* is held by .*database")
    assert out(lab_file) == {"two": "upgrade-k3s"}
    cluster.delete("/apis/policy/v1/namespaces/default/poddisruptionbudgets/database")
    stop_upgrade(twin, lab_file, "k3s-dies-after-install:two", "two")
    assert out(lab_file) == {"two": "upgrade-k3s"}
    again = upgrade(lab_file, version=NEXT)
    assert again.changes[0].target == "two"
    nodes = look(lab_file, "k3s").nodes
    assert {(node.version, node.schedulable) for node in nodes} == {(NEXT, True)}
    assert targets(upgrade(lab_file, version=NEXT)) == []


def stop_upgrade(twin: TwinHandle, lab_file: Path, fault: str, said: str) -> None:
    """An upgrade that fails with a text, by a fault that goes away afterwards."""
    if fault:
        twin.fault(fault)
    with pytest.raises(StepFailed, match=said):
        upgrade(lab_file, version=NEXT)
    if fault:
        twin.clear(fault.partition(":")[0])


def out(lab_file: Path) -> dict[str, str]:
    """The nodes that take no pods, and who saw to that."""
    return {node.name: node.cordoned_by for node in look(lab_file, "k3s").nodes if not node.schedulable}


def test_a_maintenance(make_twin: MakeTwin, lab_file: Path) -> None:
    twin = make_twin(scenario="k3s")
    twin.fault("agent-silent:five")
    with pytest.raises(StepFailed, match="five"):
        maintain(lab_file, host="south")
    twin.clear("agent-silent")
    again = maintain(lab_file, host="south")
    assert {change.target for change in again.changes} <= {"two", "five"}
    assert "vm-down/five/act" not in targets(again)
    assert all(node.schedulable and node.ready for node in look(lab_file, "k3s").nodes)
    assert targets(maintain(lab_file, host="south")) == []
    down = maintain(lab_file, host="west", phase="down")
    assert targets(down) == ["node-drain/three/act", "vm-down/three/act"]
    assert targets(maintain(lab_file, host="west", phase="down")) == []
    with pytest.raises(Refused, match="three"):
        maintain(lab_file, host="south", phase="down")
    up = maintain(lab_file, host="west", phase="up")
    assert targets(up) == ["vm-up/three/act", "node-return/three/act"]
    assert targets(maintain(lab_file, host="west", phase="up")) == []
    with pytest.raises(InputError, match="one of north, south, west"):
        maintain(lab_file, host="olymp")
