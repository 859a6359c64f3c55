"""One thing that is wrong with the cluster gives one finding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.k3s import certificates_last, cluster_is_ready, door_is_shut, nodes_are_in, quorum_by_host
from labkit.facts.k3s import DoorFacts, K3sFacts, KubeconfigSeen
from labkit.facts.kubernetes import CORDONED_BY, NodeRow, PodRow
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab, load_lab
from labkit.lab.k3sconfig import node_labels
from labkit.plan import Severity

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 8, 10, tzinfo=UTC)
FIRST, WORKER = "k3s-master-01", "k3s-worker-01"
VERSION = "v1.33.4+k3s1"
DNS = PodRow(namespace="kube-system", name="coredns-1", status="Running", ready="1/1")


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


def cluster(lab: Lab, name: str = "", changes: dict[str, Any] | None = None, **other: Any) -> K3sFacts:
    nodes = [
        NodeRow(name=m.name, ready=True, version=VERSION, server=m.role == "server", address=str(m.address),
                voter=True if m.role == "server" else None, labels=node_labels(m))
        for m in lab.machines
    ]  # fmt: skip
    changed = tuple(node.model_copy(update=changes or {}) if node.name == name else node for node in nodes)
    return K3sFacts(**{"up": True, "nodes": changed, "pods": (DNS,), "read_at": NOW, **other})


def test_a_cluster_as_it_should_be(lab: Lab) -> None:
    assert cluster_is_ready(lab, version=VERSION)({"k3s": cluster(lab)}) == ()


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (WORKER, {"ready": False, "problem": "kubelet stopped"}, "k3s.node-ready"),
        (WORKER, {"server": True, "voter": True}, "k3s.role"),
        (WORKER, {"version": "v1.32.1+k3s1"}, "k3s.version"),
        (WORKER, {"labels": {}}, "k3s.zone"),
        (WORKER, {"address": "10.0.0.1"}, "k3s.address"),
        (FIRST, {"voter": False}, "k3s.voter"),
        (FIRST, {"voter": None}, "k3s.voter"),
    ],
)
def test_each_thing_that_is_wrong_with_a_node(lab: Lab, name: str, changes: dict[str, Any], expected: str) -> None:
    found = cluster_is_ready(lab, version=VERSION)({"k3s": cluster(lab, name, changes)})
    assert [f.id for f in found if f.severity is Severity.ERROR] == [expected]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"up": False, "problem": "refused"}, "k3s.api"),
        ({"unhealthy": ("etcd",)}, "k3s.api"),
        ({"pods": ()}, "k3s.dns"),
        ({"pods": (DNS.model_copy(update={"ready": "0/1"}),)}, "k3s.dns"),
        ({"pods": (DNS.model_copy(update={"status": "Pending"}),)}, "k3s.dns"),
    ],
)
def test_each_thing_that_is_wrong_with_the_whole(lab: Lab, changes: dict[str, Any], expected: str) -> None:
    assert [f.id for f in cluster_is_ready(lab)({"k3s": cluster(lab, **changes)})] == [expected]


def test_a_missing_node(lab: Lab) -> None:
    nodes = tuple(node for node in cluster(lab).nodes if node.name != WORKER)
    assert [f.id for f in cluster_is_ready(lab)({"k3s": cluster(lab, nodes=nodes)})] == ["k3s.node"]


def test_a_cordoned_node_is_told_and_one_left_out_is_an_error(lab: Lab) -> None:
    left = cluster(lab, WORKER, {"schedulable": False, "annotations": {CORDONED_BY: "upgrade-k3s"}})
    assert [f.severity for f in cluster_is_ready(lab)({"k3s": left})] == [Severity.WARNING]
    assert [f.id for f in nodes_are_in(lab)({"k3s": left})] == ["k3s.left-out"]
    assert nodes_are_in(lab)({"k3s": cluster(lab, WORKER, {"schedulable": False})}) == ()


def test_quorum_is_counted_where_the_vms_are(lab: Lab) -> None:
    proxmox = ProxmoxFacts.model_validate_json((ROOT / "tests/data/proxmox/nine.json").read_text())
    found = quorum_by_host(lab)({"k3s": cluster(lab), "proxmox": proxmox})
    assert [(f.id, f.subject) for f in found] == [("k3s.quorum", "host hades")]
    moved = tuple(vm.model_copy(update={"node": "venus"}) if vm.name == FIRST else vm for vm in proxmox.vms)
    after = quorum_by_host(lab)({"k3s": cluster(lab), "proxmox": proxmox.model_copy(update={"vms": moved})})
    assert [(f.id, f.subject) for f in after] == [("k3s.quorum", "host venus"), ("k3s.zone", f"node {FIRST}")]


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        (401, 200, []),
        (403, 200, []),
        (200, 200, [Severity.ERROR]),
        (None, None, [Severity.WARNING]),
        (401, 401, [Severity.ERROR]),
    ],
)
def test_the_door(lab: Lab, wrong: int | None, right: int | None, expected: list[Severity]) -> None:
    names = [server.name for server in lab.servers]
    door = DoorFacts(
        wrong=dict.fromkeys(names, 401) | {FIRST: wrong}, right=dict.fromkeys(names, 200) | {FIRST: right}, read_at=NOW
    )
    assert [f.severity for f in door_is_shut(lab)({"join-door": door})] == expected


def test_certificates(lab: Lab) -> None:
    current = KubeconfigSeen(state="current")
    well = cluster(lab, expires=NOW + timedelta(days=300), kubeconfig=current)
    soon = cluster(lab, expires=NOW + timedelta(days=9), kubeconfig=current)
    stale = cluster(lab, kubeconfig=KubeconfigSeen(state="stale", expires=NOW))
    assert certificates_last(lab)({"k3s": well}) == ()
    assert [f.id for f in certificates_last(lab)({"k3s": soon})] == ["k3s.certificate"]
    assert [f.id for f in certificates_last(lab)({"k3s": stale})] == ["k3s.kubeconfig"]
