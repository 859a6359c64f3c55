"""StatefulSets: pods with ordinals, each with its own claims, made and replaced in order."""

from __future__ import annotations

import json

from labkit.twin.kube.door import Event, Object

from .framework import Controller
from .history import HASH, ensure_revision, forget_revisions, revisions, template_of
from .objects import (
    controller_pods,
    is_deleting,
    is_finished,
    is_ready,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_key,
    pod_from,
    spec_of,
    status_of,
    without_zeros,
)

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
COUNTS = ("replicas", "availableReplicas")


class StatefulSets(Controller):
    """Keep ordinals 0 to replicas-1, one step at a time unless podManagementPolicy is Parallel."""

    name = "statefulset-controller"
    watches = ("statefulsets.apps", "pods")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a pod to its StatefulSet."""
        if event.resource == "pods":
            return owner_key(event.object, "StatefulSet")
        return [(namespace_of(event.object), name_of(event.object))]

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Do what can be done now for one StatefulSet."""
        namespace, name = key
        owner = self.api.get("statefulsets.apps", name, namespace)
        if owner is None or is_deleting(owner):
            return None
        update = name_of(ensure_revision(self.api, owner))
        current = self._current(owner, update)
        settled = self._fill(owner, current, update) and self._condemn(owner)
        if settled:
            self._roll(owner, update)
        pods = self._pods(owner)
        forget_revisions(self.api, owner, {current, update, *(labels_of(p).get(HASH, "") for p in pods)})
        return self._write_status(owner, pods, current, update)

    def _pods(self, owner: Object) -> list[Object]:
        labels = spec_of(owner)["selector"].get("matchLabels")
        found = controller_pods(self.api.list("pods", namespace_of(owner), labels), owner)
        return sorted(found, key=ordinal)

    def _current(self, owner: Object, update: str) -> str:
        """Return the revision that pods below the partition keep."""
        told = str(status_of(owner).get("currentRevision", ""))
        known = {name_of(r) for r in revisions(self.api, owner)}
        return told if told in known else update

    def _is_parallel(self, owner: Object) -> bool:
        return spec_of(owner).get("podManagementPolicy") == "Parallel"

    def _wanted(self, owner: Object) -> range:
        start = int((spec_of(owner).get("ordinals") or {}).get("start", 0))
        return range(start, start + int(spec_of(owner).get("replicas", 1)))

    def _fill(self, owner: Object, current: str, update: str) -> bool:
        """Make missing ordinals in order; tell whether all are there and available."""
        have, parallel = {ordinal(p): p for p in self._pods(owner)}, self._is_parallel(owner)
        complete = True
        for index in self._wanted(owner):
            pod = have.get(index)
            if pod is not None and is_finished(pod) and not is_deleting(pod):
                self._delete(owner, pod)
                pod = self.api.get("pods", name_of(pod), namespace_of(pod))
            if pod is None:
                self._create(owner, index, self._revision_for(owner, index, current, update))
                complete = False
            elif is_deleting(pod) or not self._is_available(owner, pod):
                complete = False
            if not complete and not parallel:
                return False
        return complete or parallel

    def _revision_for(self, owner: Object, index: int, current: str, update: str) -> str:
        rolling = (spec_of(owner).get("updateStrategy") or {}).get("rollingUpdate") or {}
        return current if index < int(rolling.get("partition", 0)) else update

    def _condemn(self, owner: Object) -> bool:
        """Remove ordinals beyond replicas, the highest first; tell whether none is left."""
        extra = [p for p in self._pods(owner) if ordinal(p) not in self._wanted(owner)]
        for pod in reversed(extra):
            if not is_deleting(pod):
                self._delete(owner, pod)
            if not self._is_parallel(owner):
                return False
        return not extra

    def _roll(self, owner: Object, update: str) -> None:
        """Replace pods of older revisions from the highest ordinal, waiting for each to be available."""
        strategy = spec_of(owner).get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        partition = int((strategy.get("rollingUpdate") or {}).get("partition", 0))
        for pod in reversed([p for p in self._pods(owner) if ordinal(p) >= partition]):
            if labels_of(pod).get(HASH) != update and not is_deleting(pod):
                self._delete(owner, pod)
                return
            if is_deleting(pod) or not self._is_available(owner, pod):
                return

    def _is_available(self, owner: Object, pod: Object) -> bool:
        return self.available_in(pod, spec_of(owner).get("minReadySeconds", 0)) == 0

    def _create(self, owner: Object, index: int, revision: str) -> None:
        self._claims(owner, index)
        kept = next(r for r in revisions(self.api, owner) if name_of(r) == revision)
        name = f"{name_of(owner)}-{index}"
        labels = {POD_NAME: name, POD_INDEX: str(index), HASH: revision}
        pod = pod_from(template_of(kept), owner, name=name, labels=labels)
        pod["spec"]["hostname"] = name
        if spec_of(owner).get("serviceName"):
            pod["spec"]["subdomain"] = spec_of(owner)["serviceName"]
        pod["spec"]["volumes"] = self._volumes(owner, pod, index)
        self.api.create("pods", pod)
        text = f"create Pod {name} in StatefulSet {name_of(owner)} successful"
        self.events.normal(owner, "SuccessfulCreate", text)

    def _volumes(self, owner: Object, pod: Object, index: int) -> list[Object]:
        """Return the volumes of a pod, the claims of its ordinal in place of those of the same name."""
        claims = {name_of(t): claim_name(owner, t, index) for t in spec_of(owner).get("volumeClaimTemplates") or []}
        own = [{"name": n, "persistentVolumeClaim": {"claimName": c}} for n, c in claims.items()]
        return own + [v for v in pod["spec"].get("volumes") or [] if v["name"] not in claims]

    def _claims(self, owner: Object, index: int) -> None:
        """Make the claims of an ordinal; they stay when the pod goes."""
        for template in spec_of(owner).get("volumeClaimTemplates") or []:
            name = claim_name(owner, template, index)
            if self.api.get("persistentvolumeclaims", name, namespace_of(owner)) is not None:
                continue
            labels = {**labels_of(template), **(spec_of(owner)["selector"].get("matchLabels") or {})}
            metadata = {"name": name, "namespace": namespace_of(owner), "labels": labels}
            if meta(template).get("annotations"):
                metadata["annotations"] = dict(meta(template)["annotations"])
            spec = json.loads(json.dumps(spec_of(template)))
            claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
            self.api.create("persistentvolumeclaims", claim)
            text = f"create Claim {name} Pod {name_of(owner)}-{index} in StatefulSet {name_of(owner)} success"
            self.events.normal(owner, "SuccessfulCreate", text)

    def _delete(self, owner: Object, pod: Object) -> None:
        self.api.delete("pods", name_of(pod), namespace_of(pod))
        text = f"delete Pod {name_of(pod)} in StatefulSet {name_of(owner)} successful"
        self.events.normal(owner, "SuccessfulDelete", text)

    def _write_status(self, owner: Object, pods: list[Object], current: str, update: str) -> float | None:
        minimum = spec_of(owner).get("minReadySeconds", 0)
        waits = [self.available_in(p, minimum) for p in pods if not is_deleting(p)]
        updated = sum(labels_of(p).get(HASH) == update for p in pods if not is_deleting(p))
        replicas, ready = int(spec_of(owner).get("replicas", 1)), sum(is_ready(p) for p in pods)
        if updated == ready == len(pods) == replicas:
            current = update
        status = without_zeros(
            {
                "replicas": len(pods),
                "readyReplicas": ready,
                "currentReplicas": sum(labels_of(p).get(HASH) == current for p in pods),
                "updatedReplicas": updated,
                "availableReplicas": sum(w == 0 for w in waits),
                "currentRevision": current,
                "updateRevision": update,
                "collisionCount": 0,
                "observedGeneration": meta(owner).get("generation", 1),
            },
            keep=(*COUNTS, "collisionCount"),
        )
        if status != status_of(owner):
            self.api.update_status("statefulsets.apps", {**owner, "status": status})
        later = [w for w in waits if w]
        return min(later) if later else None


def ordinal(pod: Object) -> int:
    """Return the number at the end of a pod's name, -1 when there is none."""
    tail = name_of(pod).rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1


def claim_name(owner: Object, template: Object, index: int) -> str:
    """Name the claim of an ordinal."""
    return f"{name_of(template)}-{name_of(owner)}-{index}"
