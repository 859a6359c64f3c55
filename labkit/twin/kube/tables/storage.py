"""The tables of volumes, claims and storage classes."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.tables.cells import UNSET, Cells, access_modes, created, listed, name_of

_CLASS = "volume.beta.kubernetes.io/storage-class"
COLUMNS = {
    "persistentvolumes": (
        "Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age "
        "VolumeMode*"
    ),
    "persistentvolumeclaims": (
        "Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age VolumeMode*"
    ),
    "storageclasses.storage.k8s.io": ("Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age"),
    "volumeattachments.storage.k8s.io": "Name Attacher PV Node Attached Age",
    "csidrivers.storage.k8s.io": (
        "Name AttachRequired PodInfoOnMount StorageCapacity TokenRequests RequiresRepublish Modes Age"
    ),
    "csinodes.storage.k8s.io": "Name Drivers Age",
}


def _class_of(obj: Object) -> str:
    old = obj["metadata"].get("annotations", {}).get(_CLASS)
    return str(old or obj["spec"].get("storageClassName", ""))


def _volume(obj: Object, now: float) -> list[Any]:
    spec, state = obj["spec"], obj.get("status", {})
    claim = spec.get("claimRef")
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else state.get("phase", "")
    return [
        name_of(obj),
        spec.get("capacity", {}).get("storage", ""),
        access_modes(spec.get("accessModes", ())),
        spec.get("persistentVolumeReclaimPolicy", ""),
        phase,
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        state.get("reason", ""),
        created(obj, now),
        spec.get("volumeMode", UNSET),
    ]


def _claim(obj: Object, now: float) -> list[Any]:
    spec, state = obj["spec"], obj.get("status", {})
    bound = bool(spec.get("volumeName"))
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else state.get("phase", "")
    return [
        name_of(obj),
        phase,
        spec.get("volumeName", ""),
        state.get("capacity", {}).get("storage", "") if bound else "",
        access_modes(state.get("accessModes", ())) if bound else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        created(obj, now),
        spec.get("volumeMode", UNSET),
    ]


def _storage_class(obj: Object, now: float) -> list[Any]:
    name = name_of(obj)
    if obj["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true":
        name += " (default)"
    return [
        name,
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        created(obj, now),
    ]


def _attachment(obj: Object, now: float) -> list[Any]:
    spec = obj["spec"]
    volume = spec.get("source", {}).get("persistentVolumeName", "")
    attached = bool(obj.get("status", {}).get("attached"))
    return [name_of(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, created(obj, now)]


def _driver(obj: Object, now: float) -> list[Any]:
    spec = obj["spec"]
    return [
        name_of(obj),
        bool(spec.get("attachRequired")),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        listed((t.get("audience", "") for t in spec.get("tokenRequests", ())), UNSET),
        bool(spec.get("requiresRepublish")),
        listed(spec.get("volumeLifecycleModes", ())),
        created(obj, now),
    ]


def _csi_node(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(obj["spec"].get("drivers") or ()), created(obj, now)]


CELLS: dict[str, Cells] = {
    "persistentvolumes": _volume,
    "persistentvolumeclaims": _claim,
    "storageclasses.storage.k8s.io": _storage_class,
    "volumeattachments.storage.k8s.io": _attachment,
    "csidrivers.storage.k8s.io": _driver,
    "csinodes.storage.k8s.io": _csi_node,
}
