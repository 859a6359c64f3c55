"""Evicting a pod against the budgets that cover it."""

from __future__ import annotations

from labkit.twin.kube import status
from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.deletion import delete
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.options import DeleteOptions
from labkit.twin.kube.selectors import selector_matches
from labkit.twin.kube.store import Record

BUDGETS = "poddisruptionbudgets.policy"


def evict(core: Core, namespace: str, name: str, body: Object) -> None:
    """Delete a pod when its budget allows it.

    Raises:
        ApiError: there is no such pod (404), or a budget forbids it (429).
    """
    pods = core.resource("pods")
    pod = core.get(pods, namespace, name)
    options = DeleteOptions.read(body.get("deleteOptions"), {})
    if not _is_free(pod):
        _spend(core, namespace, pod, options)
    delete(core, pods, pod, options)


def _is_free(pod: Record) -> bool:
    """Whether a pod counts for no budget: it has ended, never started, or is on its way out."""
    phase = pod.object.get("status", {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(pod.meta.get("deletionTimestamp"))


def _spend(core: Core, namespace: str, pod: Record, options: DeleteOptions) -> None:
    labels = pod.meta.get("labels", {})
    records = core.store.shelf(BUDGETS).select(namespace)
    found = [r for r in records if selector_matches(r.object["spec"].get("selector"), labels)]
    if len(found) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise status.failure(500, "InternalError", text)
    if not found or (not _is_ready(pod) and _lets_unready_go(found[0])):
        return
    budget = clone(found[0].object)
    state = budget.setdefault("status", {})
    if state.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        name = budget["metadata"]["name"]
        raise _too_many(f"The disruption budget {name} is still being processed by the server.")
    if state.get("disruptionsAllowed", 0) <= 0:
        raise _too_many(_needs(budget))
    if not options.dry_run:
        state["disruptionsAllowed"] -= 1
        state.setdefault("disruptedPods", {})[pod.meta["name"]] = core.now()
        core.store.put(BUDGETS, budget)


def _needs(budget: Object) -> str:
    name, state = budget["metadata"]["name"], budget["status"]
    wanted, has = state.get("desiredHealthy", 0), state.get("currentHealthy", 0)
    return f"The disruption budget {name} needs {wanted} healthy pods and has {has} currently"


def _is_ready(pod: Record) -> bool:
    conditions = pod.object.get("status", {}).get("conditions", ())
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _lets_unready_go(budget: Record) -> bool:
    spec, state = budget.object["spec"], budget.object.get("status", {})
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    enough = bool(state.get("currentHealthy", 0) >= state.get("desiredHealthy", 0))
    return enough and state.get("desiredHealthy", 0) > 0


def _too_many(why: str) -> ApiError:
    text = "Cannot evict pod as it would violate the pod's disruption budget."
    cause = {"reason": "DisruptionBudget", "message": why}
    return status.failure(429, "TooManyRequests", text, {"causes": [cause]})
