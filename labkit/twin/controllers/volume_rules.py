"""What makes a claim and a volume fit each other. Pure, but for looking claims and classes up."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Api, Object

from .fit import matches_terms
from .objects import (
    annotations_of,
    is_deleting,
    labels_of,
    matches,
    meta,
    name_of,
    namespace_of,
    quantity,
    spec_of,
    status_of,
    uid_of,
    unstamp,
)

OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
CLASSES = "storageclasses.storage.k8s.io"


def claim_names(pod: Object) -> list[str]:
    """Return the names of the claims that a pod mounts."""
    names = []
    for volume in spec_of(pod).get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            names.append(str(volume["persistentVolumeClaim"]["claimName"]))
        elif "ephemeral" in volume:
            names.append(f"{name_of(pod)}-{volume['name']}")
    return names


def claims_of(api: Api, pod: Object) -> dict[str, Object | None]:
    """Return the claims that a pod mounts, by name; None for one that is not there."""
    return {n: api.get("persistentvolumeclaims", n, namespace_of(pod)) for n in claim_names(pod)}


def class_of(obj: Object) -> str | None:
    """Return the storage class name of a claim or volume; None when a claim leaves it open."""
    found = annotations_of(obj).get(OLD_CLASS, spec_of(obj).get("storageClassName"))
    return None if found is None else str(found)


def storage_class(api: Api, claim: Object) -> Object | None:
    """Return the StorageClass of a claim, None when it names none or one that is not there."""
    name = class_of(claim)
    return api.get(CLASSES, name) if name else None


def default_class(api: Api) -> Object | None:
    """Return the default StorageClass: the youngest of those marked."""
    marked = [c for c in api.list(CLASSES) if annotations_of(c).get(DEFAULT_CLASS) == "true"]
    return max(marked, key=lambda c: (unstamp(meta(c).get("creationTimestamp")), name_of(c)), default=None)


def is_late(api: Api, claim: Object) -> bool:
    """Tell whether a claim waits for its first consumer."""
    found = storage_class(api, claim)
    return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


def requested(claim: Object) -> float:
    """Return the bytes that a claim asks for."""
    return quantity(((spec_of(claim).get("resources") or {}).get("requests") or {}).get("storage", "0"))


def capacity(volume: Object) -> float:
    """Return the bytes that a volume has."""
    return quantity((spec_of(volume).get("capacity") or {}).get("storage", "0"))


def is_claim_of(volume: Object, claim: Object) -> bool:
    """Tell whether a volume's claimRef names the claim (a claimRef without uid is a reservation)."""
    ref = spec_of(volume).get("claimRef") or {}
    named = (ref.get("namespace"), ref.get("name")) == (namespace_of(claim), name_of(claim))
    return named and ref.get("uid", "") in ("", uid_of(claim))


def mismatch(volume: Object, claim: Object) -> str | None:
    """Return why a volume cannot serve a claim, None when it can; the real controller's words."""
    if is_deleting(volume):
        return "volume is being deleted"
    if spec_of(volume).get("volumeMode", "Filesystem") != spec_of(claim).get("volumeMode", "Filesystem"):
        return "incompatible volumeMode"
    if capacity(volume) < requested(claim):
        return "requested PV is too small"
    if (class_of(volume) or "") != (class_of(claim) or ""):
        return "storageClassName does not match"
    wanted = set(spec_of(claim).get("accessModes") or [])
    if not wanted <= set(spec_of(volume).get("accessModes") or []):
        return "incompatible accessMode"
    return None


def best_volume(volumes: list[Object], claim: Object, node: Object | None = None) -> Object | None:
    """Return the volume for a claim: the one reserved for it, else the smallest free one that fits."""
    reserved = [v for v in volumes if spec_of(v).get("claimRef") and is_claim_of(v, claim)]
    for volume in reserved:
        if mismatch(volume, claim) is None:
            return volume
    free = [v for v in volumes if not spec_of(v).get("claimRef") and status_of(v).get("phase") == "Available"]
    selector = spec_of(claim).get("selector")
    fitting = [
        v
        for v in free
        if mismatch(v, claim) is None
        and (selector is None or matches(selector, labels_of(v)))
        and (node is None or pv_allows(v, node))
    ]
    return min(fitting, key=lambda v: (capacity(v), name_of(v)), default=None)


def pv_allows(volume: Object, node: Object) -> bool:
    """Tell whether a volume's node affinity allows a node."""
    required: dict[str, Any] | None = (spec_of(volume).get("nodeAffinity") or {}).get("required")
    return required is None or matches_terms(required, node)
