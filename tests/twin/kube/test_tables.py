"""The columns and cells of Tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labkit.twin.kube.clock import parse_stamp
from labkit.twin.kube.registry import Registry
from labkit.twin.kube.resources import builtin_resources
from labkit.twin.kube.store import Record
from labkit.twin.kube.tables import printer_of, table
from labkit.twin.kube.tables.custom import printer

MADE = "2026-11-23T12:00:00Z"
NOW = parse_stamp("2026-11-23T12:05:00Z")
META = {"name": "x", "namespace": "default", "creationTimestamp": MADE}
TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}}
SELECTOR = {"matchLabels": {"app": "x"}}
SET = {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE}


def cells(key: str, **body: Any) -> list[Any]:
    resource = Registry().named(key)
    assert resource is not None
    found = printer_of(resource).cells({"metadata": META, "kind": resource.kind, **body}, NOW)
    assert len(found) == len(printer_of(resource).columns)
    return found


def condition(kind: str, status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status}


CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "deployments.apps",
        {"spec": SET, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}},
        ["x", "2/3", 3, 1, "5m", "a,b", "a:1,b:1", "app=x"],
    ),
    ("replicasets.apps", {"spec": SET, "status": {"replicas": 2}}, ["x", 3, 2, 0, "5m", "a,b", "a:1,b:1", "app=x"]),
    (
        "replicationcontrollers",
        {"spec": {**SET, "selector": {"app": "x"}}},
        ["x", 3, 0, 0, "5m", "a,b", "a:1,b:1", "app=x"],
    ),
    (
        "daemonsets.apps",
        {"spec": SET, "status": {"desiredNumberScheduled": 4, "currentNumberScheduled": 3, "numberReady": 2}},
        ["x", 4, 3, 2, 0, 0, "<none>", "5m", "a,b", "a:1,b:1", "app=x"],
    ),
    ("statefulsets.apps", {"spec": SET, "status": {"readyReplicas": 1}}, ["x", "1/3", "5m", "a,b", "a:1,b:1"]),
    (
        "jobs.batch",
        {
            "spec": {"completions": 1, "template": TEMPLATE, "selector": SELECTOR},
            "status": {
                "succeeded": 1,
                "startTime": MADE,
                "completionTime": "2026-11-23T12:00:42Z",
                "conditions": [condition("Complete")],
            },
        },
        ["x", "Complete", "1/1", "42s", "5m", "a,b", "a:1,b:1", "app=x"],
    ),
    (
        "cronjobs.batch",
        {
            "spec": {"schedule": "0 6 * * *", "suspend": False, "jobTemplate": {"spec": {"template": TEMPLATE}}},
            "status": {"active": [{}], "lastScheduleTime": "2026-11-23T12:04:00Z"},
        },
        ["x", "0 6 * * *", "<none>", "False", 1, "60s", "5m", "a,b", "a:1,b:1", "<none>"],
    ),
    ("poddisruptionbudgets.policy", {"spec": {"minAvailable": 1}}, ["x", "1", "N/A", 0, "5m"]),
    (
        "services",
        {
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.43.0.9",
                "ports": [{"port": 443, "nodePort": 30443, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                "selector": {"b": "2", "a": "1"},
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "192.168.5.50"}]}},
        },
        ["x", "LoadBalancer", "10.43.0.9", "192.168.5.50", "443:30443/TCP,53/UDP", "5m", "a=1,b=2"],
    ),
    (
        "services",
        {"spec": {"type": "LoadBalancer", "clusterIP": "10.43.0.9"}},
        ["x", "LoadBalancer", "10.43.0.9", "<pending>", "<none>", "5m", "<none>"],
    ),
    (
        "services",
        {"spec": {"type": "ExternalName", "externalName": "host.lan"}},
        ["x", "ExternalName", "<none>", "host.lan", "<none>", "5m", "<none>"],
    ),
    (
        "ingresses.networking.k8s.io",
        {"spec": {"rules": [{"host": f"h{n}"} for n in range(4)], "tls": [{}]}},
        ["x", "<none>", "h0,h1,h2 + 1 more...", "", "80, 443", "5m"],
    ),
    (
        "endpointslices.discovery.k8s.io",
        {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.42.0.1", "10.42.0.2"]}]},
        ["x", "IPv4", "80", "10.42.0.1,10.42.0.2", "5m"],
    ),
    ("endpoints", {}, ["x", "<none>", "5m"]),
    (
        "nodes",
        {
            "metadata": {
                **META,
                "labels": {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/etcd": ""},
            },
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [condition("Ready")],
                "addresses": [{"type": "InternalIP", "address": "192.168.5.20"}],
                "nodeInfo": {"kubeletVersion": "v1.36.2+k3s1", "osImage": "Debian"},
            },
        },
        [
            "x",
            "Ready,SchedulingDisabled",
            "control-plane,etcd",
            "5m",
            "v1.36.2+k3s1",
            "192.168.5.20",
            "<none>",
            "Debian",
            "<unknown>",
            "<unknown>",
        ],
    ),
    ("namespaces", {"status": {"phase": "Active"}}, ["x", "Active", "5m"]),
    (
        "events",
        {
            "type": "Warning",
            "reason": "BackOff",
            "message": "again\n",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": MADE,
            "lastTimestamp": "2026-11-23T12:04:30Z",
            "count": 4,
        },
        ["30s", "Warning", "BackOff", "pod/p", "spec.containers{a}", "kubelet, n1", "again", "5m", 4, "x"],
    ),
    ("secrets", {"type": "Opaque", "data": {"a": "", "b": ""}}, ["x", "Opaque", 2, "5m"]),
    ("configmaps", {"data": {"a": ""}, "binaryData": {"b": ""}}, ["x", 2, "5m"]),
    ("serviceaccounts", {}, ["x", 0, "5m"]),
    ("leases.coordination.k8s.io", {"spec": {"holderIdentity": "me"}}, ["x", "me", "5m"]),
    (
        "clusterrolebindings.rbac.authorization.k8s.io",
        {
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}],
        },
        ["x", "ClusterRole/admin", "5m", "u", "", "n/s"],
    ),
    (
        "persistentvolumes",
        {
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": "default", "name": "c"},
                "storageClassName": "longhorn",
                "volumeMode": "Filesystem",
            },
            "status": {"phase": "Bound"},
        },
        ["x", "1Gi", "RWO,RWX", "Retain", "Bound", "default/c", "longhorn", "<unset>", "", "5m", "Filesystem"],
    ),
    (
        "persistentvolumeclaims",
        {
            "spec": {"volumeName": "v", "storageClassName": "longhorn"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
        },
        ["x", "Bound", "v", "1Gi", "RWO", "longhorn", "<unset>", "5m", "<unset>"],
    ),
    (
        "storageclasses.storage.k8s.io",
        {
            "metadata": {**META, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p",
            "allowVolumeExpansion": True,
        },
        ["x (default)", "p", "Delete", "Immediate", True, "5m"],
    ),
    ("customresourcedefinitions.apiextensions.k8s.io", {}, ["x", MADE]),
]


@pytest.mark.parametrize(("key", "body", "row"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_rows(key: str, body: dict[str, Any], row: list[Any]) -> None:
    assert cells(key, **body) == row


@pytest.mark.parametrize("resource", builtin_resources(), ids=lambda r: r.key)
def test_every_row_fits_its_columns(resource: Any) -> None:
    body = {"metadata": META, "spec": {"template": {}, "jobTemplate": {"spec": {}}, "source": {}}, "status": {}}
    made = printer_of(resource)
    assert len(made.cells(body, NOW)) == len(made.columns)
    assert made.columns[0]["name"] in ("Name", "Last Seen")


def status(**state: Any) -> dict[str, Any]:
    return {"name": "a", **state}


PODS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, str, str]]] = [
    ({}, {"phase": "Pending"}, ("0/1", "Pending", "0")),
    (
        {},
        {"phase": "Running", "containerStatuses": [status(ready=True, state={"running": {}})]},
        ("1/1", "Running", "0"),
    ),
    (
        {},
        {
            "phase": "Running",
            "containerStatuses": [
                status(
                    restartCount=7,
                    state={"waiting": {"reason": "CrashLoopBackOff"}},
                    lastState={"terminated": {"finishedAt": "2026-11-23T12:04:00Z"}},
                )
            ],
        },
        ("0/1", "CrashLoopBackOff", "7 (60s ago)"),
    ),
    (
        {},
        {"phase": "Failed", "containerStatuses": [status(state={"terminated": {"exitCode": 3}})]},
        ("0/1", "ExitCode:3", "0"),
    ),
    (
        {},
        {"phase": "Failed", "containerStatuses": [status(state={"terminated": {"signal": 9, "exitCode": 137}})]},
        ("0/1", "Signal:9", "0"),
    ),
    (
        {},
        {"phase": "Succeeded", "containerStatuses": [status(state={"terminated": {"reason": "Completed"}})]},
        ("0/1", "Completed", "0"),
    ),
    ({}, {"phase": "Failed", "reason": "Evicted"}, ("0/1", "Evicted", "0")),
    (
        {"initContainers": [{"name": "i"}, {"name": "j"}]},
        {
            "phase": "Pending",
            "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "state": {"running": {}}},
            ],
        },
        ("0/1", "Init:1/2", "0"),
    ),
    (
        {"initContainers": [{"name": "i"}]},
        {
            "phase": "Pending",
            "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}],
        },
        ("0/1", "Init:ErrImagePull", "0"),
    ),
    (
        {"initContainers": [{"name": "i", "restartPolicy": "Always"}]},
        {
            "phase": "Running",
            "initContainerStatuses": [{"name": "i", "ready": True, "started": True, "state": {"running": {}}}],
            "containerStatuses": [status(ready=True, state={"running": {}})],
        },
        ("2/2", "Running", "0"),
    ),
    (
        {},
        {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
        ("0/1", "SchedulingGated", "0"),
    ),
]


@pytest.mark.parametrize(("spec", "state", "shown"), PODS, ids=[case[2][1] for case in PODS])
def test_pods(spec: dict[str, Any], state: dict[str, Any], shown: tuple[str, str, str]) -> None:
    row = cells("pods", spec={"containers": [{"name": "a"}], **spec}, status=state)
    assert tuple(row[1:4]) == shown


def test_a_pod_that_goes_away() -> None:
    gone = {**META, "deletionTimestamp": MADE}
    spec = {"containers": [{"name": "a"}], "nodeName": "n1", "readinessGates": [{"conditionType": "g"}]}
    state = {"phase": "Running", "podIPs": [{"ip": "10.42.0.9"}], "conditions": [condition("g")]}
    row = cells("pods", metadata=gone, spec=spec, status=state)
    assert row[2:] == ["Terminating", "0", "5m", "10.42.0.9", "n1", "<none>", "1/1"]
    lost = cells("pods", metadata=gone, spec=spec, status={"phase": "Running", "reason": "NodeLost"})
    assert lost[2] == "Unknown"


def test_pods_that_have_ended_are_marked() -> None:
    resource = Registry().named("pods")
    assert resource is not None
    body = {"kind": "Pod", "metadata": META, "spec": {}, "status": {"phase": "Succeeded"}}
    shown = table(printer_of(resource), [Record("", body, 1)], b"{}", NOW, lambda _: b"null")
    (row,) = json.loads(shown)["rows"]
    assert row["conditions"][0]["type"] == "Completed"
    assert row["object"] is None


def test_columns_of_custom_kinds() -> None:
    columns = [
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Count", "type": "integer", "jsonPath": ".spec.count", "priority": 1},
        {"name": "Share", "type": "number", "jsonPath": ".spec.share"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "List", "type": "string", "jsonPath": ".spec.list"},
        {"name": "Lost", "type": "string", "jsonPath": ".spec.lost"},
    ]
    heads, read = printer({"additionalPrinterColumns": columns})
    assert [head["name"] for head in heads][:3] == ["Name", "Ready", "Count"]
    assert heads[2]["priority"] == 1
    body = {
        "metadata": META,
        "spec": {"count": 3, "share": 0.5, "on": True, "list": ["a"]},
        "status": {"conditions": [condition("Ready")]},
    }
    assert read(body, NOW) == ["x", "True", 3, 0.5, True, "5m", '["a"]', None]
    assert [head["name"] for head in printer({})[0]] == ["Name", "Age"]
