"""ReplicaSets: as many pods as asked for."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import ApiError, Event, Object

from .framework import Controller
from .objects import (
    annotations_of,
    is_active,
    is_deleting,
    is_ready,
    labels_of,
    matches,
    meta,
    name_of,
    owner_key,
    owner_of,
    owner_reference,
    pod_from,
    spec_of,
    status_of,
    uid_of,
    unstamp,
    with_condition,
    without_zeros,
)  # fmt: skip

BURST = 500
PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class ReplicaSets(Controller):
    """Make, adopt and remove pods until a ReplicaSet has as many as it asks for; write its status."""

    name = "replicaset-controller"
    watches = ("replicasets.apps", "pods")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a pod to its ReplicaSet, or an orphan to those that select it."""
        if event.resource == "replicasets.apps":
            return [(meta(event.object)["namespace"], name_of(event.object))]
        if owner_of(event.object) or event.type == "DELETED":
            return owner_key(event.object, "ReplicaSet")
        return self._selecting(event.object)

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Bring one ReplicaSet to its number of pods."""
        namespace, name = key
        owner = self.api.get("replicasets.apps", name, namespace)
        if owner is None:
            return None
        pods = self._pods(owner)
        failure = None if is_deleting(owner) else self._scale(owner, [p for p in pods if is_active(p)])
        after = self._write_status(owner, self._pods(owner), failure)
        if failure is not None:
            raise failure
        return after

    def _selecting(self, pod: Object) -> list[tuple[str, str]]:
        namespace = meta(pod)["namespace"]
        sets = self.api.list("replicasets.apps", namespace)
        return [(namespace, name_of(s)) for s in sets if matches(spec_of(s).get("selector"), labels_of(pod))]

    def _pods(self, owner: Object) -> list[Object]:
        """Return the pods of a set; an orphan that it selects is adopted."""
        namespace, selector = meta(owner)["namespace"], spec_of(owner)["selector"]
        found = []
        for pod in self.api.list("pods", namespace, selector.get("matchLabels")):
            ref = owner_of(pod)
            if ref is not None and ref["uid"] == uid_of(owner):
                found.append(pod)
            elif ref is None and not is_deleting(owner) and is_active(pod) and matches(selector, labels_of(pod)):
                refs = [*(meta(pod).get("ownerReferences") or []), owner_reference(owner)]
                found.append(self.api.patch("pods", name_of(pod), {"metadata": {"ownerReferences": refs}}, namespace))
        return found

    def _scale(self, owner: Object, pods: list[Object]) -> ApiError | None:
        wanted = int(spec_of(owner).get("replicas", 1))
        try:
            for _ in range(min(BURST, wanted - len(pods))):
                self._create(owner)
            if len(pods) > wanted:
                self._remove(owner, pods, len(pods) - wanted)
        except ApiError as error:
            return error
        return None

    def _create(self, owner: Object) -> None:
        pod = pod_from(spec_of(owner)["template"], owner, generateName=f"{name_of(owner)}-")
        try:
            made = self.api.create("pods", pod)
        except ApiError as error:
            self.events.warning(owner, "FailedCreate", f"Error creating: {error}")
            raise
        self.events.normal(owner, "SuccessfulCreate", f"Created pod: {name_of(made)}")

    def _remove(self, owner: Object, pods: list[Object], count: int) -> None:
        nodes = [spec_of(p).get("nodeName", "") for p in pods]
        for pod in sorted(pods, key=lambda p: removal_rank(p, nodes))[:count]:
            self.api.delete("pods", name_of(pod), meta(pod)["namespace"])
            self.events.normal(owner, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    def _write_status(self, owner: Object, pods: list[Object], failure: ApiError | None) -> float | None:
        """Write what the pods amount to; return when a ready one will count as available."""
        active = [p for p in pods if is_active(p)]
        waits = [self.available_in(p, spec_of(owner).get("minReadySeconds", 0)) for p in active]
        template = labels_of(spec_of(owner)["template"])
        status: dict[str, Any] = without_zeros(
            {
                "replicas": len(active),
                "fullyLabeledReplicas": sum(template.items() <= labels_of(p).items() for p in active),
                "readyReplicas": sum(is_ready(p) for p in active),
                "availableReplicas": sum(w == 0 for w in waits),
                "terminatingReplicas": sum(is_deleting(p) for p in pods),
                "observedGeneration": meta(owner).get("generation", 1),
                "conditions": self._conditions(owner, failure),
            },
            keep=("replicas", "terminatingReplicas"),
        )
        if status != status_of(owner):
            self.api.update_status("replicasets.apps", {**owner, "status": status})
        later = [w for w in waits if w]
        return min(later) if later else None

    def _conditions(self, owner: Object, failure: ApiError | None) -> list[dict[str, Any]]:
        old = [c for c in status_of(owner).get("conditions") or [] if c["type"] != "ReplicaFailure"]
        if failure is None:
            return old
        before = status_of(owner).get("conditions")
        return with_condition(before, "ReplicaFailure", "True", self.now(), reason="FailedCreate", message=str(failure))


def removal_rank(pod: Object, nodes: list[str]) -> tuple[Any, ...]:
    """Order pods by how readily they are removed: unassigned, pending, not ready, crowded and young ones first."""
    node = spec_of(pod).get("nodeName", "")
    return (
        bool(node),
        PHASES.get(status_of(pod).get("phase", "Pending"), 0),
        is_ready(pod),
        int(annotations_of(pod).get(DELETION_COST, "0")),
        -nodes.count(node),
        -unstamp(meta(pod).get("creationTimestamp")),
        name_of(pod),
    )
