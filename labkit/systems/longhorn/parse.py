"""Longhorn's objects as facts. Pure.

What its objects leave open is settled here: numbers in strings, settings that hold JSON, conditions of which some are
bad news when they are true, and labels with JSON in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from labkit.facts.evidence import LABEL
from labkit.facts.longhorn import (
    Backup,
    BackupTarget,
    BackupVolume,
    LonghornDisk,
    LonghornNode,
    RecurringJob,
    Replica,
    RestoreProgress,
    Volume,
)
from labkit.facts.restore import SHA256

Item = Mapping[str, Any]
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_volume(item: Item) -> Volume:
    """Return a volume."""
    metadata, spec, status = item["metadata"], _part(item, "spec"), _part(item, "status")
    known = status.get("kubernetesStatus") or {}
    restore, scheduled = _condition(status, "Restore"), _condition(status, "Scheduled")
    failed = restore.get("reason") == "RestoreFailure"
    return Volume(
        name=str(metadata["name"]),
        size=number(spec.get("size")),
        replicas=number(spec.get("numberOfReplicas")),
        state=str(status.get("state") or ""),
        robustness=str(status.get("robustness") or ""),
        actual_size=number(status.get("actualSize")),
        node=str(status.get("currentNodeID") or ""),
        access_mode=str(spec.get("accessMode") or "rwo"),
        encrypted=bool(spec.get("encrypted")),
        from_backup=str(spec.get("fromBackup") or ""),
        restore_required=bool(status.get("restoreRequired")),
        restore_initiated=bool(status.get("restoreInitiated")),
        restore_failed=str(restore.get("message") or "the restore failed") if failed else "",
        scheduled=scheduled.get("status") != "False",
        unscheduled_because=_why(scheduled) if scheduled.get("status") == "False" else "",
        last_backup=str(status.get("lastBackup") or ""),
        last_backup_at=moment(status.get("lastBackupAt")),
        backup_target=str(spec.get("backupTargetName") or "default"),
        namespace=str(known.get("namespace") or ""),
        claim=str(known.get("pvcName") or ""),
        pv=str(known.get("pvName") or ""),
        labels=_texts(metadata.get("labels")),
        checked=_texts(metadata.get("annotations")).get(SHA256, ""),
        created_at=moment(metadata.get("creationTimestamp")),
        uid=str(metadata.get("uid") or ""),
    )


def parse_progress(engine: Item) -> RestoreProgress | None:
    """Return how far an engine's restore is, the least of its replicas; None when it restores nothing."""
    replicas = (_part(engine, "status").get("restoreStatus") or {}).values()
    if not replicas:
        return None
    errors = sorted({str(one["error"]) for one in replicas if one.get("error")})
    return RestoreProgress(percent=min(number(one.get("progress")) for one in replicas), error="; ".join(errors))


def parse_replica(item: Item) -> Replica:
    """Return a replica."""
    spec, status = _part(item, "spec"), _part(item, "status")
    return Replica(
        name=str(item["metadata"]["name"]),
        volume=str(spec.get("volumeName") or ""),
        node=str(spec.get("nodeID") or ""),
        running=status.get("currentState") == "running",
        failed_at=str(spec.get("failedAt") or ""),
    )


def parse_target(item: Item) -> BackupTarget:
    """Return a backup target; its one condition, Unavailable, is bad news when it is True."""
    spec, status = _part(item, "spec"), _part(item, "status")
    unavailable = _condition(status, "Unavailable")
    bad = unavailable.get("status") == "True"
    return BackupTarget(
        name=str(item["metadata"]["name"]),
        url=str(spec.get("backupTargetURL") or ""),
        available=bool(status.get("available")) and not bad,
        problem=_why(unavailable) if bad else "",
        last_synced=moment(status.get("lastSyncedAt")),
        poll_seconds=int(duration(str(spec.get("pollInterval") or "0"))),
    )


def parse_backup_volume(item: Item) -> BackupVolume:
    """Return a backup volume; before 1.8 its own name was the volume's."""
    name, spec, status = str(item["metadata"]["name"]), _part(item, "spec"), _part(item, "status")
    return BackupVolume(
        name=name,
        volume=str(spec.get("volumeName") or name),
        target=str(spec.get("backupTargetName") or "default"),
        last_backup=str(status.get("lastBackupName") or ""),
        last_backup_at=moment(status.get("lastBackupAt")),
        last_synced=moment(status.get("lastSyncedAt")),
        storage_class=str(status.get("storageClassName") or ""),
        problem=str((status.get("messages") or {}).get("error") or ""),
    )


