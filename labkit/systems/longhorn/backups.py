"""Changes of backups: a target looked at again, a backup taken now."""

from __future__ import annotations

from labkit.facts.evidence import LABEL
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.longhorn.backup import take_backup
from labkit.systems.longhorn.target import sync_target


def apply_sync(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Have Longhorn look at a backup target again; `after.volumes` must have complete backups in the end."""
    wanted = change.after.get("volumes")
    volumes = [str(one) for one in wanted] if isinstance(wanted, list) else []
    return sync_target(open_cluster(lab, access), access, step, change.target, volumes=volumes)


def apply_backup(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Back up the volume `after.volume` now; with `after.drill`, the backup says that a drill of that claim made it."""
    drill = str(change.after.get("drill") or "")
    labels = {LABEL: drill} if drill else {}
    done = take_backup(open_cluster(lab, access), access, step, str(change.after["volume"]), labels=labels)
    return f"{done.name}, {done.size} bytes, as of {done.snapshot_created:%Y-%m-%d %H:%M:%S} UTC"
