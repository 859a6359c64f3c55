"""A backup brought back into a scratch volume, made usable to a pod, and all of it removed again.

Everything carries the label `labkit.io/drill`, so that a drill that was interrupted is found by it. The volume is in a
group of recurring jobs of its own that no job names: else the group `default` would back it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.evidence import LABEL
from labkit.facts.longhorn import DRIVER, GROUP_LABEL, NAMESPACE, Backup
from labkit.systems.access import Access, Step
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.parse import parse_progress, parse_volume
from labkit.systems.longhorn.paths import VERSION, own

_PVS = "/api/v1/persistentvolumes"
_LEAST_SECONDS = 900.0
_BYTES_PER_SECOND = 10 << 20
_GONE_SECONDS = 300.0
_DETACH_SECONDS = 300.0


@dataclass(frozen=True)
class Scratch:
    """The names of what one drill makes.

    Attributes:
        name: of the namespace and of the Longhorn volume; PersistentVolumes and claims begin with it.
        label: the value of the drill's label: which claim it is for.
        volume: the Longhorn volume that is looked at, where it is one that stays; the scratch volume when empty.
    """

    name: str
    label: str
    volume: str = ""

    @property
    def handle(self) -> str:
        """The Longhorn volume that pods get to see."""
        return self.volume or self.name

    @property
    def labels(self) -> dict[str, str]:
        """What everything of it is labelled with."""
        return {LABEL: self.label}


def restore(cluster: Cluster, access: Access, step: Step, scratch: Scratch, backup: Backup) -> None:
    """Make the scratch volume from a backup, with one replica, and wait until all of it is there.

    Raises:
        StepFailed: Longhorn refuses it, finds no room for it, fails, or takes too long.
    """
    cluster.post(own("volumes"), {
        "apiVersion": VERSION, "kind": "Volume",
        "metadata": {"name": scratch.name, "namespace": NAMESPACE,
                     "labels": {**scratch.labels, f"{GROUP_LABEL}labkit-drill": "enabled"}},
        "spec": {"fromBackup": backup.url, "size": str(backup.volume_size), "numberOfReplicas": 1,
                 "frontend": "blockdev", "accessMode": "rwo", "dataEngine": "v1", "staleReplicaTimeout": 30,
                 "restoreVolumeRecurringJob": "disabled"},
    })  # fmt: skip
    _wait_until_restored(cluster, access, step, scratch, max(_LEAST_SECONDS, backup.size / _BYTES_PER_SECOND))


def _wait_until_restored(cluster: Cluster, access: Access, step: Step, scratch: Scratch, deadline: float) -> None:
    told = ["it was made"]

    def probe() -> bool | None:
        volume = parse_volume(cluster.get(own("volumes", scratch.name)))
        if volume.restore_failed:
            raise StepFailed(f"restore of {scratch.label}: expected all blocks, got: {_error(cluster, scratch)}",
                             next_step="run backup-drill again with full, which writes every block anew")  # fmt: skip
        if not volume.is_restoring and volume.state == "detached":
            return True
        said = volume.unscheduled_because or f"restores {_percent(cluster, scratch)} %, {volume.state or 'new'}"
        if said != told[0]:
            told[0] = said
            step.say(said)
        return None

    access.wait(probe, what=f"restore of {scratch.label}", deadline=deadline, every=1.0, last=lambda: told[0],
                causes="is there room on the nodes' disks, does the NAS answer, do other restores run? "
                       "kubectl -n longhorn-system get volumes,engines")  # fmt: skip


def _engine(cluster: Cluster, scratch: Scratch) -> Mapping[str, Any] | None:
    return next(cluster.items(own("engines"), labelSelector=f"longhornvolume={scratch.name}"), None)


def _percent(cluster: Cluster, scratch: Scratch) -> int:
    engine = _engine(cluster, scratch)
    found = parse_progress(engine) if engine is not None else None
    return found.percent if found is not None else 0


def _error(cluster: Cluster, scratch: Scratch) -> str:
    engine = _engine(cluster, scratch)
    found = parse_progress(engine) if engine is not None else None
    return found.error if found is not None and found.error else "Longhorn does not say why"


def make_namespace(cluster: Cluster, scratch: Scratch) -> None:
    """Create the scratch namespace; pods in it need root to read every file, and nothing else."""
    cluster.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace",
                                        "metadata": {"name": scratch.name, "labels": scratch.labels}})  # fmt: skip


def bind(cluster: Cluster, scratch: Scratch, suffix: str, *, size: int, block: bool, fs_type: str) -> str:
    """Make a PersistentVolume for the scratch volume and a claim bound to it; return the claim's name.

    Args:
        cluster: where it is made.
        scratch: the names.
        suffix: tells this pair from others of the same volume.
        size: of the volume, in bytes.
        block: as a bare device, not as a file system.
        fs_type: of the file system on it.
    """
    name, mode = f"{scratch.name}-{suffix}", "Block" if block else "Filesystem"
    cluster.post(_PVS, {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "labels": scratch.labels},
        "spec": {
            "capacity": {"storage": str(size)}, "accessModes": ["ReadWriteOnce"], "volumeMode": mode,
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            "claimRef": {"namespace": scratch.name, "name": name},
            "csi": {"driver": DRIVER, "volumeHandle": scratch.handle,
                    **({} if block else {"fsType": fs_type or "ext4"}),
                    "volumeAttributes": {"numberOfReplicas": "1", "staleReplicaTimeout": "30"}},
        },
    })  # fmt: skip
    cluster.post(f"/api/v1/namespaces/{scratch.name}/persistentvolumeclaims", {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "labels": scratch.labels},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": mode, "storageClassName": "", "volumeName": name,
                 "resources": {"requests": {"storage": str(size)}}},
    })  # fmt: skip
    return name


def unbind(cluster: Cluster, access: Access, scratch: Scratch, claim: str) -> None:
    """Remove a claim and its PersistentVolume, and wait until the volume is detached, so that the next can have it."""
    cluster.delete(f"/api/v1/namespaces/{scratch.name}/persistentvolumeclaims/{claim}")
    cluster.delete(f"{_PVS}/{claim}")

    def probe() -> bool | None:
        free = parse_volume(cluster.get(own("volumes", scratch.handle))).state == "detached"
        return True if free and cluster.find(f"{_PVS}/{claim}") is None else None

    access.wait(probe, what=f"volume {scratch.handle}", deadline=_DETACH_SECONDS, every=1.0,
                last=lambda: "it is still attached",
                causes="look at its attachment in Longhorn's interface")  # fmt: skip


def clear(cluster: Cluster, access: Access, scratch: Scratch) -> int:
    """Remove all that a drill of this name made, and wait until it is gone; return how many objects there were.

    Pods and claims go first, then what they were bound to, the volume last: so nothing is taken from under a mount.
    """
    selector = f"{LABEL}={scratch.label}"
    pvs = [f"{_PVS}/{one['metadata']['name']}" for one in cluster.items(_PVS, labelSelector=selector)]
    turns = ([f"/api/v1/namespaces/{scratch.name}"], pvs, [own("volumes", scratch.name)])
    return sum(_remove(cluster, access, scratch, paths) for paths in turns)


def _remove(cluster: Cluster, access: Access, scratch: Scratch, paths: list[str]) -> int:
    left = [path for path in paths if cluster.delete(path)]
    count = len(left)

    def probe() -> bool | None:
        left[:] = [path for path in left if cluster.find(path) is not None]
        return None if left else True

    access.wait(probe, what=f"removal of {scratch.name}", deadline=_GONE_SECONDS, every=1.0,
                last=lambda: f"still there: {', '.join(left)}",
                causes="the next run of backup-drill removes what is left")  # fmt: skip
    return count
