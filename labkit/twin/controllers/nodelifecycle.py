"""Node life: silent nodes become Unknown, conditions become taints, taints evict, gone nodes lose their pods."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Api, Clock, Event, Object

from .fit import tolerates
from .framework import Controller
from .node import LEASE_NAMESPACE, LEASES
from .objects import (
    annotations_of,
    condition,
    is_deleting,
    is_finished,
    is_true,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
    with_condition,
)

GRACE = 40.0
TTL = "node.alpha.kubernetes.io/ttl"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
CORDONED = "node.kubernetes.io/unschedulable"
PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
MANAGED = {NOT_READY, UNREACHABLE, CORDONED, *PRESSURES.values()}
KUBELET_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
SILENT = "Kubelet stopped posting node status."
NEVER = "Kubelet never posted node status."
LATE = 5.0


class NodeLife(Controller):
    """Watch each node's Lease; set its conditions and taints, and make its pods not ready."""

    name = "node-controller"
    watches = ("nodes", LEASES)

    def __init__(self, api: Api, clock: Clock) -> None:
        super().__init__(api, clock)
        self._seen: dict[str, tuple[Any, float]] = {}
        self._due: dict[str, float] = {}

    def keys(self, event: Event) -> list[str]:
        """Map a Lease to its node."""
        obj = event.object
        if event.resource == LEASES:
            return [name_of(obj)] if namespace_of(obj) == LEASE_NAMESPACE else []
        if event.type == "DELETED":
            self._seen.pop(name_of(obj), None)
            self._due.pop(name_of(obj), None)
        return [name_of(obj)]

    def reconcile(self, key: str) -> float | None:
        """Look at one node; return when its silence will be long enough."""
        node = self.api.get("nodes", key)
        if node is None:
            return None
        left = self._last_sign(node) + GRACE - self.time()
        if left <= 0 and self._was_held_up(key):
            left = GRACE / 4
        if left <= 0:
            node = self._silence(node)
        self._taint(node)
        ready = condition(node, "Ready")
        if ready is not None and ready["status"] != "True":
            self._pods_not_ready(node)
        if left > 0:
            self._due[key] = self.time() + left
        return left if left > 0 else None

    def _last_sign(self, node: Object) -> float:
        """Return the twin time at which the node's Lease or heartbeat was last seen to change."""
        lease = self.api.get(LEASES, name_of(node), LEASE_NAMESPACE)
        ready = condition(node, "Ready") or {}
        posted = None if ready.get("reason") == "NodeStatusUnknown" else ready.get("lastHeartbeatTime")
        sign = (spec_of(lease or {}).get("renewTime"), posted, uid_of(node))
        seen = self._seen.get(name_of(node))
        if seen is None or (seen[0] != sign and posted is not None) or seen[0][2] != sign[2]:
            self._seen[name_of(node)] = (sign, self.time())
        return self._seen[name_of(node)][1]

    def _was_held_up(self, name: str) -> bool:
        """Tell whether this process came late to its own appointment: then the node gets more time."""
        due = self._due.pop(name, None)
        return due is not None and self.time() - due > LATE

    def _silence(self, node: Object) -> Object:
        """Set the conditions that only a kubelet can know to Unknown."""
        ready = condition(node, "Ready")
        if ready is not None and ready["status"] == "Unknown":
            return node
        found, now = status_of(node).get("conditions"), self.now()
        for kind in KUBELET_CONDITIONS:
            old = condition(node, kind)
            reason, text = ("NodeStatusUnknown", SILENT) if old else ("NodeStatusNeverUpdated", NEVER)
            beat = (old or {}).get("lastHeartbeatTime", now)
            found = with_condition(found, kind, "Unknown", now, reason=reason, message=text, lastHeartbeatTime=beat)
        self.events.normal(node, "NodeNotReady", f"Node {name_of(node)} status is now: NodeNotReady")
        return self.api.patch("nodes", name_of(node), {"status": {"conditions": found}}, subresource="status")

    def _taint(self, node: Object) -> None:
        """Make the taints of the node follow its conditions and its cordon."""
        old = spec_of(node).get("taints") or []
        wanted = wanted_taints(node)
        kept = [t for t in old if t["key"] not in MANAGED or (t["key"], t["effect"]) in wanted]
        have = {(t["key"], t["effect"]) for t in kept}
        new = [{"key": k, "effect": e, "timeAdded": self.now()} for k, e in wanted if (k, e) not in have]
        patch: dict[str, Any] = {}
        if new or len(kept) != len(old):
            patch["spec"] = {"taints": [*kept, *new] or None}
        if TTL not in annotations_of(node):
            patch["metadata"] = {"annotations": {TTL: "0"}}
        if patch:
            self.api.patch("nodes", name_of(node), patch)

    def _pods_not_ready(self, node: Object) -> None:
        """Set Ready to False on the pods of a node that is not ready; the rest of their status stays."""
        for pod in self.api.list("pods"):
            if spec_of(pod).get("nodeName") != name_of(node) or not is_true(pod, "Ready"):
                continue
            found = [dict(c) for c in status_of(pod)["conditions"]]
            for one in found:
                if one["type"] == "Ready":
                    one |= {"status": "False", "lastTransitionTime": self.now()}
            patch = {"status": {"conditions": found}}
            self.api.patch("pods", name_of(pod), patch, namespace_of(pod), subresource="status")
            self.events.warning(pod, "NodeNotReady", "Node is not ready")