def parse_backup(item: Item) -> Backup:
    """Return a backup. Its claim comes from the label KubernetesStatus, which one made with kubectl has not."""
    metadata, spec, status = item["metadata"], _part(item, "spec"), _part(item, "status")
    own = _texts(metadata.get("labels"))
    labels = _texts(status.get("labels")) or _texts(spec.get("labels"))
    known = _object(labels.get("KubernetesStatus"))
    return Backup(
        name=str(metadata["name"]),
        volume=str(status.get("volumeName") or own.get("backup-volume") or ""),
        target=str(status.get("backupTargetName") or own.get("backup-target") or "default"),
        state=str(status.get("state") or ""),
        created=moment(status.get("backupCreatedAt")),
        snapshot_created=moment(status.get("snapshotCreatedAt")),
        volume_size=number(status.get("volumeSize")),
        size=number(status.get("size")),
        url=str(status.get("url") or ""),
        namespace=str(known.get("namespace") or ""),
        claim=str(known.get("pvcName") or ""),
        job=labels.get("RecurringJob", ""),
        drill=labels.get(LABEL, ""),
        snapshot=str(spec.get("snapshotName") or status.get("snapshotName") or ""),
        error=str(status.get("error") or (status.get("messages") or {}).get("error") or ""),
        progress=number(status.get("progress")),
        last_synced=moment(status.get("lastSyncedAt")),
    )


def parse_job(item: Item) -> RecurringJob:
    """Return a recurring job."""
    spec = _part(item, "spec")
    return RecurringJob(
        name=str(spec.get("name") or item["metadata"]["name"]),
        task=str(spec.get("task") or ""),
        cron=str(spec.get("cron") or ""),
        retain=number(spec.get("retain")),
        groups=tuple(str(one) for one in spec.get("groups") or ()),
    )


def parse_node(item: Item) -> LonghornNode:
    """Return a node with its disks."""
    spec, status = _part(item, "spec"), _part(item, "status")
    ready, able = _condition(status, "Ready"), _condition(status, "Schedulable")
    states = status.get("diskStatus") or {}
    bad = [one for one in (ready, able) if one.get("status") == "False"]
    return LonghornNode(
        name=str(item["metadata"]["name"]),
        ready=ready.get("status") != "False",
        schedulable=bool(spec.get("allowScheduling", True)) and able.get("status") != "False",
        zone=str(status.get("zone") or ""),
        problem="; ".join(_why(one) for one in bad),
        disks=tuple(
            _disk(name, disk, states.get(name) or {}) for name, disk in sorted((spec.get("disks") or {}).items())
        ),
    )


def _disk(name: str, spec: Item, status: Item) -> LonghornDisk:
    bad = [one for kind in ("Ready", "Schedulable") if (one := _condition(status, kind)).get("status") == "False"]
    return LonghornDisk(
        name=name,
        maximum=number(status.get("storageMaximum")),
        available=number(status.get("storageAvailable")),
        reserved=number(spec.get("storageReserved")),
        scheduled=number(status.get("storageScheduled")),
        schedulable=bool(spec.get("allowScheduling", True)) and not bad,
        problem="; ".join(_why(one) for one in bad),
    )


def parse_setting(item: Item) -> str:
    """Return a setting's value; where 1.10 keeps one per data engine as JSON, that of v1."""
    value = str(item.get("value") or "")
    engines = _object(value)
    return str(engines["v1"]) if "v1" in engines else value


def number(text: object) -> int:
    """Read a number, which Longhorn mostly writes as a string; 0 for what is none."""
    try:
        return int(str(text or 0))
    except ValueError:
        return 0


def moment(text: object) -> datetime | None:
    """Read a time as Longhorn writes it, in UTC; None for "" and for what is none."""
    try:
        found = datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
    if found is None:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def duration(text: str) -> float:
    """Read a duration as Go writes it, such as `5m0s`, in seconds."""
    if text.isdecimal():
        return float(text)
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text))


def _part(item: Item, name: str) -> Item:
    found = item.get(name)
    return found if isinstance(found, Mapping) else {}


def _condition(status: Item, kind: str) -> Item:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})


def _why(condition: Item) -> str:
    said = str(condition.get("message") or "").strip()
    return said or str(condition.get("reason") or f"{condition.get('type')} is {condition.get('status')}")


def _texts(labels: object) -> dict[str, str]:
    if not isinstance(labels, Mapping):
        return {}
    return {str(key): value for key, value in labels.items() if isinstance(value, str)}


def _object(text: object) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) and text.startswith("{") else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
