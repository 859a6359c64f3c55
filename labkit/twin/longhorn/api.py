"""What Longhorn's own API does beyond plain objects: snapshots, backups with all labels, PVs and PVCs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labkit.twin.controllers.objects import name_of, spec_of, status_of
from labkit.twin.kube import status
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.hub import Hub, size_of
from labkit.twin.longhorn.names import (
    BACKUP_VOLUME_LABEL,
    BACKUP_VOLUMES,
    BACKUPS,
    DEFAULT,
    DRIVER,
    KUBERNETES_STATUS,
    SNAPSHOTS,
    TARGET_LABEL,
    VOLUMES,
)

_STATUS_KEYS = ("pvName", "pvStatus", "namespace", "pvcName", "lastPVCRefAt", "workloadsStatus", "lastPodRefAt")
_MODES = {"rwo": "ReadWriteOnce", "rwx": "ReadWriteMany"}


class Actions:
    """Act on volumes by name; every method raises ApiError."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def volume(self, name: str) -> Object:
        """Return a volume."""
        found = self.hub.get(VOLUMES, name)
        if found is None:
            raise status.not_found("volumes", "longhorn.io", name)
        return found

    def snapshot(self, volume: str, name: str = "", labels: Mapping[str, str] | None = None) -> Object:
        """Ask for a snapshot; without a name it gets a UUID."""
        self.volume(volume)
        name = name or self.hub.seed.uuid("snapshot", volume, self.hub.chance("snapshot", volume))
        spec = {"volume": volume, "createSnapshot": True, "labels": dict(labels or {})}
        return self.hub.create(SNAPSHOTS, name, spec)

    def backup(self, volume: str, snapshot: str, labels: Mapping[str, str] | None = None, mode: str = "") -> str:
        """Ask for a backup of a snapshot, labelled with what is known of the volume's claim; return its name."""
        found = self.volume(volume)
        known = status_of(found).get("kubernetesStatus") or {}
        text = (
            {KUBERNETES_STATUS: json.dumps({key: known.get(key) for key in _STATUS_KEYS}, separators=(",", ":"))}
            if known.get("pvName")
            else {}
        )
        name = f"backup-{self.hub.chance('backup', volume, length=16)}"
        target = spec_of(found).get("backupTargetName") or DEFAULT
        self.hub.create(
            BACKUPS, name,
            {"snapshotName": snapshot, "labels": {**(labels or {}), **text}, "backupMode": mode or "incremental"},
            labels={BACKUP_VOLUME_LABEL: volume, TARGET_LABEL: target},
        )  # fmt: skip
        return name

    def make_pv(self, volume: str, given: Mapping[str, Any]) -> Object:
        """Create a PV for a volume, without a claimRef."""
        found = self.volume(volume)
        name = str(given.get("pvName") or volume)
        source: dict[str, Any] = {
            "driver": DRIVER, "fsType": given.get("fsType") or "ext4", "volumeHandle": volume,
            "volumeAttributes": attributes(found),
        }  # fmt: skip
        if spec_of(found).get("encrypted"):
            secret = {
                "name": given.get("secretName") or "longhorn-crypto",
                "namespace": given.get("secretNamespace") or "longhorn-system",
            }
            source |= {"nodeStageSecretRef": secret, "nodePublishSecretRef": dict(secret)}
        made = self.hub.api.create("persistentvolumes", {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": binary(size_of(found))}, "volumeMode": "Filesystem",
                "accessModes": [_MODES[spec_of(found).get("accessMode", "rwo")]], "csi": source,
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": self._class(found, given),
            },
        })  # fmt: skip
        self.hub.status(VOLUMES, volume, {"kubernetesStatus": {"pvName": name, "pvStatus": "Available"}})
        return made

    def make_pvc(self, volume: str, given: Mapping[str, Any]) -> Object:
        """Create a PVC that names the volume's PV; a claimRef that is left over is cleared first."""
        found = self.volume(volume)
        pv = next((p for p in self.hub.api.list("persistentvolumes") if handle_of(p) == volume), None)
        if pv is None:
            raise status.failure(500, "InternalError", f"volume {volume} has no PV yet: create one first")
        phase = status_of(pv).get("phase")
        if phase not in ("Available", "Released", "Pending"):
            raise status.failure(500, "InternalError", f"cannot create PVC for PV {name_of(pv)} with status {phase}")
        if spec_of(pv).get("claimRef"):
            self.hub.api.patch("persistentvolumes", name_of(pv), {"spec": {"claimRef": None}})
        return self.hub.api.create("persistentvolumeclaims", {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": str(given.get("pvcName") or volume), "namespace": str(given.get("namespace") or "")},
            "spec": {
                "accessModes": spec_of(pv)["accessModes"], "volumeName": name_of(pv),
                "resources": {"requests": {"storage": binary(size_of(found))}},
                "storageClassName": spec_of(pv).get("storageClassName", ""),
            },
        })  # fmt: skip

    def _class(self, volume: Object, given: Mapping[str, Any]) -> str:
        if given.get("storageClassName"):
            return str(given["storageClassName"])
        if spec_of(volume).get("fromBackup"):
            source = volume["metadata"].get("labels", {}).get(BACKUP_VOLUME_LABEL, "")
            for backup in self.hub.list(BACKUP_VOLUMES, **{BACKUP_VOLUME_LABEL: source}):
                if status_of(backup).get("storageClassName"):
                    return str(status_of(backup)["storageClassName"])
        return self.hub.settings.text("default-longhorn-static-storage-class")


def attributes(volume: Object) -> dict[str, str]:
    """Return the volume attributes of a PV."""
    spec = spec_of(volume)
    found = {
        "diskSelector": ",".join(spec.get("diskSelector") or ()),
        "nodeSelector": ",".join(spec.get("nodeSelector") or ()),
        "numberOfReplicas": str(spec.get("numberOfReplicas")),
        "staleReplicaTimeout": str(spec.get("staleReplicaTimeout") or 0),
    }  # fmt: skip
    if spec.get("encrypted"):
        found["encrypted"] = "true"
    if spec.get("migratable"):
        found["migratable"] = "true"
    return found


def handle_of(pv: Object) -> str:
    """Return the name of Longhorn's volume behind a PV, "" when it is none of Longhorn's."""
    source = spec_of(pv).get("csi") or {}
    return str(source.get("volumeHandle", "")) if source.get("driver") == DRIVER else ""


def binary(size: int) -> str:
    """Write bytes as a quantity, such as `10Gi`."""
    for number, suffix in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size % (1 << number) == 0 and size:
            return f"{size >> number}{suffix}"
    return str(size)
