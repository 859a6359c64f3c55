"""Deployments: ReplicaSets by template, rolled over within maxSurge and maxUnavailable."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import ApiError, Event, Object

from .deployment_status import deployment_status, seconds_to_deadline
from .framework import Controller
from .objects import (
    annotations_of,
    controller_pods,
    is_deleting,
    is_finished,
    labels_of,
    matches,
    meta,
    name_of,
    owner_key,
    owner_of,
    owner_reference,
    share,
    spec_of,
    status_of,
    template_hash,
    uid_of,
    unstamp,
)  # fmt: skip

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
HASH = "pod-template-hash"
NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED, MAXIMUM}


class Deployments(Controller):
    """Give each template a ReplicaSet and move the replicas to the newest one."""

    name = "deployment-controller"
    watches = ("deployments.apps", "replicasets.apps", "pods")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a ReplicaSet to its Deployment, and a removed pod likewise (Recreate waits for it)."""
        if event.resource == "deployments.apps":
            return [(meta(event.object)["namespace"], name_of(event.object))]
        if event.resource == "replicasets.apps":
            return owner_key(event.object, "Deployment")
        return self._of_pod(event) if event.type == "DELETED" else []

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Do the next step of a rollout and write the status."""
        namespace, name = key
        owner = self.api.get("deployments.apps", name, namespace)
        if owner is None:
            return None
        sets = self._sets(owner)
        if is_deleting(owner):
            return self._write_status(owner, sets, None)
        owner = self._roll(owner, sets)
        sets = self._sets(owner)
        self._forget_old(owner, sets)
        return self._write_status(owner, sets, newest(owner, sets))

    def _of_pod(self, event: Event) -> list[tuple[str, str]]:
        namespace = meta(event.object).get("namespace", "")
        for _, name in owner_key(event.object, "ReplicaSet"):
            found = self.api.get("replicasets.apps", name, namespace)
            return owner_key(found, "Deployment") if found else []
        return []

    def _sets(self, owner: Object) -> list[Object]:
        """Return the ReplicaSets of a Deployment, oldest first; an orphan that it selects is adopted."""
        namespace, selector = meta(owner)["namespace"], spec_of(owner)["selector"]
        found = []
        for one in self.api.list("replicasets.apps", namespace):
            ref = owner_of(one)
            if ref is not None and ref["uid"] == uid_of(owner):
                found.append(one)
            elif ref is None and not is_deleting(owner) and matches(selector, labels_of(one)):
                patch = {"metadata": {"ownerReferences": [owner_reference(owner)]}}
                found.append(self.api.patch("replicasets.apps", name_of(one), patch, namespace))
        return sorted(found, key=lambda s: (unstamp(meta(s).get("creationTimestamp")), revision(s), name_of(s)))

    def _roll(self, owner: Object, sets: list[Object]) -> Object:
        """Do one step; return the Deployment as it is then."""
        new = newest(owner, sets)
        old = [s for s in sets if new is None or uid_of(s) != uid_of(new)]
        if spec_of(owner).get("paused"):
            self._scale_active(owner, sets)
            return owner
        if (spec_of(owner).get("strategy") or {}).get("type") == "Recreate":
            return self._recreate(owner, new, old)
        owner, new = self._ensure_new(owner, new, old, start=0)
        self._scale_up(owner, new, old)
        self._scale_down(owner, new, old)
        return owner

    def _recreate(self, owner: Object, new: Object | None, old: list[Object]) -> Object:
        for one in old:
            self._scale(owner, one, 0)
        pods = self.api.list("pods", meta(owner)["namespace"])
        if any(not is_finished(p) for one in old for p in controller_pods(pods, one)):
            return owner
        owner, new = self._ensure_new(owner, new, old, start=0)
        self._scale(owner, new, replicas(owner))
        return owner

    def _ensure_new(self, owner: Object, new: Object | None, old: list[Object], *, start: int) -> tuple[Object, Object]:
        """Find or make the ReplicaSet of the current template, and number it as the newest revision."""
        number = max([revision(s) for s in old], default=0) + 1
        if new is not None and revision(new) >= number:
            number = revision(new)
        if new is None:
            new = self._create(owner, number, start)
        notes = self._notes(owner, number)
        if any(annotations_of(new).get(k) != v for k, v in notes.items()):
            patch = {"metadata": {"annotations": notes}}
            new = self.api.patch("replicasets.apps", name_of(new), patch, meta(owner)["namespace"])
        if annotations_of(owner).get(REVISION) != str(number):
            patch = {"metadata": {"annotations": {REVISION: str(number)}}}
            owner = self.api.patch("deployments.apps", name_of(owner), patch, meta(owner)["namespace"])
        return owner, new

    def _notes(self, owner: Object, number: int) -> dict[str, str]:
        copied = {k: v for k, v in annotations_of(owner).items() if k not in NOT_COPIED}
        counts = {DESIRED: str(replicas(owner)), MAXIMUM: str(replicas(owner) + surge(owner))}
        return {**copied, REVISION: str(number), **counts}

    def _create(self, owner: Object, number: int, start: int) -> Object:
        """Make the ReplicaSet; a name that another template holds moves the hash on."""
        template = spec_of(owner)["template"]
        collisions = int(status_of(owner).get("collisionCount", 0))
        while True:
            short = template_hash(template, collisions)
            try:
                made = self.api.create("replicasets.apps", self._set_body(owner, short, number, start))
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                collisions += 1
                continue
            if collisions != int(status_of(owner).get("collisionCount", 0)):
                patch = {"status": {"collisionCount": collisions}}
                name, namespace = name_of(owner), meta(owner)["namespace"]
                self.api.patch("deployments.apps", name, patch, namespace, subresource="status")
            return made

    def _set_body(self, owner: Object, short: str, number: int, start: int) -> Object:
        spec = spec_of(owner)
        template = dict(spec["template"])
        template["metadata"] = {**meta(template), "labels": {**labels_of(template), HASH: short}}
        selector = dict(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: short}
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{name_of(owner)}-{short}",
                "namespace": meta(owner)["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": self._notes(owner, number),
                "ownerReferences": [owner_reference(owner)],
            },
            "spec": {
                "replicas": start,
                "selector": selector,
                "template": template,
                **({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
            },
        }

    def _scale_up(self, owner: Object, new: Object, old: list[Object]) -> None:
        wanted, have = replicas(owner), replicas(new)
        if have >= wanted:
            self._scale(owner, new, wanted)
            return
        total = have + sum(replicas(s) for s in old)
        room = wanted + surge(owner) - total
        if room > 0:
            self._scale(owner, new, have + min(room, wanted - have))

    def _scale_down(self, owner: Object, new: Object, old: list[Object]) -> None:
        """Take replicas from the old sets, the unhealthy ones first, never below what must be available."""
        namespace = meta(owner)["namespace"]
        new = self.api.get("replicasets.apps", name_of(new), namespace) or new
        total, least = replicas(new) + sum(replicas(s) for s in old), replicas(owner) - unavailable(owner)
        budget = total - least - max(0, replicas(new) - available(new))
        for one in old:
            budget -= self._take(owner, one, min(replicas(one) - available(one), budget))
        old = [s for one in old if (s := self.api.get("replicasets.apps", name_of(one), namespace))]
        spare = available(new) + sum(available(s) for s in old) - least
        for one in old:
            taken = self._take(owner, one, min(replicas(one), spare, budget))
            spare, budget = spare - taken, budget - taken

    def _take(self, owner: Object, one: Object, count: int) -> int:
        """Scale a set down by a count, if that is above zero; return by how much."""
        if count <= 0:
            return 0
        self._scale(owner, one, replicas(one) - count)
        return count

    def _scale_active(self, owner: Object, sets: list[Object]) -> None:
        """Follow a change of replicas while paused: the newest set with replicas takes it."""
        active = [s for s in sets if replicas(s) > 0] or sets
        if active:
            others = sum(replicas(s) for s in active[:-1])
            self._scale(owner, active[-1], max(0, replicas(owner) - others))

    def _scale(self, owner: Object, one: Object, count: int) -> None:
        if replicas(one) == count:
            return
        word = "up" if count > replicas(one) else "down"
        self.api.patch("replicasets.apps", name_of(one), {"spec": {"replicas": count}}, meta(owner)["namespace"])
        text = f"Scaled {word} replica set {name_of(one)} from {replicas(one)} to {count}"
        self.events.normal(owner, "ScalingReplicaSet", text)

    def _forget_old(self, owner: Object, sets: list[Object]) -> None:
        """Delete the oldest empty ReplicaSets beyond revisionHistoryLimit."""
        new = newest(owner, sets)
        empty = [
            s for s in sets
            if (new is None or uid_of(s) != uid_of(new)) and not replicas(s) and not status_of(s).get("replicas")
            and not is_deleting(s)
        ]  # fmt: skip
        excess = len(empty) - int(spec_of(owner).get("revisionHistoryLimit", 10))
        for one in sorted(empty, key=revision)[: max(0, excess)]:
            self.api.delete("replicasets.apps", name_of(one), meta(owner)["namespace"])

    def _write_status(self, owner: Object, sets: list[Object], new: Object | None) -> float | None:
        """Write the status; return when a rollout that stands still will have timed out."""
        signature = (template_hash(spec_of(owner)), *(template_hash(status_of(s)) for s in sets))
        idle = self.ages.of((uid_of(owner), "progress"), signature)
        status: dict[str, Any] = deployment_status(owner, sets, new, self.now(), may_lack=unavailable(owner), idle=idle)
        if status != status_of(owner):
            self.api.update_status("deployments.apps", {**owner, "status": status})
        return seconds_to_deadline(owner, status, idle)


def replicas(obj: Object) -> int:
    """Return spec.replicas."""
    return int(spec_of(obj).get("replicas", 1))


def available(one: Object) -> int:
    """Return the available replicas of a ReplicaSet that will stay; its status may lag behind its spec."""
    return min(replicas(one), int(status_of(one).get("availableReplicas", 0)))


def revision(one: Object) -> int:
    """Return the revision number of a ReplicaSet, 0 when it has none."""
    return int(annotations_of(one).get(REVISION, "0"))


def newest(owner: Object, sets: list[Object]) -> Object | None:
    """Return the ReplicaSet that has the Deployment's template."""
    template = spec_of(owner)["template"]
    return next((s for s in sets if _same(spec_of(s)["template"], template)), None)


def _same(one: Object, other: Object) -> bool:
    labels = {k: v for k, v in labels_of(one).items() if k != HASH}
    left = {**one, "metadata": {**meta(one), "labels": labels}}
    right = {**other, "metadata": {**meta(other), "labels": labels_of(other)}}
    return bool(_plain(left) == _plain(right))


def _plain(template: Object) -> Object:
    kept = {k: v for k, v in template["metadata"].items() if v and k != "creationTimestamp"}
    return {**template, "metadata": kept}


def surge(owner: Object) -> int:
    """Return how many pods a rollout may add."""
    return _bounds(owner)[0]


def unavailable(owner: Object) -> int:
    """Return how many pods a rollout may take away."""
    return _bounds(owner)[1]


def _bounds(owner: Object) -> tuple[int, int]:
    """Resolve maxSurge (up) and maxUnavailable (down); both zero would stand still, so one may go."""
    strategy = spec_of(owner).get("strategy") or {}
    if strategy.get("type") == "Recreate" or not replicas(owner):
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    more = share(rolling.get("maxSurge", "25%"), replicas(owner), up=True)
    less = share(rolling.get("maxUnavailable", "25%"), replicas(owner), up=False)
    return (more, less) if more or less else (0, 1)
