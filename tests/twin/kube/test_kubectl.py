"""The real kubectl against the twin."""

from __future__ import annotations

import json
import re
import threading

import pytest
import yaml

from .conftest import Kubectl, Running

MANIFEST = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: shop}}
data: {colour: red, size: large}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {app: shop}}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "registry.example/shop:1", ports: [{containerPort: 80}]}
      - {name: side, image: "registry.example/side:1"}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80}]}
"""


@pytest.fixture(scope="module", autouse=True)
def cluster(running: Running) -> None:
    running.add_node("pve1-a", 21)
    running.add_node("pve1-b", 22)


@pytest.fixture
def space(kubectl: Kubectl, request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z]+", "-", request.node.name)[:60].strip("-")
    kubectl.run("create", "namespace", name)
    return name


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_versions_and_resources(kubectl: Kubectl) -> None:
    assert "Server Version: v1.36.2" in kubectl.run("version")
    assert "deployments.apps" in kubectl.run("api-resources", "-o", "name").split()
    assert "apps/v1" in kubectl.run("api-versions").split()
    assert "etcd ok" in kubectl.run("get", "--raw", "/readyz?verbose")
    assert kubectl.run("auth", "can-i", "create", "pods").strip() == "yes"


def test_nodes_are_ready(kubectl: Kubectl, running: Running) -> None:
    kubectl.run("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=20s")
    head, *rows = lines(kubectl.run("get", "nodes", "-o", "wide"))
    assert head[:5] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert [(row[0], row[1], row[4], row[5]) for row in rows] == [
        ("pve1-a", "Ready", "v1.36.2+k3s1", "192.168.5.21"),
        ("pve1-b", "Ready", "v1.36.2+k3s1", "192.168.5.22"),
    ]
    assert "Ready" in kubectl.run("describe", "node", "pve1-a")


@pytest.mark.parametrize("way", [(), ("--server-side",)], ids=["client", "server"])
def test_apply_diff_and_apply_again(kubectl: Kubectl, space: str, way: tuple[str, ...]) -> None:
    base = ("-n", space, *way)
    assert kubectl.run("diff", *base, "-f", "-", stdin=MANIFEST, status=1)
    said = kubectl.run("apply", *base, "-f", "-", stdin=MANIFEST)
    assert said.count("serverside-applied" if way else "created") == 3
    assert kubectl.run("diff", *base, "-f", "-", stdin=MANIFEST) == ""
    again = kubectl.run("apply", *base, "-f", "-", stdin=MANIFEST)
    assert again.count("serverside-applied" if way else "unchanged") == 3
    changed = MANIFEST.replace("colour: red, ", "").replace("shop:1", "shop:2")
    shown = kubectl.run("diff", *base, "-f", "-", stdin=changed, status=1)
    assert "-  colour: red" in shown
    assert "+      - image: registry.example/shop:2" in shown
    kubectl.run("apply", *base, "-f", "-", stdin=changed)
    assert kubectl.json("get", "-n", space, "configmap", "settings")["data"] == {"size": "large"}
    found = kubectl.json("get", "-n", space, "deployment", "shop")["spec"]["template"]["spec"]["containers"]
    assert [(c["name"], c["image"]) for c in found] == [
        ("main", "registry.example/shop:2"),
        ("side", "registry.example/side:1"),
    ]


def test_a_field_of_another_manager_is_a_conflict(kubectl: Kubectl, space: str) -> None:
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"
    kubectl.run("apply", "-n", space, "--server-side", "--field-manager=one", "-f", "-", stdin=one)
    two = one.replace("'1'", "'2'")
    words = ("apply", "-n", space, "--server-side", "--field-manager=two", "-f", "-")
    said = kubectl.run(*words, stdin=two, status=1)
    assert 'conflict with "one": .data.a' in said
    kubectl.run(*words, "--force-conflicts", stdin=two)
    assert kubectl.json("get", "-n", space, "cm", "c")["data"] == {"a": "2"}


def test_client_side_apply_moves_to_server_side(kubectl: Kubectl, space: str) -> None:
    kubectl.run("apply", "-n", space, "-f", "-", stdin=MANIFEST)
    kubectl.run("apply", "-n", space, "--server-side", "-f", "-", stdin=MANIFEST.replace("size: large", "size: small"))
    assert kubectl.json("get", "-n", space, "cm", "settings")["data"]["size"] == "small"


def test_unknown_fields_are_refused(kubectl: Kubectl, space: str) -> None:
    wrong = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndta: {a: b}\n"
    said = kubectl.run("create", "-n", space, "-f", "-", stdin=wrong, status=1)
    assert 'unknown field "dta"' in said
    kubectl.run("apply", "-n", space, "--validate=false", "-f", "-", stdin=wrong)


def test_create_with_kustomize(kubectl: Kubectl, space: str, tmp_path) -> None:
    (tmp_path / "all.yaml").write_text(MANIFEST)
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["all.yaml"], "namePrefix": "my-", "namespace": space})
    )
    kubectl.run("create", "-k", str(tmp_path))
    names = kubectl.run("get", "deploy,cm,svc", "-n", space, "-o", "name").split()
    assert {"deployment.apps/my-shop", "configmap/my-settings", "service/my-shop"} <= set(names)


def test_rollout_status_restart_and_scale(kubectl: Kubectl, space: str) -> None:
    kubectl.run("apply", "-n", space, "-f", "-", stdin=MANIFEST)
    waiting = ("rollout", "status", "deployment/shop", "-n", space, "--timeout=30s")
    assert "successfully rolled out" in kubectl.run(*waiting)
    head, *rows = lines(kubectl.run("get", "pods", "-n", space))
    assert head == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[1:4] for row in rows] == [["2/2", "Running", "0"]] * 2
    kubectl.run("rollout", "restart", "deployment/shop", "-n", space)
    assert "successfully rolled out" in kubectl.run(*waiting)
    kubectl.run("scale", "deployment/shop", "-n", space, "--replicas=3")
    kubectl.run("wait", "deployment/shop", "-n", space, "--for=jsonpath={.status.readyReplicas}=3", "--timeout=30s")
    table = lines(kubectl.run("get", "deployment", "shop", "-n", space, "-o", "wide"))
    assert table[1][:4] == ["shop", "3/3", "3", "3"]
    assert table[1][5:] == ["main,side", "registry.example/shop:1,registry.example/side:1", "app=shop"]
    kubectl.run("set", "image", "deployment/shop", "-n", space, "main=registry.example/shop:9")
    assert "successfully rolled out" in kubectl.run(*waiting)
    assert "REVISION" in kubectl.run("rollout", "history", "deployment/shop", "-n", space)
    kubectl.run("rollout", "undo", "deployment/shop", "-n", space)
    images = "{.spec.template.spec.containers[*].image}"
    shown = kubectl.run("get", "deployment", "shop", "-n", space, "-o", f"jsonpath={images}")
    assert shown.split()[0] == "registry.example/shop:1"


def test_describe_logs_and_events(kubectl: Kubectl, space: str) -> None:
    kubectl.run("apply", "-n", space, "-f", "-", stdin=MANIFEST)
    kubectl.run("rollout", "status", "deployment/shop", "-n", space, "--timeout=30s")
    assert "Replicas:               2 desired" in kubectl.run("describe", "deployment", "shop", "-n", space)
    described = kubectl.run("describe", "pods", "-n", space)
    assert "registry.example/side:1" in described
    assert "Scheduled" in described
    assert "Endpoints:" in kubectl.run("describe", "service", "shop", "-n", space)
    assert "main" in kubectl.run("logs", "deployment/shop", "-n", space, "-c", "main", "--tail=1")
    assert "a container name must be" in kubectl.run(
        "get", "--raw", f"/api/v1/namespaces/{space}/pods/{pod_names(kubectl, space)[0]}/log", status=1
    )
    assert "Scheduled" in kubectl.run("events", "-n", space)


def pod_names(kubectl: Kubectl, space: str) -> list[str]:
    return [item["metadata"]["name"] for item in kubectl.json("get", "pods", "-n", space)["items"]]


def test_patch_label_annotate_and_edit_fields(kubectl: Kubectl, space: str) -> None:
    kubectl.run("apply", "-n", space, "-f", "-", stdin=MANIFEST)
    kubectl.run("label", "cm", "settings", "-n", space, "tier=a", "app-")
    kubectl.run("annotate", "cm", "settings", "-n", space, "note=x")
    meta = kubectl.json("get", "cm", "settings", "-n", space)["metadata"]
    assert meta["labels"] == {"tier": "a"}
    assert meta["annotations"]["note"] == "x"
    kubectl.run("patch", "cm", "settings", "-n", space, "--type=merge", "-p", '{"data":{"size":null}}')
    steps = json.dumps([{"op": "add", "path": "/data/new", "value": "1"}])
    kubectl.run("patch", "cm", "settings", "-n", space, "--type=json", "-p", steps)
    assert kubectl.json("get", "cm", "settings", "-n", space)["data"] == {"colour": "red", "new": "1"}
    inner = {"containers": [{"name": "side", "image": "registry.example/side:2"}]}
    kubectl.run("patch", "deploy", "shop", "-n", space, "-p", json.dumps({"spec": {"template": {"spec": inner}}}))
    found = kubectl.json("get", "deploy", "shop", "-n", space)["spec"]["template"]["spec"]["containers"]
    assert [c["image"] for c in found] == ["registry.example/shop:1", "registry.example/side:2"]


def test_cordon_drain_with_a_budget_and_uncordon(kubectl: Kubectl, space: str) -> None:
    kubectl.run("apply", "-n", space, "-f", "-", stdin=MANIFEST)
    kubectl.run("rollout", "status", "deployment/shop", "-n", space, "--timeout=30s")
    kubectl.run("create", "pdb", "shop", "-n", space, "--selector=app=shop", "--min-available=2")
    wanted = "--for=jsonpath={.status.currentHealthy}=2"
    kubectl.run("wait", "pdb/shop", "-n", space, wanted, "--timeout=20s")
    kubectl.run("cordon", "pve1-a")
    shown = lines(kubectl.run("get", "node", "pve1-a"))
    assert shown[1][1] == "Ready,SchedulingDisabled"
    node = kubectl.json("get", "pods", "-n", space)["items"][0]["spec"]["nodeName"]
    drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    said = kubectl.run(*drain, "--pod-selector=app=shop", "--timeout=2s", status=1)
    assert "Cannot evict pod as it would violate the pod's disruption budget" in said
    kubectl.run("delete", "pdb", "shop", "-n", space)
    assert "drained" in kubectl.run(*drain, "--timeout=30s")
    left = kubectl.json("get", "pods", "-A", "--field-selector", f"spec.nodeName={node}")["items"]
    assert left == []
    kubectl.run("uncordon", "pve1-a", "pve1-b")
    assert "SchedulingDisabled" not in kubectl.run("get", "nodes")


def test_watching_shows_rows(kubectl: Kubectl, space: str, tmp_path) -> None:
    seen: list[str] = []
    watching = threading.Thread(
        target=lambda: seen.append(kubectl.run("get", "cm", "-n", space, "-w", "--request-timeout=3s", status=None))
    )
    watching.start()
    kubectl.run("create", "cm", "fresh", "-n", space, "--from-literal=a=1", "--from-literal=b=2")
    kubectl.run("delete", "cm", "fresh", "-n", space)
    watching.join(20)
    assert ["fresh", "2"] in [row[:2] for row in lines(seen[0])]


def test_custom_kinds_have_their_columns(kubectl: Kubectl, running: Running, space: str) -> None:
    from labkit.twin.kube import crd_files

    running.do(crd_files.install, running.server.core, "flux")
    flux = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "apps"},
        "spec": {
            "interval": "10m",
            "path": "./apps",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "flux-system"},
        },
    }
    kubectl.run("apply", "-n", space, "-f", "-", stdin=json.dumps(flux))
    status = {
        "status": {
            "observedGeneration": 1,
            "conditions": [condition("Ready", "True", "Applied revision: main@sha1:abc")],
        }
    }
    kubectl.run("patch", "ks", "apps", "-n", space, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    head, row = lines(kubectl.run("get", "ks", "-n", space))
    assert head == ["NAME", "AGE", "READY", "STATUS"]
    assert row[0] == "apps"
    assert row[2:] == ["True", "Applied", "revision:", "main@sha1:abc"]
    kubectl.run("wait", "kustomization/apps", "-n", space, "--for=condition=Ready", "--timeout=5s")
    flux["spec"]["prune"] = "yes"
    said = kubectl.run("apply", "-n", space, "-f", "-", stdin=json.dumps(flux), status=1)
    assert 'spec.prune in body must be of type boolean: "string"' in said


def condition(kind: str, status: str, message: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": "Done",
        "message": message,
        "lastTransitionTime": "2026-11-23T00:00:00Z",
    }


def test_get_all_and_delete(kubectl: Kubectl, space: str) -> None:
    kubectl.run("apply", "-n", space, "-f", "-", stdin=MANIFEST)
    kubectl.run("rollout", "status", "deployment/shop", "-n", space, "--timeout=30s")
    shown = kubectl.run("get", "all", "-n", space)
    assert all(word in shown for word in ("deployment.apps/shop", "replicaset.apps/shop-", "pod/shop-", "service/shop"))
    assert "deleted" in kubectl.run("delete", "-n", space, "-f", "-", "--timeout=30s", stdin=MANIFEST)
    kubectl.run("wait", "pods", "-n", space, "--for=delete", "-l", "app=shop", "--timeout=30s")
    kubectl.run("delete", "namespace", space, "--timeout=30s")
    assert "NotFound" in kubectl.run("get", "namespace", space, status=1)


def test_jobs_and_cascades(kubectl: Kubectl, space: str) -> None:
    kubectl.run("create", "job", "once", "-n", space, "--image=registry.example/once:1")
    kubectl.run("get", "job", "once", "-n", space)
    kubectl.run("delete", "job", "once", "-n", space, "--cascade=foreground", "--timeout=30s")
    kubectl.run("create", "deployment", "kept", "-n", space, "--image=registry.example/kept:1")
    kubectl.run("rollout", "status", "deployment/kept", "-n", space, "--timeout=30s")
    kubectl.run("delete", "deployment", "kept", "-n", space, "--cascade=orphan", "--timeout=30s")
    left = kubectl.json("get", "rs", "-n", space, "-l", "app=kept")["items"]
    assert len(left) == 1
    assert "ownerReferences" not in left[0]["metadata"]


def test_secrets_and_tokens(kubectl: Kubectl, space: str) -> None:
    kubectl.run("create", "secret", "generic", "s", "-n", space, "--from-literal=password=hunter2")
    assert lines(kubectl.run("get", "secret", "s", "-n", space))[1][:3] == ["s", "Opaque", "1"]
    kubectl.run("create", "serviceaccount", "bot", "-n", space)
    assert kubectl.run("create", "token", "bot", "-n", space).strip().startswith("sa.")
