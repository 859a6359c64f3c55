"""The scheduler: pods without a node go to one that fits, or say why none does."""

from __future__ import annotations

from collections import Counter

from labkit.twin.kube.door import Api, ApiError, Event, Object

from .fit import UNRESOLVABLE, VOLUME_NODE, Place, preference, reason_against
from .framework import Controller
from .objects import (
    annotations_of,
    condition,
    is_deleting,
    is_finished,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_of,
    quantity,
    spec_of,
    status_of,
    uid_of,
    unstamp,
    with_condition,
)
from .volume_rules import claims_of, is_late, pv_allows

SELECTED_NODE = "volume.kubernetes.io/selected-node"
SCHEDULER = "default-scheduler"


class Scheduler(Controller):
    """Bind pending pods; all of them are looked at together, so that nodes are counted once."""

    name = SCHEDULER
    watches = (
        "pods",
        "nodes",
        "persistentvolumeclaims",
        "persistentvolumes",
        "storageclasses.storage.k8s.io",
    )

    def keys(self, event: Event) -> list[str]:
        """Map what can make a pod schedulable to the one key there is."""
        if event.resource == "pods" and event.type != "DELETED":
            bound = spec_of(event.object).get("nodeName")
            return [] if bound and not is_finished(event.object) else ["pending"]
        return ["pending"]

    def reconcile(self, _key: str) -> None:
        """Try every pending pod once, by priority and age."""
        pods = self.api.list("pods")
        pending = [p for p in pods if is_pending(p)]
        if not pending:
            return
        places = places_of(self.api.list("nodes"), pods)
        for pod in sorted(pending, key=queue_rank):
            try:
                self._schedule(pod, places)
            except ApiError as error:
                self.log.info("pod %s/%s was not bound: %s", namespace_of(pod), name_of(pod), error)

    def _schedule(self, pod: Object, places: list[Place]) -> None:
        problem, selected = self._claims_problem(pod)
        if problem:
            self._tell(pod, f"0/{len(places)} nodes are available: {problem}. {preemption(len(places))}")
            return
        against = {name_of(p.node): self._against(pod, p, places) for p in places}
        fitting = [p for p in places if against[name_of(p.node)] is None]
        if selected:
            fitting = [p for p in fitting if name_of(p.node) == selected] or fitting
        if not fitting:
            self._tell(pod, failure_message([r for r in against.values() if r], len(places)))
            return
        best = min(fitting, key=lambda p: rank(pod, p, places))
        if self._waits_for_volume(pod, name_of(best.node)):
            return
        self._bind(pod, best)

    def _against(self, pod: Object, place: Place, places: list[Place]) -> str | None:
        reason = reason_against(pod, place, places)
        return reason or (None if self._volumes_allow(pod, place.node) else VOLUME_NODE)

    def _volumes_allow(self, pod: Object, node: Object) -> bool:
        for claim in claims_of(self.api, pod).values():
            volume = spec_of(claim or {}).get("volumeName")
            found = self.api.get("persistentvolumes", volume) if volume else None
            if found is not None and not pv_allows(found, node):
                return False
        return True

    def _claims_problem(self, pod: Object) -> tuple[str, str]:
        """Return why the claims of a pod hold it back, and the node that was selected for one before."""
        selected = ""
        for name, claim in claims_of(self.api, pod).items():
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found', ""
            if is_deleting(claim):
                return f'persistentvolumeclaim "{name}" is being deleted', ""
            if status_of(claim).get("phase") == "Lost":
                volume = spec_of(claim).get("volumeName")
                return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"', ""
            if not is_bound(claim) and not is_late(self.api, claim):
                return "pod has unbound immediate PersistentVolumeClaims", ""
            if not is_bound(claim):
                selected = annotations_of(claim).get(SELECTED_NODE, selected)
        return "", selected

    def _waits_for_volume(self, pod: Object, node: str) -> bool:
        """Name the node on claims that bind late; tell whether the pod has to wait for them."""
        waiting = [c for c in claims_of(self.api, pod).values() if c is not None and not is_bound(c)]
        for claim in waiting:
            if annotations_of(claim).get(SELECTED_NODE) != node:
                patch = {"metadata": {"annotations": {SELECTED_NODE: node}}}
                self.api.patch("persistentvolumeclaims", name_of(claim), patch, namespace_of(claim))
        return bool(waiting)

    def _bind(self, pod: Object, place: Place) -> None:
        node = name_of(place.node)
        bind(self.api, pod, node)
        place.add(pod)
        text = f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {node}"
        self.events.normal(pod, "Scheduled", text)

    def _tell(self, pod: Object, message: str) -> None:
        """Set PodScheduled to False with the reason, once per message."""
        old = condition(pod, "PodScheduled")
        if old is not None and old.get("message") == message:
            return
        before, now = status_of(pod).get("conditions"), self.now()
        conditions = with_condition(
            before, "PodScheduled", "False", now, reason="Unschedulable", message=message, lastProbeTime=None
        )
        patch = {"status": {"conditions": conditions}}
        self.api.patch("pods", name_of(pod), patch, namespace_of(pod), subresource="status")
        self.events.warning(pod, "FailedScheduling", message)


