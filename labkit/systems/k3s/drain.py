"""Take a node out and back: cordon with a mark, drain by evictions that respect every budget, uncordon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.kubernetes import CORDONED_BY
from labkit.systems.access import Access, Step
from labkit.systems.kubernetes import Cluster, KubeError

DRAIN_DEADLINE = 900.0
"""Lab seconds until all pods have left; a budget of Longhorn may hold one for some minutes."""


def node_path(name: str) -> str:
    """Return the path of a node in the API."""
    return f"/api/v1/nodes/{name}"


def cordon(cluster: Cluster, name: str, runbook: str) -> None:
    """Keep new pods from a node, marked as this runbook's doing; a person's own cordon stays unmarked."""
    node = cluster.get(node_path(name))
    if not (node.get("spec") or {}).get("unschedulable"):
        mark = {"metadata": {"annotations": {CORDONED_BY: runbook}}, "spec": {"unschedulable": True}}
        cluster.patch(node_path(name), mark)


def uncordon(cluster: Cluster, name: str, *, marks: Mapping[str, str | None] | None = None) -> bool:
    """Let pods come to a node again, unless a person cordoned it; return whether they may.

    Args:
        cluster: whose node.
        name: the node.
        marks: annotations that change in the same moment; None removes one.
    """
    node = cluster.get(node_path(name))
    annotations: dict[str, str | None] = dict(marks or {})
    ours = CORDONED_BY in (node["metadata"].get("annotations") or {})
    body: dict[str, Any] = {"metadata": {"annotations": {CORDONED_BY: None, **annotations}}}
    if ours:
        body["spec"] = {"unschedulable": None}
    cluster.patch(node_path(name), body)
    return ours or not (node.get("spec") or {}).get("unschedulable")


def drain(access: Access, cluster: Cluster, name: str, step: Step, *, deadline: float = DRAIN_DEADLINE) -> int:
    """Move every pod off a cordoned node; return how many there were. Data in emptyDir volumes is given up.

    Raises:
        StepFailed: pods are left at the deadline; names each with the budget that holds it. Or a pod has no
            controller: nobody would make it anew.
    """
    pods = moving_pods(cluster, name)
    bare = [_name(pod) for pod in pods if not _controller(pod)]
    if bare:
        raise StepFailed(
            f"node {name}: expected pods with a controller that makes them anew, got {', '.join(bare)}",
            next_step="delete them yourself, or give them a Deployment; then run again",
        )
    held: dict[str, str] = {}
    left = [len(pods)]
    step.say(f"drains {len(pods)} pods")

    def probe() -> bool | None:
        held.clear()
        now = moving_pods(cluster, name)
        for pod in now:
            if "deletionTimestamp" not in pod["metadata"] and (why := _evict(cluster, pod)):
                held[_name(pod)] = why
        if len(now) != left[0]:
            left[0] = len(now)
            step.say(f"drains: {len(now)} pods left")
        return None if now else True

    access.wait(
        probe,
        what=f"node {name}: drained",
        deadline=deadline,
        every=2.0,
        last=lambda: "; ".join(f"{pod} is held by {why}" for pod, why in sorted(held.items())) or f"{left[0]} pods end",
        causes="make the application whole again (all replicas ready), or look at its budget; then run again: "
        "the node stays cordoned until then",
    )
    return len(pods)


def moving_pods(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    """Return the pods of a node that a drain has to move."""
    found = cluster.items("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")
    return [pod for pod in found if _moves(pod)]


def _moves(pod: Mapping[str, Any]) -> bool:
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not ended and _controller(pod) not in ("DaemonSet", "Node")


def _controller(pod: Mapping[str, Any]) -> str:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(owner["kind"]) for owner in owners if owner.get("controller")), "")


def _name(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _evict(cluster: Cluster, pod: Mapping[str, Any]) -> str:
    """Ask for an eviction; return what forbids it now, empty when it goes or is gone."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
    }
    try:
        cluster.post(f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body, again=True)
    except KubeError as exc:
        if exc.status in (404, 409):
            return ""
        if exc.status != 429 and exc.status < 500:
            raise
        causes = [str(cause.get("message")) for cause in exc.causes if cause.get("message")]
        return "; ".join(causes) or exc.said
    return ""
