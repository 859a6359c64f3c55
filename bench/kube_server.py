"""A twin's Kubernetes API with many objects, in a process of its own: `python -m bench.kube_server FOLDER`.

It writes `ca.pem`, `kubeconfig` and `server.json` (its port and token) into the folder, and is ready when the last
one is there. Pods are of about 3 KB, nodes of about 4 KB, as a k3s cluster has them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from labkit.twin.k3s.pki import make_pki
from labkit.twin.kube.core import Core
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.server import KubeServer

PODS, NODES, NAMESPACES = 5000, 500, 10
_STARTED = "2026-08-10T20:00:00Z"
_LABEL = "app.kubernetes.io/name"


def main() -> None:
    """Serve until the process is ended."""
    asyncio.run(_serve(Path(sys.argv[1])))


async def _serve(folder: Path) -> None:
    core = new_core()
    fill(core)
    pki, token = make_pki(time.time() - 60), secrets.token_hex(16)
    server = KubeServer(core, tokens={token: "admin"})
    await server.start(context=pki.server_context(folder, "server", ()))
    ca = folder / "ca.pem"
    ca.write_text(pki.server_ca)
    with (folder / "kubeconfig").open("w", encoding="utf-8") as file:
        YAML().dump(_kubeconfig(server.url, str(ca), token), file)
    ready = folder / "server.json.new"
    ready.write_text(json.dumps({"port": server.port, "token": token}))
    ready.rename(folder / "server.json")
    await asyncio.Event().wait()


def _kubeconfig(url: str, ca: str, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": url, "certificate-authority": ca}}],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }


def fill(core: Core) -> None:
    """Put nodes, namespaces and running pods into the store, as their creators would have left them."""
    for number in range(NAMESPACES):
        core.store.put(
            "namespaces", _object("Namespace", {"name": f"team-{number}"}, number, status={"phase": "Active"})
        )
    for number in range(NODES):
        core.store.put("nodes", _node(number))
    for number in range(PODS):
        core.store.put("pods", _pod(number))


def _object(kind: str, meta: dict[str, Any], number: int, **rest: Any) -> dict[str, Any]:
    known = {"uid": f"00000000-0000-4000-8000-{number:012x}", "creationTimestamp": _STARTED}
    return {"apiVersion": "v1", "kind": kind, "metadata": {**meta, **known}, **rest}


def _condition(kind: str, status: str = "True", **more: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": _STARTED, **more}


def _pod(number: int) -> dict[str, Any]:
    app, node = f"app-{number // 3}", number % NODES
    labels: dict[str, Any] = {".": {}, f"f:{_LABEL}": {}, "f:pod-template-hash": {}}
    fields: dict[str, Any] = {
        "f:metadata": {"f:generateName": {}, "f:labels": labels, "f:ownerReferences": {".": {}}},
        "f:spec": {"f:containers": {"f:image": {}, "f:name": {}}, "f:restartPolicy": {}},
    }
    meta = {
        "name": f"{app}-5d4f6c7b8-{number:05x}", "generateName": f"{app}-5d4f6c7b8-",
        "namespace": f"team-{number % NAMESPACES}", "labels": {_LABEL: app, "pod-template-hash": "5d4f6c7b8"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-5d4f6c7b8",
                             "uid": f"00000000-0000-4000-9000-{number // 3:012x}", "controller": True,
                             "blockOwnerDeletion": True}],
        "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                           "time": _STARTED, "fieldsType": "FieldsV1", "fieldsV1": fields}],
    }  # fmt: skip
    return _object("Pod", meta, number, spec=_pod_spec(app, node), status=_pod_status(app, number, node))


def _pod_spec(app: str, node: int) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
             "successThreshold": 1, "failureThreshold": 3}  # fmt: skip
    token = {"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]}}  # fmt: skip
    mount = {"name": "kube-api-access", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    container = {
        "name": "main", "image": f"registry.example/{app}:1.2.3", "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": "TZ", "value": "UTC"}, {"name": "LOG_LEVEL", "value": "info"}],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": probe, "volumeMounts": [mount],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    }  # fmt: skip
    return {
        "nodeName": f"node-{node:03}", "serviceAccountName": "default", "serviceAccount": "default",
        "containers": [container], "volumes": [token], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30, "securityContext": {}, "schedulerName": "default-scheduler", "priority": 0,
        "enableServiceLinks": True, "preemptionPolicy": "PreemptLowerPriority",
        "tolerations": [{"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute",
                         "tolerationSeconds": 300} for why in ("not-ready", "unreachable")],
    }  # fmt: skip


def _pod_status(app: str, number: int, node: int) -> dict[str, Any]:
    image = f"registry.example/{app}"
    state = {
        "name": "main", "ready": True, "started": True, "restartCount": number % 3, "image": f"{image}:1.2.3",
        "imageID": f"{image}@sha256:{number:064x}", "containerID": f"containerd://{number:064x}",
        "state": {"running": {"startedAt": _STARTED}}, "lastState": {},
    }  # fmt: skip
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ip = f"10.42.{node % 250}.{number % 250}"
    return {
        "phase": "Running", "conditions": [_condition(kind) for kind in kinds], "containerStatuses": [state],
        "hostIP": _address(node), "podIP": ip, "podIPs": [{"ip": ip}], "startTime": _STARTED, "qosClass": "Burstable",
    }  # fmt: skip


def _address(node: int) -> str:
    return f"10.20.{node // 200}.{node % 200 + 10}"


def _node(number: int) -> dict[str, Any]:
    name = f"node-{number:03}"
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
              "topology.kubernetes.io/zone": f"host{number % 3 + 1}"}  # fmt: skip
    room = {"cpu": "4", "memory": "8123456Ki", "ephemeral-storage": "40511120Ki", "pods": "110"}
    kinds = (("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True"))
    info = {"architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.33.4+k3s1",
            "osImage": "Debian GNU/Linux 12 (bookworm)", "kernelVersion": "6.1.0-38-amd64",
            "containerRuntimeVersion": "containerd://2.0.5-k3s2", "machineID": f"{number:032x}",
            "systemUUID": f"{number:032x}", "bootID": f"{number:032x}", "kubeProxyVersion": ""}  # fmt: skip
    status = {
        "addresses": [{"type": "InternalIP", "address": _address(number)}, {"type": "Hostname", "address": name}],
        "capacity": room, "allocatable": room, "nodeInfo": info,
        "conditions": [_condition(kind, state, reason=f"Kubelet{kind}", message="kubelet is well",
                                  lastHeartbeatTime=_STARTED) for kind, state in kinds],
        "images": [{"names": [f"registry.example/app-{i}:1.2.3", f"registry.example/app-{i}@sha256:{i:064x}"],
                    "sizeBytes": 40_000_000 + i} for i in range(15)],
    }  # fmt: skip
    spec = {"podCIDR": f"10.42.{number % 250}.0/24"}
    return _object("Node", {"name": name, "labels": labels}, number, spec=spec, status=status)


if __name__ == "__main__":
    main()
