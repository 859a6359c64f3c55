"""Backups taken now, through Longhorn's own API, so that they carry what a restore needs to know of their claim."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from labkit.errors import StepFailed
from labkit.facts.evidence import PREFIX
from labkit.facts.longhorn import Backup, BackupTarget, Volume
from labkit.systems.access import Access, Step
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.parse import parse_backup, parse_target, parse_volume
from labkit.systems.longhorn.paths import own, volume_act

_SNAPSHOT_SECONDS = 300.0
_LEAST_SECONDS = 900.0
_BYTES_PER_SECOND = 10 << 20
"""What a slow NAS takes in a second; a deadline is at least as long as a volume's bytes need at that."""
_SLOW = "look at Longhorn's engine and at the NAS; a backup that goes on after this is found by the next run"


def take_backup(
    cluster: Cluster,
    access: Access,
    step: Step,
    volume: str,
    *,
    labels: Mapping[str, str] | None = None,
    mode: str = "incremental",
) -> Backup:
    """Take a snapshot of a volume and back it up; wait until that is complete.

    The snapshot goes afterwards, as those of recurring jobs do. A volume that is not attached is attached by Longhorn
    for that time.

    Args:
        cluster: where Longhorn is.
        access: for its time.
        step: is told how far it is.
        volume: its name.
        labels: put on the backup, in the store too.
        mode: incremental, or full: every block is written again, which mends damaged ones.

    Raises:
        StepFailed: the target is not available, Longhorn refuses it, or the backup failed or took too long.
    """
    found = _volume(cluster, volume)
    _check_target(cluster, found)
    snapshot = f"{PREFIX}{secrets.token_hex(6)}"
    volume_act(cluster, volume, "snapshotCreate", {"name": snapshot, "labels": dict(labels or {})})
    _wait_for_snapshot(cluster, access, volume, snapshot)
    body = {"name": snapshot, "labels": dict(labels or {}), "backupMode": mode}
    volume_act(cluster, volume, "snapshotBackup", body)
    # After a time-out the backup may still go on, and needs its snapshot: the next run removes that.
    done = _wait_for_backup(cluster, access, step, found, snapshot)
    cluster.delete(own("snapshots", snapshot))
    return done


def _volume(cluster: Cluster, name: str) -> Volume:
    item = cluster.find(own("volumes", name))
    if item is None:
        raise StepFailed(f"volume {name}: expected it in Longhorn, got none", next_step="read again, and plan again")
    found = parse_volume(item)
    if found.robustness == "faulted":
        raise StepFailed(
            f"volume {name}: expected a good replica to back up from, got none: it is faulted",
            next_step="salvage it in Longhorn's interface, or restore it: run disaster-recovery",
        )
    return found


def _check_target(cluster: Cluster, volume: Volume) -> BackupTarget:
    """Refuse early what Longhorn refuses late."""
    item = cluster.find(own("backuptargets", volume.backup_target))
    target = parse_target(item) if item else None
    if target is None or not target.available:
        got = "no such target" if target is None else target.problem or "one that is not"
        raise StepFailed(
            f"volume {volume.name}: expected backup target {volume.backup_target} to be available, got {got}",
            next_step="look at the NAS and its NFS service; Longhorn looks again at its poll interval",
        )
    return target


def _wait_for_snapshot(cluster: Cluster, access: Access, volume: str, snapshot: str) -> None:
    seen = ["it is not there"]

    def probe() -> bool | None:
        status = (cluster.find(own("snapshots", snapshot)) or {}).get("status") or {}
        seen[0] = str(status.get("error") or "it is not ready")
        return True if status.get("readyToUse") else None

    access.wait(probe, what=f"snapshot of volume {volume}", deadline=_SNAPSHOT_SECONDS, every=1.0,
                last=lambda: seen[0], causes="look at the volume: is it attached, or can it be?")  # fmt: skip


def _wait_for_backup(cluster: Cluster, access: Access, step: Step, volume: Volume, snapshot: str) -> Backup:
    told = [""]

    def probe() -> Backup | None:
        items = cluster.items(own("backups"), labelSelector=f"backup-volume={volume.name}")
        found = next((one for one in map(parse_backup, items) if one.snapshot == snapshot), None)
        if found is None:
            return None
        text = f"{found.name}: {found.state or 'Pending'} {found.progress} %"
        if text != told[0]:
            told[0] = text
            step.say(text)
        if found.state in ("Error", "Unknown"):
            raise StepFailed(
                f"backup {found.name} of volume {volume.name}: expected it Completed, got {found.state}: {found.error}",
                next_step="look at the NAS: is it there, has it room, may Longhorn write?",
            )
        return found if found.state == "Completed" and found.url else None

    deadline = max(_LEAST_SECONDS, max(volume.actual_size, 0) / _BYTES_PER_SECOND)
    return access.wait(probe, what=f"backup of volume {volume.name}", deadline=deadline, every=1.0,
                       last=lambda: told[0] or "no backup yet", causes=_SLOW)  # fmt: skip
