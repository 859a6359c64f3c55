"""Volume binding: claims and volumes find each other, whichever was there first."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Event, Object

from .framework import Controller
from .objects import (
    annotations_of,
    is_deleting,
    meta,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)
from .scheduler import SELECTED_NODE
from .volume_rules import (
    CLASSES,
    best_volume,
    claim_names,
    class_of,
    default_class,
    is_claim_of,
    is_late,
    mismatch,
    storage_class,
)

BOUND = "pv.kubernetes.io/bind-completed"
BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
VOLUME, CLAIM = "persistentvolumes", "persistentvolumeclaims"


class VolumeBinder(Controller):
    """Bind claims to volumes and keep the phases of both; keys are ("volume", "", name) or ("claim", ns, name)."""

    name = "persistentvolume-controller"
    watches = (VOLUME, CLAIM, CLASSES)

    def keys(self, event: Event) -> list[tuple[str, str, str]]:
        """Map each to itself and to its other half; a new volume or class concerns every open claim."""
        obj = event.object
        if event.resource == CLASSES:
            return self._open_claims()
        if event.resource == CLAIM:
            volume = spec_of(obj).get("volumeName")
            mine = [("claim", namespace_of(obj), name_of(obj))]
            reserved = [("volume", "", name_of(v)) for v in self.api.list(VOLUME) if _names_claim(v, obj)]
            return mine + ([("volume", "", volume)] if volume else []) + reserved
        ref = spec_of(obj).get("claimRef")
        mine = [("volume", "", name_of(obj))]
        if ref:
            return [*mine, ("claim", ref.get("namespace", ""), ref["name"]), *self._naming(name_of(obj))]
        return mine + self._open_claims()

    def reconcile(self, key: tuple[str, str, str]) -> None:
        """Bring one volume or one claim on."""
        kind, namespace, name = key
        if kind == "volume":
            volume = self.api.get(VOLUME, name)
            if volume is not None:
                self._volume(volume)
            return
        claim = self.api.get(CLAIM, name, namespace)
        if claim is None or (is_deleting(claim) and not annotations_of(claim).get(BOUND)):
            return
        if annotations_of(claim).get(BOUND):
            self._bound_claim(claim)
        else:
            self._open_claim(claim)

    def _open_claims(self) -> list[tuple[str, str, str]]:
        found = self.api.list(CLAIM)
        return [("claim", namespace_of(c), name_of(c)) for c in found if status_of(c).get("phase") != "Bound"]

    def _naming(self, volume: str) -> list[tuple[str, str, str]]:
        found = self.api.list(CLAIM)
        return [("claim", namespace_of(c), name_of(c)) for c in found if spec_of(c).get("volumeName") == volume]

    def _volume(self, volume: Object) -> None:
        """Set the phase of a volume by its claimRef and the claim that it names."""
        ref = spec_of(volume).get("claimRef")
        if not ref or not ref.get("uid"):
            self._phase(volume, "Available")
            if ref:
                self.queue_claim(ref)
            return
        claim = self.api.get(CLAIM, ref["name"], ref.get("namespace", ""))
        if claim is None or uid_of(claim) != ref["uid"]:
            if status_of(volume).get("phase") != "Failed":
                self._phase(volume, "Released")
        elif spec_of(claim).get("volumeName") == name_of(volume):
            self._phase(volume, "Bound")
        else:
            self.queue_claim(ref)

    def queue_claim(self, ref: dict[str, Any]) -> None:
        """Look at the claim that a claimRef names."""
        self.queue.add(("claim", ref.get("namespace", ""), ref["name"]))

    def _open_claim(self, claim: Object) -> None:
        """Find a volume for a claim that was never bound."""
        named = spec_of(claim).get("volumeName")
        if named:
            self._claim_naming(claim, self.api.get(VOLUME, named))
            return
        claim = self._with_class(claim)
        late = is_late(self.api, claim)
        selected = annotations_of(claim).get(SELECTED_NODE)
        node = self.api.get("nodes", selected) if selected else None
        volumes = self.api.list(VOLUME)
        if late and node is None:
            volumes = [v for v in volumes if spec_of(v).get("claimRef")]
        volume = best_volume(volumes, claim, node)
        if volume is not None:
            self._bind(claim, volume)
        elif late and node is None:
            self._wait_for_consumer(claim)
        else:
            self._ask_provisioner(claim)

    def _claim_naming(self, claim: Object, volume: Object | None) -> None:
        """Bind a claim to the volume that it names, if that one is there, free and fits."""
        if volume is None:
            return
        ref = spec_of(volume).get("claimRef")
        if ref and not is_claim_of(volume, claim):
            taken = f'volume "{name_of(volume)}" already bound to a different claim.'
            self.events.warning(claim, "FailedBinding", taken)
            return
        problem = mismatch(volume, claim)
        if problem:
            text = f'Cannot bind to requested volume "{name_of(volume)}": {problem}'
            self.events.warning(claim, "VolumeMismatch", text)
            return
        self._bind(claim, volume)

    def _with_class(self, claim: Object) -> Object:
        """Give a claim that leaves the class open the default one, once there is one."""
        found = default_class(self.api) if class_of(claim) is None else None
        if found is None:
            return claim
        patch = {"spec": {"storageClassName": name_of(found)}}
        return self.api.patch(CLAIM, name_of(claim), patch, namespace_of(claim))

    def _wait_for_consumer(self, claim: Object) -> None:
        pods = self.api.list("pods", namespace_of(claim))
        if any(name_of(claim) in claim_names(p) for p in pods):
            text = "waiting for pod to be scheduled"
            self.events.normal(claim, "WaitForPodScheduled", text)
        else:
            text = "waiting for first consumer to be created before binding"
            self.events.normal(claim, "WaitForFirstConsumer", text)

    def _ask_provisioner(self, claim: Object) -> None:
        """Name the provisioner on the claim; the provisioner watches for that."""
        if not class_of(claim):
            text = "no persistent volumes available for this claim and no storage class is set"
            self.events.normal(claim, "FailedBinding", text)
            return
        found = storage_class(self.api, claim)
        if found is None:
            text = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
            self.events.warning(claim, "ProvisioningFailed", text)
            return
        notes = dict.fromkeys(PROVISIONERS, found["provisioner"])
        if all(annotations_of(claim).get(k) == v for k, v in notes.items()):
            return
        self.api.patch(CLAIM, name_of(claim), {"metadata": {"annotations": notes}}, namespace_of(claim))
        text = (
            f'Waiting for a volume to be created either by the external provisioner "{found["provisioner"]}" '
            "or manually by the system administrator. If volume creation is delayed, please verify that the "
            "provisioner is running and correctly registered."
        )
        self.events.normal(claim, "ExternalProvisioning", text)

    def _bind(self, claim: Object, volume: Object) -> None:
        """Bind both halves: the volume's claimRef and phase, then the claim's volumeName and status."""
        ref = spec_of(volume).get("claimRef") or {}
        if ref.get("uid") != uid_of(claim):
            volume = self.api.patch(VOLUME, name_of(volume), _claim_patch(claim, own=not ref))
        self._phase(volume, "Bound")
        notes = {BOUND: "yes"}
        patch: dict[str, Any] = {"metadata": {"annotations": notes}}
        if not spec_of(claim).get("volumeName"):
            notes[BY_CONTROLLER] = "yes"
            patch["spec"] = {"volumeName": name_of(volume)}
        claim = self.api.patch(CLAIM, name_of(claim), patch, namespace_of(claim))
        self._bound_status(claim, volume)

    def _bound_claim(self, claim: Object) -> None:
        """Check a claim that was bound before; without its volume it is lost."""
        name = spec_of(claim).get("volumeName")
        volume = self.api.get(VOLUME, name) if name else None
        if volume is None:
            self._lose(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
        elif not spec_of(volume).get("claimRef") or is_claim_of(volume, claim):
            self._bind(claim, volume)
        else:
            text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            self._lose(claim, "ClaimMisbound", text)

    def _lose(self, claim: Object, reason: str, text: str) -> None:
        if status_of(claim).get("phase") == "Lost":
            return
        patch = {"status": {"phase": "Lost"}}
        self.api.patch(CLAIM, name_of(claim), patch, namespace_of(claim), subresource="status")
        self.events.warning(claim, reason, text)

    def _bound_status(self, claim: Object, volume: Object) -> None:
        status: dict[str, Any] = {"phase": "Bound"}
        if status_of(claim).get("phase") != "Bound":
            status["accessModes"] = spec_of(volume).get("accessModes")
            status["capacity"] = spec_of(volume).get("capacity")
        self.api.patch(CLAIM, name_of(claim), {"status": status}, namespace_of(claim), subresource="status")

    def _phase(self, volume: Object, phase: str) -> None:
        if status_of(volume).get("phase") == phase:
            return
        status = {"phase": phase, "lastPhaseTransitionTime": self.now()}
        self.api.patch(VOLUME, name_of(volume), {"status": status}, subresource="status")


def _names_claim(volume: Object, claim: Object) -> bool:
    ref = spec_of(volume).get("claimRef") or {}
    return (ref.get("namespace"), ref.get("name")) == (namespace_of(claim), name_of(claim))


def _claim_patch(claim: Object, *, own: bool) -> dict[str, Any]:
    """Build the patch that makes a volume the claim's; `own` when the controller chose it."""
    ref = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "resourceVersion": meta(claim)["resourceVersion"],
    }
    note = {"metadata": {"annotations": {BY_CONTROLLER: "yes"}}} if own else {}
    return {"spec": {"claimRef": ref}, **note}
