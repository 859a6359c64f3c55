"""How Longhorn's objects look when they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labkit.twin.controllers.objects import name_of, spec_of, with_condition
from labkit.twin.kube.door import Object

NO_KUBERNETES: Mapping[str, Any] = {
    "lastPVCRefAt": "", "lastPodRefAt": "", "namespace": "", "pvName": "", "pvStatus": "", "pvcName": "",
    "workloadsStatus": None,
}  # fmt: skip
"""The Kubernetes status of a volume that no PV names."""


def engine_spec(volume: Object) -> dict[str, Any]:
    """Return the spec of a volume's engine."""
    spec = spec_of(volume)
    return {
        "active": True, "backupVolume": "", "dataEngine": spec.get("dataEngine", "v1"), "desireState": "stopped",
        "disableFrontend": False, "frontend": spec.get("frontend", "blockdev"), "image": spec.get("image", ""),
        "nodeID": "", "replicaAddressMap": {}, "requestedBackupRestore": "", "requestedDataSource": "",
        "revisionCounterDisabled": True, "snapshotMaxCount": spec.get("snapshotMaxCount", 250),
        "volumeName": name_of(volume), "volumeSize": str(spec.get("size", "0")),
    }  # fmt: skip


def replica_spec(volume: Object, engine: str, directory: str) -> dict[str, Any]:
    """Return the spec of a replica that has no place yet; `directory` is where its files will be."""
    spec = spec_of(volume)
    return {
        "active": True, "backingImage": "", "dataDirectoryName": directory,
        "dataEngine": spec.get("dataEngine", "v1"), "desireState": "stopped", "diskID": "", "diskPath": "",
        "engineName": engine, "failedAt": "", "hardNodeAffinity": "", "healthyAt": "", "image": spec.get("image", ""),
        "nodeID": "", "lastFailedAt": "", "lastHealthyAt": "", "evictionRequested": False,
        "volumeName": name_of(volume), "volumeSize": str(spec.get("size", "0")),
    }  # fmt: skip


def set_condition(
    conditions: Iterable[Mapping[str, Any]] | None,
    kind: str,
    state: str,
    now: str,
    *why: str,
) -> list[dict[str, Any]]:
    """Return conditions with one of them set, with all fields that Longhorn writes; `why` is reason and message."""
    reason, message = [*why, "", ""][:2]
    return with_condition(conditions, kind, state, now, reason=reason, message=message, lastProbeTime="")
