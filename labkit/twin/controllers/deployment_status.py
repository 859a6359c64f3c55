"""The status of a Deployment: counts, and the conditions Available, Progressing and ReplicaFailure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from labkit.twin.kube.door import Object

from .objects import (
    condition,
    meta,
    name_of,
    spec_of,
    status_of,
    with_condition,
    without_zeros,
)

Conditions = list[dict[str, Any]]


def deployment_status(
    owner: Object, sets: list[Object], new: Object | None, now: str, *, may_lack: int, idle: float
) -> dict[str, Any]:
    """Compute the status of a Deployment from its ReplicaSets.

    `may_lack` is maxUnavailable as a number, `idle` how many twin seconds nothing has changed.
    """
    counts = _counts(sets, new)
    conditions = _available(owner, counts, now, may_lack)
    conditions = _progressing(Rollout(owner, new, counts, now, idle), conditions)
    return without_zeros(
        {
            **counts,
            "observedGeneration": meta(owner).get("generation", 1),
            "collisionCount": status_of(owner).get("collisionCount"),
            "conditions": _replica_failure(conditions, [s for s in [new, *sets] if s], now),
        },
        keep=("terminatingReplicas",),
    )


def _counts(sets: list[Object], new: Object | None) -> dict[str, int]:
    def total(field: str) -> int:
        return sum(int(status_of(s).get(field, 0)) for s in sets)

    wanted = sum(int(spec_of(s).get("replicas", 0)) for s in sets)
    return {
        "replicas": total("replicas"),
        "updatedReplicas": int(status_of(new).get("replicas", 0)) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(0, wanted - total("availableReplicas")),
        "terminatingReplicas": total("terminatingReplicas"),
    }


def _available(owner: Object, counts: dict[str, int], now: str, may_lack: int) -> Conditions:
    enough = counts["availableReplicas"] >= int(spec_of(owner).get("replicas", 1)) - may_lack
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    message = f"Deployment {'has' if enough else 'does not have'} minimum availability."
    before = status_of(owner).get("conditions")
    return _set(before, Told("Available", "True" if enough else "False", reason, message), now)


@dataclass(frozen=True)
class Rollout:
    """What the condition Progressing depends on."""

    owner: Object
    new: Object | None
    counts: dict[str, int]
    now: str
    idle: float

    @property
    def subject(self) -> str:
        """Name what progresses."""
        return f'ReplicaSet "{name_of(self.new)}"' if self.new else f'Deployment "{name_of(self.owner)}"'


def _progressing(rollout: Rollout, conditions: Conditions) -> Conditions:
    """Say how a rollout goes; the moment of the last progress is the condition's update time."""
    owner, old = rollout.owner, condition(rollout.owner, "Progressing")
    if spec_of(owner).get("progressDeadlineSeconds") is None or (rollout.new is None and old is None):
        return conditions
    if spec_of(owner).get("paused"):
        return _paused(conditions, old, rollout.now)
    told = _progress(rollout, old)
    if told is None:
        return conditions
    status, reason, text = told
    moved = reason == "ReplicaSetUpdated"
    return _set(conditions, Told("Progressing", status, reason, text), rollout.now, moved=moved)


def _progress(rollout: Rollout, old: dict[str, Any] | None) -> tuple[str, str, str] | None:
    """Return status, reason and message of Progressing; None when it stays as it is."""
    owner, subject = rollout.owner, rollout.subject
    if is_complete(owner, rollout.counts):
        return "True", "NewReplicaSetAvailable", f"{subject} has successfully progressed."
    if old is None:
        text = f'Created new replica set "{name_of(rollout.new or owner)}"'
        return "True", "NewReplicaSetCreated", text
    if _progressed(owner, rollout.counts) or old.get("reason") == "DeploymentPaused":
        return "True", "ReplicaSetUpdated", f"{subject} is progressing."
    over = rollout.idle >= int(spec_of(owner)["progressDeadlineSeconds"])
    if over and old.get("reason") != "NewReplicaSetAvailable":
        return "False", "ProgressDeadlineExceeded", f"{subject} has timed out progressing."
    return None


def _paused(conditions: Conditions, old: dict[str, Any] | None, now: str) -> Conditions:
    if old is not None and old.get("reason") == "DeploymentPaused":
        return conditions
    told = Told("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    return _set(conditions, told, now)


def is_complete(owner: Object, counts: dict[str, int]) -> bool:
    """Tell whether all replicas are new and available."""
    wanted = int(spec_of(owner).get("replicas", 1))
    return counts["updatedReplicas"] == counts["replicas"] == counts["availableReplicas"] == wanted


def _progressed(owner: Object, counts: dict[str, int]) -> bool:
    old = status_of(owner)

    def more(field: str) -> bool:
        return counts[field] > int(old.get(field, 0))

    old_ones = int(old.get("replicas", 0)) - int(old.get("updatedReplicas", 0))
    fewer = counts["replicas"] - counts["updatedReplicas"] < old_ones
    return fewer or more("updatedReplicas") or more("readyReplicas") or more("availableReplicas")


def _replica_failure(conditions: Conditions, sets: list[Object], now: str) -> Conditions:
    """Show the ReplicaFailure of a ReplicaSet on its Deployment, the new one's first."""
    rest = [c for c in conditions if c["type"] != "ReplicaFailure"]
    found = next((f for s in sets if (f := condition(s, "ReplicaFailure"))), None)
    if found is None:
        return rest
    told = Told("ReplicaFailure", found["status"], found["reason"], found["message"])
    return _set(conditions, told, now)


class Told(NamedTuple):
    """A condition without its times."""

    kind: str
    status: str
    reason: str
    message: str


def _set(conditions: Conditions | None, told: Told, now: str, *, moved: bool = False) -> Conditions:
    """Set a condition; its update time moves when something of it changed, or when told."""
    old = next((c for c in conditions or [] if c.get("type") == told.kind), None)
    same = old is not None and [old.get(k) for k in ("status", "reason", "message")] == list(told[1:])
    if same and not moved:
        return [dict(c) for c in conditions or []]
    return with_condition(
        conditions, told.kind, told.status, now, reason=told.reason, message=told.message, lastUpdateTime=now
    )


def seconds_to_deadline(owner: Object, status: dict[str, Any], idle: float) -> float | None:
    """Return when a rollout that does not progress will have timed out."""
    found = next((c for c in status.get("conditions", []) if c["type"] == "Progressing"), None)
    deadline = spec_of(owner).get("progressDeadlineSeconds")
    if found is None or deadline is None or found["status"] != "True" or spec_of(owner).get("paused"):
        return None
    if found.get("reason") == "NewReplicaSetAvailable":
        return None
    return max(1.0, float(deadline) - idle)
