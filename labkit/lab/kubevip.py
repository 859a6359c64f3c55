"""kube-vip, which serves the virtual address of the API: its manifest as labkit wants it. Pure.

One manifest for all servers: k3s applies the file of every server, and files that differ would take turns. So the
interface is named only when all servers call it alike; kube-vip looks for the one with the default route else.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from labkit.lab.k3sconfig import API_PORT
from labkit.lab.models import Lab

NONE = "none"
"""What `k3s.kube_vip` says when someone else serves the virtual address."""

NAME = "kube-vip"
NAMESPACE = "kube-system"
_IMAGE = "ghcr.io/kube-vip/kube-vip"
_ROLE = "system:kube-vip-role"
_KEPT = "# Kept by labkit: change network.vip and k3s.kube_vip in the lab file, not this file.\n"
_SERVER_LABEL = "node-role.kubernetes.io/control-plane"


def deploys_kube_vip(lab: Lab) -> bool:
    """Whether labkit is to serve the virtual address of the lab."""
    return lab.network.vip is not None and lab.k3s.kube_vip != NONE


def render_kube_vip(address: str, version: str, interface: str = "") -> str:
    """Return the manifest: who kube-vip is, what it may do, and a DaemonSet on the servers.

    Args:
        address: the virtual address.
        version: the tag of the image, `v0.8.9`.
        interface: the network interface that takes the address; the one with the default route when empty.
    """
    stream = io.StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump_all(manifest(address, version, interface), stream)
    return _KEPT + stream.getvalue()


def manifest(address: str, version: str, interface: str = "") -> list[dict[str, Any]]:
    """Return the objects of the manifest, in the order in which they are needed."""
    meta = {"name": NAME, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": dict(meta)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": _ROLE},
            "rules": _rules(),
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:kube-vip-binding"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _ROLE},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {**meta, "labels": _labels()},
            "spec": {
                "selector": {"matchLabels": _labels()},
                "template": {"metadata": {"labels": _labels()}, "spec": _pod(address, version, interface)},
            },
        },
    ]


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/name": NAME}


def _rules() -> list[dict[str, list[str]]]:
    """What kube-vip does: it elects a leader with a Lease, and looks at nodes, services and their endpoints."""
    read = ["get", "list", "watch"]
    return [
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["services", "endpoints"], "verbs": [*read, "update"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": [*read, "update", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": [*read, "create", "update"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": [*read, "update"]},
    ]


def _pod(address: str, version: str, interface: str) -> dict[str, Any]:
    return {
        "serviceAccountName": NAME,
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": _SERVER_LABEL, "operator": "Exists"}]}]
                }
            }
        },
        "tolerations": [{"operator": "Exists", "effect": effect} for effect in ("NoSchedule", "NoExecute")],
        "containers": [
            {
                "name": NAME,
                "image": f"{_IMAGE}:{version}",
                "imagePullPolicy": "IfNotPresent",
                "args": ["manager"],
                "env": _environment(address, interface),
                "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
            }
        ],
    }


def _environment(address: str, interface: str) -> list[dict[str, Any]]:
    """The control plane's address by ARP, no services: load balancers are MetalLB's."""
    values = {
        "address": address,
        "port": str(API_PORT),
        "vip_interface": interface,
        "vip_cidr": "32",  # up to v0.8
        "vip_subnet": "32",  # from v0.9
        "vip_arp": "true",
        "cp_enable": "true",
        "cp_namespace": NAMESPACE,
        "svc_enable": "false",
        "vip_leaderelection": "true",
        "vip_leasename": "plndr-cp-lock",
        "vip_leaseduration": "5",
        "vip_renewdeadline": "3",
        "vip_retryperiod": "1",
    }
    node = {"name": "vip_nodename", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    return [*({"name": name, "value": value} for name, value in values.items() if value), node]


def digest(objects: Iterable[JsonValue]) -> str:
    """Return a short name for the meaning of a manifest, however it is written."""
    text = json.dumps(list(objects), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_kube_vip(text: str) -> dict[str, str]:
    """Return the address, interface, version and digest of a manifest; empty texts for what is not in it."""
    try:
        objects = [item for item in YAML(typ="safe", pure=True).load_all(text) if item]
    except YAMLError:
        objects = []
    container = next((found for item in objects if (found := _container(item))), {})
    environment = {e.get("name"): str(e.get("value") or "") for e in container.get("env") or ()}
    return {
        "address": environment.get("address", ""),
        "interface": environment.get("vip_interface", ""),
        "version": str(container.get("image") or "").rpartition(":")[2],
        "digest": digest(objects),
    }


def _container(item: Any) -> Mapping[str, Any]:
    """The container of kube-vip in an object of a manifest that anyone may have written."""
    try:
        containers = item["spec"]["template"]["spec"]["containers"]
        return next((c for c in containers if "kube-vip" in str(c.get("image"))), {})
    except (KeyError, TypeError, AttributeError):
        return {}