def bind(api: Api, pod: Object, node: str) -> None:
    """Bind a pod to a node, and say that it was scheduled."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    metadata = {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)}
    api.create("pods/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target})


def is_pending(pod: Object) -> bool:
    """Tell whether this scheduler has to find a node for the pod."""
    spec = spec_of(pod)
    mine = spec.get("schedulerName", SCHEDULER) == SCHEDULER and not spec.get("schedulingGates")
    return mine and not spec.get("nodeName") and not is_deleting(pod) and not is_finished(pod)


def is_bound(claim: Object) -> bool:
    """Tell whether a claim is bound."""
    return bool(status_of(claim).get("phase") == "Bound")


def queue_rank(pod: Object) -> tuple[int, float, str, str]:
    """Order pending pods: high priority first, then old ones."""
    age = unstamp(meta(pod).get("creationTimestamp"))
    return (-int(spec_of(pod).get("priority") or 0), age, namespace_of(pod), name_of(pod))


def places_of(nodes: list[Object], pods: list[Object]) -> list[Place]:
    """Put the pods that count on their nodes."""
    places = {name_of(n): Place(n) for n in nodes}
    for pod in pods:
        place = places.get(spec_of(pod).get("nodeName", ""))
        if place is not None and not is_finished(pod):
            place.add(pod)
    return list(places.values())


def rank(pod: Object, place: Place, places: list[Place]) -> tuple[float, ...] | tuple[float | str, ...]:
    """Order fitting nodes: preferred ones, fewest siblings of the pod in the zone and on it, least loaded, by name."""
    owner = (owner_of(pod) or {}).get("uid")
    near = [p for p in places if zone_of(p.node) == zone_of(place.node)] if zone_of(place.node) else [place]
    allocatable = status_of(place.node).get("allocatable") or {}
    loads = [place.used.get(n, 0.0) / (quantity(allocatable.get(n, "0")) or 1.0) for n in ("cpu", "memory")]
    return (-preference(spec_of(pod), place.node), _siblings(owner, near), _siblings(owner, [place]),
            round(sum(loads), 6), len(place.pods), name_of(place.node))  # fmt: skip


def zone_of(node: Object) -> str:
    """Return the zone that a node is labelled with; empty for none."""
    return str(labels_of(node).get("topology.kubernetes.io/zone", ""))


def _siblings(owner: object, places: list[Place]) -> int:
    """Count the pods of one owner, which the scheduler spreads even where nobody asks for it."""
    return sum((owner_of(p) or {}).get("uid") == owner for place in places for p in place.pods) if owner else 0


def failure_message(reasons: list[str], nodes: int) -> str:
    """Write the message of FailedScheduling: how many nodes were refused for which reason."""
    if not nodes:
        return "no nodes available to schedule pods"
    parts = sorted(f"{count} {reason}" for reason, count in Counter(reasons).items())
    hopeless = sum(r.startswith(UNRESOLVABLE) for r in reasons)
    return f"0/{nodes} nodes are available: {', '.join(parts)}. {preemption(nodes, hopeless)}"


def preemption(nodes: int, hopeless: int | None = None) -> str:
    """Write the second half of the message: preempting other pods would not help, or found no victim."""
    hopeless = nodes if hopeless is None else hopeless
    parts = []
    if hopeless:
        parts.append(f"{hopeless} Preemption is not helpful for scheduling")
    if nodes - hopeless:
        parts.append(f"{nodes - hopeless} No preemption victims found for incoming pod")
    return f"preemption: 0/{nodes} nodes are available: {', '.join(sorted(parts, key=lambda p: p.split(' ', 1)[1]))}."
