"""Names of Longhorn: its resources, labels, and how it calls what it makes."""

from __future__ import annotations

import hashlib
import re

NAMESPACE = "longhorn-system"
GROUP = "longhorn.io"
VERSION = f"{GROUP}/v1beta2"
DRIVER = "driver.longhorn.io"
FINALIZER = "longhorn.io"
DEFAULT = "default"
"""The backup target that is always there, and the group of volumes without a label."""

VOLUMES = "volumes.longhorn.io"
ENGINES = "engines.longhorn.io"
REPLICAS = "replicas.longhorn.io"
NODES = "nodes.longhorn.io"
SETTINGS = "settings.longhorn.io"
SNAPSHOTS = "snapshots.longhorn.io"
TARGETS = "backuptargets.longhorn.io"
BACKUP_VOLUMES = "backupvolumes.longhorn.io"
BACKUPS = "backups.longhorn.io"
JOBS = "recurringjobs.longhorn.io"
SYSTEM_BACKUPS = "systembackups.longhorn.io"
ATTACHMENTS = "volumeattachments.longhorn.io"
ENGINE_IMAGES = "engineimages.longhorn.io"
INSTANCE_MANAGERS = "instancemanagers.longhorn.io"
KINDS = {
    VOLUMES: "Volume", ENGINES: "Engine", REPLICAS: "Replica", NODES: "Node", SETTINGS: "Setting",
    SNAPSHOTS: "Snapshot", TARGETS: "BackupTarget", BACKUP_VOLUMES: "BackupVolume", BACKUPS: "Backup",
    JOBS: "RecurringJob", SYSTEM_BACKUPS: "SystemBackup", ATTACHMENTS: "VolumeAttachment",
    ENGINE_IMAGES: "EngineImage", INSTANCE_MANAGERS: "InstanceManager",
}  # fmt: skip

VOLUME_LABEL = "longhornvolume"
BACKUP_VOLUME_LABEL = "backup-volume"
TARGET_LABEL = "backup-target"
ACCESS_LABEL = "longhorn.io/volume-access-mode"
ONLY_OBJECT = "longhorn.io/delete-custom-resource-only"
JOB_PREFIX = "recurring-job.longhorn.io/"
GROUP_PREFIX = "recurring-job-group.longhorn.io/"
SOURCE_LABEL = JOB_PREFIX + "source"
KUBERNETES_STATUS = "KubernetesStatus"
JOB_INFO = "VolumeRecurringJobInfo"
_LONGEST = 40


def backup_volume_name(volume: str, target: str, version: str, random: str) -> str:
    """Return the name of a BackupVolume; up to 1.9.0 its end is chance, later a hash of volume and target."""
    if version_tuple(version) < (1, 9, 1):
        return f"{volume}-{random[:8]}"
    return f"{volume}-{hashlib.sha256(f'{volume}-{target}'.encode()).hexdigest()[:8]}"


def version_tuple(version: str) -> tuple[int, ...]:
    """Read `1.10.2` or `v1.10.2` as numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def volume_name(name: str) -> str:
    """Return a name as Longhorn takes it: at most 40 characters, longer ones cut and hashed."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9]}-{hashlib.sha512(name.encode()).hexdigest()[:8]}"


def engine_name(volume: str) -> str:
    """Return the name of a volume's engine."""
    return f"{volume}-e-0"


def selection_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return the labels that choose recurring jobs and groups."""
    return {
        key: value
        for key, value in labels.items()
        if key.startswith((JOB_PREFIX, GROUP_PREFIX)) and key != SOURCE_LABEL
    }