def wanted_taints(node: Object) -> list[tuple[str, str]]:
    """Return the (key, effect) of the taints that a node should have by its conditions and cordon."""
    found = []
    ready = condition(node, "Ready")
    if ready is not None and ready["status"] == "Unknown":
        found += [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]
    elif ready is not None and ready["status"] == "False":
        found += [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]
    elif ready is None:
        found += [(NOT_READY, "NoSchedule")]
    if spec_of(node).get("unschedulable"):
        found.append((CORDONED, "NoSchedule"))
    return found + [(key, "NoSchedule") for kind, key in PRESSURES.items() if is_true(node, kind)]


class TaintEviction(Controller):
    """Delete pods from nodes with NoExecute taints, each after the seconds that it tolerates them."""

    name = "taint-eviction-controller"
    watches = ("nodes", "pods")

    def __init__(self, api: Api, clock: Clock) -> None:
        super().__init__(api, clock)
        self._since: dict[tuple[str, str], float] = {}
        self._tainted: set[str] = set()

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a node whose NoExecute taints come or go to its pods."""
        obj = event.object
        if event.resource == "pods":
            node = spec_of(obj).get("nodeName")
            return [(namespace_of(obj), name_of(obj))] if node in self._tainted else []
        name, tainted = name_of(obj), bool(no_execute(obj)) and event.type != "DELETED"
        if not tainted and name not in self._tainted:
            return []
        (self._tainted.add if tainted else self._tainted.discard)(name)
        pods = self.api.list("pods")
        return [(namespace_of(p), name_of(p)) for p in pods if spec_of(p).get("nodeName") == name]

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Delete one pod when its time is up, or return how long it has."""
        pod = self.api.get("pods", key[1], key[0])
        node = self.api.get("nodes", spec_of(pod or {}).get("nodeName", ""))
        taints = no_execute(node) if node is not None else []
        if pod is None or is_deleting(pod) or is_finished(pod) or not taints:
            self._since.pop(key, None)
            return None
        seconds = tolerated_for(pod, taints)
        if seconds is None:
            return None
        since = self._since.setdefault(key, self.time())
        left = since + seconds - self.time()
        if left > 0:
            return left
        self._since.pop(key, None)
        self._evict(pod)
        return None

    def _evict(self, pod: Object) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        self.events.normal(pod, "TaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        disrupt(self, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
        self.api.delete("pods", name, namespace)


def disrupt(controller: Controller, pod: Object, reason: str, message: str, **status: Any) -> None:
    """Set the condition DisruptionTarget, and further fields of the status."""
    now, found = controller.now(), status_of(pod).get("conditions")
    found = with_condition(found, "DisruptionTarget", "True", now, reason=reason, message=message)
    patch = {"status": {**status, "conditions": found}}
    controller.api.patch("pods", name_of(pod), patch, namespace_of(pod), subresource="status")


def no_execute(node: Object) -> list[dict[str, Any]]:
    """Return the NoExecute taints of a node."""
    return [t for t in spec_of(node).get("taints") or [] if t.get("effect") == "NoExecute"]


def tolerated_for(pod: Object, taints: list[dict[str, Any]]) -> float | None:
    """Return how long a pod tolerates all these taints: None for ever, 0 when one is not tolerated."""
    shortest: float | None = None
    for taint in taints:
        fitting = [t for t in spec_of(pod).get("tolerations") or [] if tolerates(t, taint)]
        if not fitting:
            return 0.0
        limits = [float(t["tolerationSeconds"]) for t in fitting if t.get("tolerationSeconds") is not None]
        if limits:
            shortest = min([*limits, *([] if shortest is None else [shortest])])
    return None if shortest is None else max(0.0, shortest)


class PodCollector(Controller):
    """Remove pods whose node is gone, 40 s after it went, as the real pod garbage collector does."""

    name = "pod-garbage-collector"
    watches = ("nodes", "pods")

    def __init__(self, api: Api, clock: Clock) -> None:
        super().__init__(api, clock)
        self._gone: dict[str, float] = {}

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a node that went to its pods; a pod on a node that is not there to itself."""
        obj = event.object
        if event.resource == "pods":
            node = spec_of(obj).get("nodeName")
            orphan = node and event.type != "DELETED" and self.api.get("nodes", node) is None
            return [(namespace_of(obj), name_of(obj))] if orphan else []
        if event.type != "DELETED":
            self._gone.pop(name_of(obj), None)
            return []
        self._gone[name_of(obj)] = self.time()
        pods = self.api.list("pods")
        return [(namespace_of(p), name_of(p)) for p in pods if spec_of(p).get("nodeName") == name_of(obj)]

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Remove one orphaned pod when its quarantine is over."""
        pod = self.api.get("pods", key[1], key[0])
        node = spec_of(pod or {}).get("nodeName")
        if pod is None or not node or self.api.get("nodes", node) is not None:
            return None
        left = self._gone.setdefault(node, self.time()) + GRACE - self.time()
        if left > 0:
            return left
        if not is_finished(pod):
            disrupt(self, pod, "DeletionByPodGC", "PodGC: node no longer exists", phase="Failed")
        self.api.delete("pods", key[1], key[0], grace=0)
        return None
