"""What is on a restored volume, before any app has it: its files read in a scratch namespace, their checksum kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.evidence import RECOVERY, Evidence, label_value, scratch_name
from labkit.facts.longhorn import Volume, backup_of
from labkit.facts.restore import SHA256
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn import scratch as scratches
from labkit.systems.longhorn.evidence import keep
from labkit.systems.longhorn.looker import files_pod, find_image, run_pod, unreadable
from labkit.systems.longhorn.parse import parse_backup
from labkit.systems.longhorn.paths import own
from labkit.systems.longhorn.restore import find_volume
from labkit.systems.longhorn.scratch import Scratch


def apply_content(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Mount a restored volume beside everything, read all its files, and write their checksum onto the volume.

    Raises:
        StepFailed: its file system cannot be mounted or read, or some app has the volume already.
    """
    cluster = open_cluster(lab, access)
    name = str(change.after["volume"])
    found = find_volume(cluster, name)
    if found is None or found.is_restoring:
        raise StepFailed(f"volume {name}: expected it restored, got {'none' if found is None else 'a half-done one'}",
                         next_step="run again: it is gone on with")  # fmt: skip
    if found.state == "attached":
        return "in use already: not looked at"
    space, _, claim = change.target.partition("/")
    scratch = Scratch(scratch_name(space, claim), label_value(space, claim), volume=name)
    scratches.clear(cluster, access, scratch)
    try:
        scratches.make_namespace(cluster, scratch)
        bound = scratches.bind(cluster, scratch, "files", size=found.size, block=False, fs_type=str(change.after["fs"]))
        step.say(f"reads every file of {name}")
        pod = files_pod(find_image(cluster), bound, None)
        ended = run_pod(cluster, access, scratch, "files", pod, size=found.size)["files"]
        words = ended.log.split()
        if ended.status or len(words) < 2:
            said = unreadable(f"reading {name}", ended).message
            keep(cluster, _evidence(cluster, change.target, found, proven=False, problem=said))
            raise StepFailed(
                f"{change.target}: {said}",
                next_step="the backup holds a broken file system: take an earlier one with restore_as_of",
            )
        scratches.unbind(cluster, access, scratch, bound)
    finally:
        scratches.clear(cluster, access, scratch)
    count, tree = words[0], words[1]
    keep(cluster, _evidence(cluster, change.target, found, proven=True, tree=tree, files=int(count)))
    cluster.patch(own("volumes", name), {"metadata": {"annotations": {SHA256: tree}}})
    return f"{count} files, sha256 {tree[:16]}"


def _evidence(cluster: Cluster, claim: str, volume: Volume, *, proven: bool, **found: Any) -> Evidence:
    """Return what a recovery has shown of a backup: it counts as a drill of it does."""
    space, _, name = claim.partition("/")
    backup = backup_of(volume.from_backup)
    item = cluster.find(own("backups", backup)) if backup else None
    known = parse_backup(item) if item is not None else None
    return Evidence(
        namespace=space, claim=name, volume=volume.name, by=RECOVERY, backup=backup, proven=proven,
        at=datetime.now(UTC), backup_at=known and (known.snapshot_created or known.created), size=volume.size, **found,
    )  # fmt: skip
