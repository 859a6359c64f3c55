"""Volumes made from backups: created once, found again when half restored, and waited for with what holds them up."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import StepFailed, counted
from labkit.facts.longhorn import NAMESPACE, Backup, Volume
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.waiting import ask_patiently
from labkit.systems.kubernetes import Cluster, KubeError
from labkit.systems.longhorn.parse import parse_backup, parse_progress, parse_setting, parse_volume
from labkit.systems.longhorn.paths import VERSION, own

LIMIT = "concurrent-volume-backup-restore-per-node-limit"
DEGRADED = "allow-volume-creation-with-degraded-availability"
_LEAST_SECONDS = 1800.0
_BYTES_PER_SECOND = 10 << 20
"""What a slow NAS gives in a second; a deadline is at least as long as the volume's bytes need at that."""
_PATIENCE = 300.0
"""Lab seconds that a volume may be without room for its replicas: a node may just be coming back."""
_EVERY = 1.0
_STALE_MINUTES = 30


def apply_restored_volume(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make a volume from a backup and wait until it is restored; one that is there from that backup is gone on with.

    Raises:
        StepFailed: a volume of that name is something else, Longhorn refuses it, or the restore failed or stands
            still; says why.
    """
    cluster = open_cluster(lab, access)
    check_limit(cluster)
    name, backup = change.target, str(change.after["backup"])
    found = find_volume(cluster, name)
    if found is None:
        _create(cluster, change, _backup(cluster, backup, str(change.after["of"])))
        step.say(f"asked for {name} from {backup}")
    else:
        _check_same(found, backup)
        if not found.is_restoring and not found.restore_failed:
            return _grown(cluster, access, change, f"restored from {backup} before")
        step.say(f"{name} is being restored from {backup} already")
    wait_for_restore(lab, access, step, name, size=_number(change.after.get("size")))
    return _grown(cluster, access, change, f"restored from {backup}, as of {change.after.get('taken')}")


def apply_empty_volume(lab: Lab, access: Access, change: Change, _step: Step) -> str:
    """Make an empty volume under the name that Git pins, for a claim that has no backup to come back from.

    Raises:
        StepFailed: Longhorn refuses it.
    """
    cluster = open_cluster(lab, access)
    if find_volume(cluster, change.target) is None:
        _post(cluster, volume_body(change.target, change.after, ""))
    return "made, and empty"


def find_volume(cluster: Cluster, name: str) -> Volume | None:
    """Return a volume as it is now, or None."""
    item = cluster.find(own("volumes", name))
    return parse_volume(item) if item is not None else None


def check_limit(cluster: Cluster) -> None:
    """Raise StepFailed when Longhorn is set to run no restore at all."""
    item = cluster.find(own("settings", LIMIT))
    if item is not None and parse_setting(item) == "0":
        raise StepFailed(f"Longhorn's setting {LIMIT}: expected 1 or more, got 0: no restore would ever begin",
                         next_step="set it to 5, its default, in Longhorn's Helm values, then run again")  # fmt: skip


def _backup(cluster: Cluster, name: str, volume: str) -> Backup:
    """The backup as the cluster knows it: Longhorn makes no volume from one that it has not listed."""
    item = cluster.find(own("backups", name))
    found = parse_backup(item) if item is not None else None
    if found is None or found.state != "Completed" or not found.url:
        got = f"it {found.state or 'unread'}" if found is not None else "none of that name"
        raise StepFailed(
            f"backup {name} of volume {volume}: expected it Completed in the cluster, got {got}",
            next_step="look whether Longhorn's backup target is the folder that nas.store names",
        )
    if found.volume != volume:
        raise StepFailed(f"backup {name}: expected one of volume {volume}, got one of {found.volume}",
                         next_step="run again: the plan is made anew")  # fmt: skip
    return found


def _create(cluster: Cluster, change: Change, backup: Backup) -> None:
    _post(cluster, volume_body(change.target, change.after, backup.url))
    _check_same(parse_volume(cluster.get(own("volumes", change.target))), backup.name)


def _post(cluster: Cluster, body: Mapping[str, Any]) -> None:
    """Make a volume; one of that name that somebody else has just made is left as it is."""
    try:
        cluster.post(own("volumes"), body)
    except KubeError as exc:
        if exc.status == 409:
            return
        raise StepFailed(
            f"volume {body['metadata']['name']}: expected Longhorn to take it, got {exc.status}: {exc.said}",
            next_step="look at Longhorn's managers: kubectl -n longhorn-system get pods",
        ) from exc


def volume_body(name: str, after: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Return the manifest of a volume that is made from a backup. Pure.

    What a backup does not say must stand here: replicas, selectors, encryption. `frontend` has no default in
    Longhorn's webhook, and `size` is a number in a string.
    """
    spec: dict[str, Any] = {
        "size": str(after["size"]), "frontend": "blockdev", "accessMode": after["access"],
        "dataEngine": "v1", "staleReplicaTimeout": int(after.get("staleReplicaTimeout") or _STALE_MINUTES),
    }  # fmt: skip
    if url:
        spec["fromBackup"] = url
    if after.get("replicas"):
        spec["numberOfReplicas"] = after["replicas"]
    if after.get("dataLocality"):
        spec["dataLocality"] = after["dataLocality"]
    for key in ("nodeSelector", "diskSelector"):
        if after.get(key):
            spec[key] = [word.strip() for word in str(after[key]).split(",")]
    if after.get("encrypted") == "true":
        spec["encrypted"] = True
    metadata = {"name": name, "namespace": NAMESPACE, "labels": dict(after.get("labels") or {})}
    return {"apiVersion": VERSION, "kind": "Volume", "metadata": metadata, "spec": spec}


def _check_same(found: Volume, backup: str) -> None:
    if f"backup={backup}" not in found.from_backup:
        raise StepFailed(
            f"volume {found.name}: expected none, or one from {backup}, got one "
            f"{f'from {found.from_backup}' if found.from_backup else 'with data of its own'}: nothing is overwritten",
            next_step="run again: the plan is made anew, with another name",
        )


class VolumeView:
    """The volumes and their restores as they were a moment ago: many who wait share one question."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._at: dict[Path, float] = {}
        self._seen: dict[Path, dict[str, Volume]] = {}

    def find(self, lab: Lab, access: Access, name: str) -> Volume | None:
        """Return a volume, read within the last lab second; None when there is none of that name."""
        place, now = access.state, access.clock.monotonic()
        with self._guard:
            if place not in self._at or now - self._at[place] > _EVERY:
                self._seen[place] = _restores(open_cluster(lab, access))
                self._at[place] = access.clock.monotonic()
            return self._seen[place].get(name)


def _restores(cluster: Cluster) -> dict[str, Volume]:
    volumes = {one.name: one for one in map(parse_volume, cluster.items(own("volumes")))}
    if any(one.is_restoring or one.restore_failed for one in volumes.values()):
        for engine in cluster.items(own("engines")):
            name = str((engine.get("spec") or {}).get("volumeName") or "")
            if name in volumes and (progress := parse_progress(engine)) is not None:
                volumes[name] = volumes[name].model_copy(update={"restore": progress})
    return volumes


_view = VolumeView()


def wait_for_restore(lab: Lab, access: Access, step: Step, name: str, *, size: int = 0) -> Volume:
    """Wait until a volume is restored and detached again.

    Args:
        lab: whose cluster it is in.
        access: the lab's clock.
        step: is told how far it is.
        name: of the volume.
        size: of the device in bytes; the deadline grows with it.

    Raises:
        StepFailed: it failed, finds no room, or does not end; says why.
    """
    watch = RestoreWatch(access, step, name)

    def probe() -> Volume | None:
        found = ask_patiently(lambda: (_view.find(lab, access, name),))
        return None if found is None else watch.look(found[0])

    return access.wait(probe, what=f"restore of volume {name}", deadline=max(_LEAST_SECONDS, size / _BYTES_PER_SECOND),
                       every=_EVERY, last=lambda: watch.seen, causes=_CAUSES)  # fmt: skip


_CAUSES = (
    f"look at Longhorn's nodes and disks, at the NAS, and at the settings {LIMIT} and {DEGRADED}: with the latter "
    "false and a node short the restore never ends; run again and it is gone on with"
)


class RestoreWatch:
    """What the wait for one restore has seen."""

    def __init__(self, access: Access, step: Step, name: str) -> None:
        self._clock, self._step, self._name = access.clock, step, name
        self._patience = access.clock.real(_PATIENCE, least=5.0) / access.clock.scale
        self._cramped: float | None = None
        self._missed = 0
        self.seen = "it has not begun"

    def look(self, volume: Volume | None) -> Volume | None:
        """Return the volume when its restore is over; None while it goes on.

        Raises:
            StepFailed: it will not end by itself.
        """
        if volume is None:
            self._gone()
            return None
        self._missed = 0
        if volume.restore_failed:
            raise self._failed(volume)
        if volume.restore_initiated and not volume.restore_required and volume.state == "detached":
            return volume
        self._room(volume)
        self._tell(volume)
        return None

    def _gone(self) -> None:
        """A list may be a moment older than the volume."""
        self._missed += 1
        if self._missed > 3:
            raise StepFailed(f"volume {self._name}: expected it to be restored, got none: somebody has deleted it",
                             next_step="run again: it is restored anew")  # fmt: skip

    def _failed(self, volume: Volume) -> StepFailed:
        said = volume.restore.error if volume.restore is not None and volume.restore.error else volume.restore_failed
        return StepFailed(
            f"volume {self._name}: expected it to be restored from {volume.from_backup}, got: {said}",
            next_step="look at the NAS; run again: the store is verified first, and a damaged backup passed over; the "
            f"failed volume {self._name} stays, delete it when you know that it is not needed",
        )

    def _room(self, volume: Volume) -> None:
        """Say soon when replicas find no place: nothing of it changes by waiting."""
        if volume.scheduled:
            self._cramped = None
            return
        now = self._clock.monotonic()
        self._cramped = now if self._cramped is None else self._cramped
        if now - self._cramped > self._patience:
            raise StepFailed(
                f"volume {self._name}: expected room for {counted(volume.replicas, 'replica')} "
                f"of {volume.size / 2**30:g} GiB, got: {volume.unscheduled_because}",
                next_step="add a disk or a node, or free room in Longhorn, then run again: the restore is gone on with",
            )

    def _tell(self, volume: Volume) -> None:
        text = volume.state or "created"
        if volume.restore is not None:
            text = f"{volume.restore.percent} %"
        if not volume.scheduled:
            text = f"no room yet: {volume.unscheduled_because}"
        if text != self.seen:
            self.seen = text
            self._step.say(f"{self._name}: {text}")


def _grown(cluster: Cluster, access: Access, change: Change, text: str) -> str:
    """Make a volume as large as its claim asks for, where it has grown since the backup."""
    size = _number(change.after.get("grow"))
    found = find_volume(cluster, change.target)
    if not size or found is None or found.size >= size:
        return text
    cluster.patch(own("volumes", change.target), {"spec": {"size": str(size)}})

    def probe() -> bool | None:
        item = cluster.get(own("volumes", change.target))
        seen = parse_volume(item)
        waits = (item.get("status") or {}).get("expansionRequired")
        return True if seen.size >= size and not waits and seen.state == "detached" else None

    access.wait(probe, what=f"volume {change.target} grown to {size} bytes", deadline=_PATIENCE, every=_EVERY,
                last=lambda: "it has not grown", causes="look at the volume in Longhorn's interface")  # fmt: skip
    return f"{text}; grown to {size} bytes"


def _number(value: object) -> int:
    return int(str(value)) if value else 0
