"""PodDisruptionBudgets: how many pods may be evicted right now."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Event, Object

from .framework import Controller
from .objects import (
    is_deleting,
    is_finished,
    is_ready,
    labels_of,
    matches,
    meta,
    name_of,
    namespace_of,
    owner_of,
    share,
    spec_of,
    status_of,
    with_condition,
)

FORGET_AFTER = 120.0
SCALABLE = {
    "ReplicaSet": "replicasets.apps",
    "Deployment": "deployments.apps",
    "StatefulSet": "statefulsets.apps",
    "ReplicationController": "replicationcontrollers",
}


class Budgets(Controller):
    """Count a budget's pods and write what may be disrupted."""

    name = "disruption-controller"
    watches = ("poddisruptionbudgets.policy", "pods", "deployments.apps", "statefulsets.apps", "replicasets.apps")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a pod to the budgets that select it, and a scaled owner to those of its namespace."""
        namespace = namespace_of(event.object)
        if event.resource == "poddisruptionbudgets.policy":
            return [(namespace, name_of(event.object))]
        budgets = self.api.list("poddisruptionbudgets.policy", namespace)
        if event.resource == "pods":
            labels = labels_of(event.object)
            budgets = [b for b in budgets if matches(spec_of(b).get("selector"), labels)]
        return [(namespace, name_of(b)) for b in budgets]

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Write the status of one budget."""
        namespace, name = key
        budget = self.api.get("poddisruptionbudgets.policy", name, namespace)
        if budget is None or is_deleting(budget):
            return None
        selector = spec_of(budget).get("selector")
        pods = [p for p in self.api.list("pods", namespace) if matches(selector, labels_of(p))]
        pods = [p for p in pods if not is_finished(p)]
        try:
            expected, desired = self._expected(budget, pods)
        except LookupError as error:
            self._fail(budget, str(error))
            return None
        return self._write(budget, pods, expected, desired)

    def _write(self, budget: Object, pods: list[Object], expected: int, desired: int) -> float | None:
        disrupted = self._disrupted(budget, pods)
        healthy = sum(is_ready(p) and not is_deleting(p) and name_of(p) not in disrupted for p in pods)
        allowed = max(0, healthy - desired) if expected > 0 else 0
        status: dict[str, Any] = {
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
            "expectedPods": expected,
            "observedGeneration": meta(budget).get("generation", 1),
            "conditions": self._condition(budget, allowed),
        }
        if disrupted:
            status["disruptedPods"] = disrupted
        if status != status_of(budget):
            self.api.update_status("poddisruptionbudgets.policy", {**budget, "status": status})
        waits = [FORGET_AFTER - self._noted_for(n, at) for n, at in disrupted.items()]
        return min(waits) if waits else None

    def _condition(self, budget: Object, allowed: int) -> list[dict[str, Any]]:
        old, now = status_of(budget).get("conditions"), self.now()
        return with_condition(
            old,
            "DisruptionAllowed",
            "True" if allowed else "False",
            now,
            reason="SufficientPods" if allowed else "InsufficientPods",
            message="",
            observedGeneration=meta(budget).get("generation", 1),
        )

    def _disrupted(self, budget: Object, pods: list[Object]) -> dict[str, str]:
        """Keep the evictions that the API server noted, until their pods go or two minutes have passed."""
        alive = {name_of(p) for p in pods if not is_deleting(p)}
        noted = status_of(budget).get("disruptedPods") or {}
        return {n: at for n, at in noted.items() if n in alive and self._noted_for(n, at) < FORGET_AFTER}

    def _noted_for(self, name: str, at: str) -> float:
        return self.ages.of(("disrupted", name), at, date=at)

    def _expected(self, budget: Object, pods: list[Object]) -> tuple[int, int]:
        """Return expected pods and desired healthy ones; raise LookupError when a pod has no scale."""
        spec = spec_of(budget)
        if spec.get("maxUnavailable") is not None:
            whole = self._scale(pods)
            return whole, max(0, whole - share(spec["maxUnavailable"], whole, up=True))
        least = spec.get("minAvailable", 0)
        if isinstance(least, int):
            return len(pods), least
        whole = self._scale(pods)
        return whole, share(least, whole, up=True)

    def _scale(self, pods: list[Object]) -> int:
        """Add up the replicas that the controllers of the pods ask for."""
        found: dict[str, int] = {}
        for pod in pods:
            owner = self._top(pod)
            if owner is None:
                raise LookupError(f'found no controllers for pod "{name_of(pod)}"')
            found[meta(owner)["uid"]] = int(spec_of(owner).get("replicas", 1))
        return sum(found.values())

    def _top(self, obj: Object) -> Object | None:
        """Return the Deployment, StatefulSet or ReplicaSet at the top of an object's owners."""
        owner = None
        ref = owner_of(obj)
        while ref is not None and ref["kind"] in SCALABLE:
            found = self.api.get(SCALABLE[ref["kind"]], ref["name"], namespace_of(obj))
            if found is None:
                break
            owner, ref = found, owner_of(found)
        return owner

    def _fail(self, budget: Object, message: str) -> None:
        """Say that the budget cannot be computed; nothing may be evicted then."""
        old = status_of(budget)
        conditions = with_condition(
            old.get("conditions"), "DisruptionAllowed", "False", self.now(), reason="SyncFailed", message=message,
            observedGeneration=meta(budget).get("generation", 1),
        )  # fmt: skip
        zeros = {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}
        status = {**zeros, **old, "disruptionsAllowed": 0, "conditions": conditions}
        if status != old:
            self.events.warning(budget, "CalculateExpectedPodCountFailed", message)
            self.api.update_status("poddisruptionbudgets.policy", {**budget, "status": status})
