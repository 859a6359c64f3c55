"""How Longhorn's REST service shows its objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.twin.controllers.objects import labels_of, meta, name_of, spec_of, status_of
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.hub import Hub, is_restoring
from labkit.twin.longhorn.names import GROUP_PREFIX, JOB_PREFIX, selection_labels

Form = dict[str, Any]
_VOLUME_ACTIONS = (
    "attach", "detach", "snapshotCreate", "snapshotList", "snapshotGet", "snapshotDelete", "snapshotBackup", "pvCreate",
    "pvcCreate", "recurringJobAdd", "recurringJobDelete", "recurringJobList", "updateReplicaCount", "activate",
)  # fmt: skip


def entity(kind: str, name: str, base: str, fields: Form, actions: Iterable[str] = ()) -> Form:
    """Return one object with its links."""
    own = f"{base}/{kind.lower()}s/{name}"
    return {
        "id": name, "type": kind, "links": {"self": own}, "actions": {a: f"{own}?action={a}" for a in actions},
        "name": name, **fields,
    }  # fmt: skip


def collection(kind: str, base: str, plural: str, data: list[Form]) -> Form:
    """Return a list of objects."""
    return {"type": "collection", "resourceType": kind, "links": {"self": f"{base}/{plural}"}, "data": data}


def error(code: int, text: str) -> Form:
    """Return what stands for an error."""
    return {"type": "error", "code": "Server Error" if code == 500 else "Not Found", "status": code, "message": text,
            "detail": "", "links": {}, "actions": {}}  # fmt: skip


def volume_form(hub: Hub, volume: Object, base: str) -> Form:
    """Return a volume with its replicas, engine and what it restores."""
    name, spec, status = name_of(volume), spec_of(volume), status_of(volume)
    engine = hub.engine(name) or {}
    modes = status_of(engine).get("replicaModeMap") or {}
    state = status.get("state", "")
    kept = ("size", "numberOfReplicas", "frontend", "accessMode", "fromBackup", "dataLocality", "dataEngine",
            "encrypted", "backupCompressionMethod", "staleReplicaTimeout", "backupTargetName", "image")  # fmt: skip
    shown = ("state", "robustness", "restoreRequired", "restoreInitiated", "lastBackup", "lastBackupAt",
             "kubernetesStatus", "currentImage", "shareEndpoint", "shareState")  # fmt: skip
    return entity("volume", name, base, {
        **{key: spec.get(key, "") for key in kept}, **{key: status.get(key, "") for key in shown},
        "standby": bool(spec.get("Standby")), "nodeSelector": spec.get("nodeSelector") or [],
        "ready": state in ("attached", "detached") and not is_restoring(volume)
        and status.get("robustness") != "faulted",
        "created": meta(volume).get("creationTimestamp", ""),
        "conditions": {c["type"]: c for c in status.get("conditions") or ()},
        "recurringJobSelector": selectors(volume),
        "replicas": [_replica(r, modes) for r in hub.replicas(name)],
        "controllers": [_controller(engine, status)] if engine else [],
        "backupStatus": [
            {"id": ident, **one} for ident, one in (status_of(engine).get("backupStatus") or {}).items()
        ],
        "restoreStatus": [
            {**one, "replica": address} for address, one in (status_of(engine).get("restoreStatus") or {}).items()
        ],
    }, _VOLUME_ACTIONS)  # fmt: skip


def selectors(volume: Object) -> list[Form]:
    """Return the jobs and groups that a volume has chosen."""
    found = []
    for key in selection_labels(labels_of(volume)):
        group = key.startswith(GROUP_PREFIX)
        found.append({"name": key.removeprefix(GROUP_PREFIX).removeprefix(JOB_PREFIX), "isGroup": group})
    return found


def _replica(replica: Object, modes: dict[str, str]) -> Form:
    spec, status = spec_of(replica), status_of(replica)
    return {
        "name": name_of(replica), "hostId": spec.get("nodeID", ""), "diskID": spec.get("diskID", ""),
        "diskPath": spec.get("diskPath", ""), "mode": modes.get(name_of(replica), ""), "address": "",
        "dataPath": f"{spec.get('diskPath', '')}replicas/{spec.get('dataDirectoryName', '')}",
        "failedAt": spec.get("failedAt", ""), "running": status.get("currentState") == "running",
        "dataEngine": spec.get("dataEngine", "v1"), "image": spec.get("image", ""),
    }  # fmt: skip


def _controller(engine: Object, volume: Form) -> Form:
    status = status_of(engine)
    return {
        "name": name_of(engine), "hostId": volume.get("currentNodeID", ""), "address": "",
        "endpoint": status.get("endpoint", ""), "running": status.get("currentState") == "running",
        "actualSize": str(volume.get("actualSize", 0)), "size": status.get("currentSize", ""),
        "lastRestoredBackup": status.get("lastRestoredBackup", ""), "isExpanding": False,
        "requestedBackupRestore": spec_of(engine).get("requestedBackupRestore", ""),
    }  # fmt: skip


def snapshot_form(snapshot: Object) -> Form:
    """Return a snapshot."""
    status = status_of(snapshot)
    return {
        "id": name_of(snapshot), "type": "snapshot", "name": name_of(snapshot), "links": {}, "actions": {},
        "created": status.get("creationTime", ""), "size": str(status.get("size", 0)),
        "parent": status.get("parent", ""),
        "children": status.get("children") or {}, "labels": spec_of(snapshot).get("labels") or {},
        "removed": bool(status.get("markRemoved")), "usercreated": bool(status.get("userCreated", True)),
    }  # fmt: skip


def backup_form(backup: Object, base: str) -> Form:
    """Return a backup."""
    status = status_of(backup)
    return entity("backup", name_of(backup), base, {
        "state": status.get("state", ""), "progress": status.get("progress", 0), "error": status.get("error", ""),
        "url": status.get("url", ""), "snapshotName": status.get("snapshotName") or spec_of(backup).get("snapshotName"),
        "snapshotCreated": status.get("snapshotCreatedAt", ""), "created": status.get("backupCreatedAt", ""),
        "size": status.get("size", ""), "labels": status.get("labels") or {}, "messages": status.get("messages"),
        "volumeName": status.get("volumeName", ""), "volumeSize": status.get("volumeSize", ""),
        "volumeCreated": status.get("volumeCreated", ""), "compressionMethod": status.get("compressionMethod", ""),
        "backupTargetName": status.get("backupTargetName", ""),
    })  # fmt: skip


def backup_volume_form(found: Object, base: str) -> Form:
    """Return a backup volume."""
    spec, status = spec_of(found), status_of(found)
    fields = ("size", "labels", "lastBackupName", "lastBackupAt", "dataStored", "messages", "storageClassName")
    return entity("backupVolume", name_of(found), base, {
        **{key: status.get(key) for key in fields}, "created": status.get("createdAt", ""),
        "volumeName": spec.get("volumeName", ""), "backupTargetName": spec.get("backupTargetName", ""),
    }, ("backupList", "backupGet", "backupDelete", "backupVolumeSync"))  # fmt: skip


def target_form(target: Object, base: str) -> Form:
    """Return a backup target."""
    spec, status = spec_of(target), status_of(target)
    message = next((c["message"] for c in status.get("conditions") or () if c["status"] == "True"), "")
    return entity("backupTarget", name_of(target), base, {
        "backupTargetURL": spec.get("backupTargetURL", ""), "credentialSecret": spec.get("credentialSecret", ""),
        "pollInterval": spec.get("pollInterval", ""), "available": bool(status.get("available")), "message": message,
    }, ("backupTargetSync", "backupTargetUpdate", "backupTargetDelete"))  # fmt: skip


def node_form(node: Object, base: str) -> Form:
    """Return a node with its disks."""
    spec, status = spec_of(node), status_of(node)
    disks = {
        name: {**disk, **((status.get("diskStatus") or {}).get(name) or {})}
        for name, disk in (spec.get("disks") or {}).items()
    }
    return entity("node", name_of(node), base, {
        "allowScheduling": spec.get("allowScheduling"), "evictionRequested": spec.get("evictionRequested"),
        "tags": spec.get("tags") or [], "zone": status.get("zone", ""), "region": status.get("region", ""),
        "conditions": {c["type"]: c for c in status.get("conditions") or ()}, "disks": disks,
    })  # fmt: skip


def setting_form(setting: Object, base: str) -> Form:
    """Return a setting."""
    return entity("setting", name_of(setting), base, {"value": setting.get("value", ""), "applied": True})


def job_form(job: Object, base: str) -> Form:
    """Return a recurring job."""
    return entity("recurringJob", name_of(job), base, dict(spec_of(job)))
