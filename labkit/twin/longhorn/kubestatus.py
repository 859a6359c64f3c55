"""What Longhorn notes of Kubernetes: which PV, claim and pods a volume serves, and the job labels of its claim."""

from __future__ import annotations

from typing import Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import (
    is_finished,
    labels_of,
    name_of,
    namespace_of,
    owner_of,
    spec_of,
    status_of,
)
from labkit.twin.controllers.volume_rules import claim_names
from labkit.twin.kube.door import Event, Object
from labkit.twin.longhorn.api import handle_of
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import SOURCE_LABEL, VOLUMES, selection_labels
from labkit.twin.longhorn.parts import NO_KUBERNETES

VOLUME, CLAIM = "persistentvolumes", "persistentvolumeclaims"


class KubernetesStatus(Controller):
    """Keep status.kubernetesStatus of volumes; keys are names of volumes."""

    name = "longhorn-kubernetes-pv"
    watches = (VOLUME, CLAIM, "pods", VOLUMES)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub

    def keys(self, event: Event) -> list[str]:
        """Map a PV, claim or pod to the volumes behind it."""
        obj = event.object
        if event.resource == VOLUMES:
            return [name_of(obj)]
        if event.resource == VOLUME:
            return [handle_of(obj)] if handle_of(obj) else []
        names = [name_of(obj)] if event.resource == CLAIM else claim_names(obj)
        return [handle for name in names if (handle := self._handle(namespace_of(obj), name))]

    def _handle(self, namespace: str, claim: str) -> str:
        for pv in self.api.list(VOLUME):
            ref = spec_of(pv).get("claimRef") or {}
            if (ref.get("namespace"), ref.get("name")) == (namespace, claim):
                return handle_of(pv)
        return ""

    def reconcile(self, key: str) -> None:
        """Bring one volume's note up to date; what is over stays as history."""
        volume = self.hub.get(VOLUMES, key)
        if volume is None or not status_of(volume).get("state"):
            return
        old = {**NO_KUBERNETES, **(status_of(volume).get("kubernetesStatus") or {})}
        pv = next((p for p in self.api.list(VOLUME) if handle_of(p) == key), None)
        new = self._note(old, pv)
        if new != old:
            self.hub.status(VOLUMES, key, {"kubernetesStatus": new})
        self._follow_labels(volume, pv)

    def _note(self, old: dict[str, Any], pv: Object | None) -> dict[str, Any]:
        if pv is None:
            return _as_history({**old, "pvName": "", "pvStatus": ""}, self.now(), claim=True) if old["pvName"] else old
        new = {**old, "pvName": name_of(pv), "pvStatus": status_of(pv).get("phase", "")}
        ref = spec_of(pv).get("claimRef") or {}
        if new["pvStatus"] != "Bound" or self.api.get(CLAIM, ref.get("name", ""), ref.get("namespace", "")) is None:
            return _as_history(new, self.now(), claim=bool(old["pvcName"]))
        same = (old["namespace"], old["pvcName"]) == (ref["namespace"], ref["name"])
        new |= {"namespace": ref["namespace"], "pvcName": ref["name"], "lastPVCRefAt": ""}
        pods = self._pods(ref["namespace"], ref["name"])
        if pods:
            return {**new, "workloadsStatus": pods, "lastPodRefAt": ""}
        if not same:
            return {**new, "workloadsStatus": None, "lastPodRefAt": ""}
        if new["workloadsStatus"] and not new["lastPodRefAt"]:
            new["lastPodRefAt"] = self.now()
        return new

    def _pods(self, namespace: str, claim: str) -> list[dict[str, str]]:
        found = [p for p in self.api.list("pods", namespace) if claim in claim_names(p) and not is_finished(p)]
        return [
            {
                "podName": name_of(pod), "podStatus": status_of(pod).get("phase", "Pending"),
                "workloadName": (owner_of(pod) or {}).get("name", ""),
                "workloadType": (owner_of(pod) or {}).get("kind", ""),
            }
            for pod in sorted(found, key=name_of)
        ]  # fmt: skip

    def _follow_labels(self, volume: Object, pv: Object | None) -> None:
        """Take the job labels of a claim that says it is their source."""
        ref = spec_of(pv or {}).get("claimRef") or {}
        claim = self.api.get(CLAIM, ref.get("name", ""), ref.get("namespace", "")) if ref else None
        if claim is None or labels_of(claim).get(SOURCE_LABEL) != "enabled":
            return
        have, wanted = selection_labels(labels_of(volume)), selection_labels(labels_of(claim))
        if have != wanted and wanted:
            patch = {**dict.fromkeys(have, None), **wanted}
            self.hub.patch(VOLUMES, name_of(volume), {"metadata": {"labels": patch}})


def _as_history(note: dict[str, Any], now: str, *, claim: bool) -> dict[str, Any]:
    """Return a note of a claim, or of pods, that are no more."""
    if claim and note["pvcName"] and not note["lastPVCRefAt"]:
        note = {**note, "lastPVCRefAt": now}
    if note["workloadsStatus"] and not note["lastPodRefAt"]:
        note = {**note, "lastPodRefAt": now}
    return note
