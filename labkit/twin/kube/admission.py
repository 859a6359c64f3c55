"""What the server itself adds to a new object: addresses, finalizers, tolerations, selectors."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

from labkit.twin.kube.clock import stamp
from labkit.twin.kube.door import Clock, Object
from labkit.twin.kube.store import Store

LETTERS = "bcdfghjklmnpqrstvwxz2456789"
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_PRIORITIES = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


class Admission:
    """Complete objects on their way in; one instance per server.

    Args:
        store: looked at for addresses in use, priority and storage classes.
        dice: source of generated names and ports.
        service_cidr: the network of cluster addresses.
    """

    def __init__(self, store: Store, dice: random.Random, clock: Clock, service_cidr: str) -> None:
        self.store = store
        self.dice = dice
        self.clock = clock
        self.network = IPv4Network(service_cidr)
        self._next_address = 10
        self._create: dict[str, Callable[[Object], None]] = {
            "namespaces": self._namespace,
            "nodes": self._node,
            "pods": self._pod,
            "persistentvolumes": self._volume,
            "persistentvolumeclaims": self._claim,
            "services": self.service,
            "jobs.batch": self._job,
        }

    def complete(self, key: str, obj: Object) -> None:
        """Complete a new object in place."""
        found = self._create.get(key)
        if found:
            found(obj)

    def suffix(self, length: int = 5) -> str:
        """Return random letters for a generated name."""
        return "".join(self.dice.choice(LETTERS) for _ in range(length))

    def _namespace(self, obj: Object) -> None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}

    def _node(self, obj: Object) -> None:
        taints = obj["spec"].setdefault("taints", [])
        if not any(t.get("key") == NOT_READY["key"] and t.get("effect") == "NoSchedule" for t in taints):
            taints.append(dict(NOT_READY))

    def _volume(self, obj: Object) -> None:
        _finalize(obj, "kubernetes.io/pv-protection")
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": stamp(self.clock.now())}

    def _claim(self, obj: Object) -> None:
        _finalize(obj, "kubernetes.io/pvc-protection")
        obj["status"] = {"phase": "Pending"}
        if "storageClassName" not in obj["spec"]:
            for record in self.store.shelf("storageclasses.storage.k8s.io").select():
                if record.meta.get("annotations", {}).get(_DEFAULT_CLASS) == "true":
                    obj["spec"]["storageClassName"] = record.meta["name"]

    def _job(self, obj: Object) -> None:
        spec, meta = obj["spec"], obj["metadata"]
        if spec.get("manualSelector"):
            return
        new = {"batch.kubernetes.io/controller-uid": meta["uid"]}
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        labels.update(
            new
            | {
                "batch.kubernetes.io/job-name": meta["name"],
                "controller-uid": meta["uid"],
                "job-name": meta["name"],
            }
        )
        spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(new)

    def _pod(self, obj: Object) -> None:
        spec = obj["spec"]
        spec.setdefault("serviceAccountName", "default")
        spec["serviceAccount"] = spec["serviceAccountName"]
        self._priority(spec)
        tolerations = spec.setdefault("tolerations", [])
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            if not any(_tolerates(t, key) for t in tolerations):
                tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        if spec.get("automountServiceAccountToken", True):
            self._token(spec)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}

    def _priority(self, spec: Object) -> None:
        name = spec.get("priorityClassName", "")
        record = self.store.get("priorityclasses.scheduling.k8s.io", "", name) if name else None
        spec["priority"] = record.object["value"] if record else _PRIORITIES.get(name, 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def _token(self, spec: Object) -> None:
        """Mount the service account's token, as every pod in a real cluster has it."""
        place = "/var/run/secrets/kubernetes.io/serviceaccount"
        name = f"kube-api-access-{self.suffix()}"
        mounted = False
        for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
            mounts = container.setdefault("volumeMounts", [])
            if all(mount.get("mountPath") != place for mount in mounts):
                mounts.append({"name": name, "readOnly": True, "mountPath": place})
                mounted = True
        if mounted:
            spec.setdefault("volumes", []).append({"name": name, "projected": _token_sources()})

    def service(self, obj: Object, old: Object | None = None) -> None:
        """Give a service its cluster address and node ports; those that it had are kept."""
        spec = obj["spec"]
        had = old["spec"] if old else {}
        if spec["type"] == "ExternalName":
            for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(key, None)
            return
        if not spec.get("clusterIP"):
            spec["clusterIP"] = had.get("clusterIP") or self._address()
        spec["clusterIPs"] = [spec["clusterIP"]]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec["type"] in ("NodePort", "LoadBalancer") and spec.get("allocateLoadBalancerNodePorts", True):
            self._node_ports(spec, had)

    def _node_ports(self, spec: Object, had: Object) -> None:
        before = {(p.get("port"), p.get("protocol")): p.get("nodePort") for p in had.get("ports", ())}
        for port in spec.get("ports", ()):
            if not port.get("nodePort"):
                known = before.get((port.get("port"), port.get("protocol")))
                port["nodePort"] = known or self._free_port()

    def _free_port(self) -> int:
        used = {
            port.get("nodePort")
            for record in self.store.shelf("services").select()
            for port in record.object["spec"].get("ports", ())
        }
        while (port := self.dice.randint(30000, 32767)) in used:
            pass
        return port

    def _address(self) -> str:
        used = {record.object["spec"].get("clusterIP") for record in self.store.shelf("services").select()}
        while True:
            self._next_address = (self._next_address + 1) % (self.network.num_addresses - 1) or 11
            address = str(self.network[self._next_address])
            if address not in used:
                return address


def _finalize(obj: Object, name: str) -> None:
    finalizers = obj["metadata"].setdefault("finalizers", [])
    if name not in finalizers:
        finalizers.append(name)


def _tolerates(toleration: Object, key: str) -> bool:
    effect = toleration.get("effect", "")
    return effect in ("", "NoExecute") and toleration.get("key", "") in ("", key)


def _token_sources() -> Object:
    item = {"key": "ca.crt", "path": "ca.crt"}
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [item]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
        "defaultMode": 420,
    }


def qos_class(spec: Object) -> str:
    """Return the quality of service that a pod's requests and limits give it."""
    containers = [*spec.get("containers", ()), *spec.get("initContainers", ())]
    some = any(c.get("resources", {}).get(k) for c in containers for k in ("limits", "requests"))
    if not some:
        return "BestEffort"
    return "Guaranteed" if all(_guaranteed(c.get("resources", {})) for c in containers) else "Burstable"


def _guaranteed(resources: dict[str, Any]) -> bool:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    return all(limits.get(k) and requests.get(k, limits[k]) == limits[k] for k in ("cpu", "memory"))
