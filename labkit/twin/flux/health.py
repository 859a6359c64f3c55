"""Whether an object is as it should be, by the rules of kstatus, and waiting for a set of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from labkit.twin.controllers.objects import condition, is_deleting, is_true, meta, spec_of, status_of
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi

Status = Literal["Current", "InProgress", "Failed", "Terminating", "NotFound"]
_NEVER = "ProgressDeadlineExceeded"


@dataclass(frozen=True)
class Reference:
    """One object by kind and name."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


def reference_of(obj: Object) -> Reference:
    """Return what leads to an object."""
    return Reference(obj["apiVersion"], obj["kind"], meta(obj)["name"], meta(obj).get("namespace", ""))


def find(api: LocalApi, reference: Reference) -> Object | None:
    """Return the object, None when it or its kind is not there."""
    resource = api.core.registry.of_kind(reference.api_version, reference.kind)
    return api.get(resource.key, reference.name, reference.namespace) if resource else None


def status(obj: Object | None) -> Status:
    """Return the status of an object."""
    if obj is None or is_deleting(obj):
        return "NotFound" if obj is None else "Terminating"
    seen = status_of(obj).get("observedGeneration")
    if (seen is not None and seen != meta(obj).get("generation")) or is_true(obj, "Reconciling"):
        return "InProgress"
    if is_true(obj, "Stalled"):
        return "Failed"
    rule = _RULES.get((obj["apiVersion"].split("/")[0], obj["kind"]))
    if rule is not None:
        return rule(obj)
    ready = condition(obj, "Ready")
    return "Current" if ready is None or ready.get("status") == "True" else "InProgress"


def waits_for(api: LocalApi, references: Sequence[Reference]) -> tuple[list[str], bool]:
    """Return what is not current (`Kind/ns/name status: 'InProgress'`), and whether all of it has failed for good."""
    found = [(one, status(find(api, one))) for one in references]
    open_ones = [(one, seen) for one, seen in found if seen != "Current"]
    return [f"{one} status: '{seen}'" for one, seen in open_ones], all(seen == "Failed" for _, seen in open_ones)


def _deployment(obj: Object) -> Status:
    state, spec = status_of(obj), spec_of(obj)
    progressing = condition(obj, "Progressing") or {}
    if progressing.get("reason") == _NEVER:
        return "Failed"
    wanted = spec.get("replicas", 1)
    counts = [state.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")]
    if wanted and (counts[1] < wanted or counts[0] > counts[1] or min(counts[1:]) < wanted):
        return "InProgress"
    return "Current" if is_true(obj, "Available") or not wanted else "InProgress"


def _daemon_set(obj: Object) -> Status:
    state = status_of(obj)
    wanted = state.get("desiredNumberScheduled")
    if wanted is None or "observedGeneration" not in state:
        return "InProgress"
    fields = ("currentNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady")
    return "Current" if all(state.get(key, 0) >= wanted for key in fields) else "InProgress"


def _stateful_set(obj: Object) -> Status:
    state, wanted = status_of(obj), spec_of(obj).get("replicas", 1)
    ready = all(state.get(key, 0) >= wanted for key in ("replicas", "readyReplicas", "currentReplicas"))
    same = state.get("currentRevision") == state.get("updateRevision")
    return "Current" if (ready and same) or not wanted else "InProgress"


def _replica_set(obj: Object) -> Status:
    state, wanted = status_of(obj), spec_of(obj).get("replicas", 1)
    ready = all(state.get(key, 0) >= wanted for key in ("fullyLabeledReplicas", "availableReplicas", "readyReplicas"))
    return "Current" if ready else "InProgress"


def _claim(obj: Object) -> Status:
    return "Current" if status_of(obj).get("phase") == "Bound" else "InProgress"


def _job(obj: Object) -> Status:
    if is_true(obj, "Failed"):
        return "Failed"
    return "Current" if is_true(obj, "Complete") or status_of(obj).get("startTime") else "InProgress"


def _pod(obj: Object) -> Status:
    phase = status_of(obj).get("phase")
    if phase == "Failed":
        return "Failed"
    return "Current" if phase == "Succeeded" or is_true(obj, "Ready") else "InProgress"


def _service(obj: Object) -> Status:
    pending = spec_of(obj).get("type") == "LoadBalancer" and not spec_of(obj).get("clusterIP")
    return "InProgress" if pending else "Current"


def _definition(obj: Object) -> Status:
    accepted = condition(obj, "NamesAccepted") or {}
    if accepted.get("status") == "False":
        return "Failed"
    return "Current" if is_true(obj, "Established") else "InProgress"


def _always(_obj: Object) -> Status:
    return "Current"


_RULES: dict[tuple[str, str], Callable[[Object], Status]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("v1", "PersistentVolumeClaim"): _claim,
    ("v1", "Pod"): _pod,
    ("v1", "Service"): _service,
    ("v1", "Node"): _always,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _always,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
}
