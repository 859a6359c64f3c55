"""Carry out a drill: a backup verified in the store, brought back beside the live volume, compared, removed again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labkit.errors import InputError, LabError, StepFailed, SystemDown
from labkit.facts.evidence import Evidence, label_value, scratch_name
from labkit.facts.longhorn import Backup, Claim, PersistentVolume
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.backups import Wanted, hash_backup
from labkit.systems.backupstore.access import NoStoreError
from labkit.systems.backupstore.digest import DeviceReport
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn import scratch as scratches
from labkit.systems.longhorn.backups import live_claim
from labkit.systems.longhorn.evidence import keep
from labkit.systems.longhorn.looker import Ended, device_pod, files_pod, find_image, fits, run_pod, unreadable
from labkit.systems.longhorn.parse import parse_backup
from labkit.systems.longhorn.paths import own
from labkit.systems.longhorn.read import read_facts
from labkit.systems.longhorn.scratch import Scratch

_MOST_DAMAGES = 3
_MEND = "run backup-drill with full, which writes every block anew, then `labkit backups verify` names what older "
_MEND += "backups are still lost"


@dataclass
class Drill:
    """One drill while it goes on."""

    lab: Lab
    access: Access
    step: Step
    cluster: Cluster
    claim: Claim
    pv: PersistentVolume
    backup: Backup

    @property
    def id(self) -> str:
        """`namespace/claim`."""
        return f"{self.claim.namespace}/{self.claim.name}"

    @property
    def scratch(self) -> Scratch:
        """What it makes."""
        space, name = self.claim.namespace, self.claim.name
        return Scratch(scratch_name(space, name), label_value(space, name))


def apply_drill(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Prove the newest complete backup of a claim, and file what that showed, also when it showed that it is no good.

    Raises:
        StepFailed: the backup is damaged, did not come back, or is not what the store holds; says which, and what
            helps.
        SystemDown: the cluster or the store stopped answering; nothing is filed then.
    """
    cluster = open_cluster(lab, access)
    claim, pv = live_claim(cluster, change.target)
    drill = Drill(lab, access, step, cluster, claim, pv, _newest(cluster, change, pv.handle))
    scratches.clear(cluster, access, drill.scratch)
    probe = change.after.get("probe")
    try:
        found = _prove(drill, probe if isinstance(probe, Mapping) else None)
    except StepFailed as exc:
        text = "; ".join(filter(None, (exc.message, exc.next_step)))
        keep(cluster, _evidence(drill, proven=False, problem=text))
        raise
    keep(cluster, found)
    return f"{found.backup} proven: {found.blocks} blocks, {found.files} files, device and store agree"


def _newest(cluster: Cluster, change: Change, volume: str) -> Backup:
    rows = [parse_backup(one) for one in cluster.items(own("backups"), labelSelector=f"backup-volume={volume}")]
    oldest = datetime.fromtimestamp(0, UTC)
    done = [one for one in rows if one.state == "Completed" and one.url]
    if not done:
        raise StepFailed(f"{change.target}: expected a complete backup, got {len(rows)} others",
                         next_step="run backup-drill with fresh")  # fmt: skip
    return max(done, key=lambda one: (one.snapshot_created or one.created or oldest, one.created or oldest, one.name))


def _prove(drill: Drill, probe: Mapping[str, Any] | None) -> Evidence:
    """Do all of it; the scratch things go whatever happens."""
    report = _verify(drill)
    try:
        found = _bring_back(drill, report, probe)
    except BaseException:
        # What stays is found by the next run; the first error is the one to tell.
        with contextlib.suppress(LabError):
            scratches.clear(drill.cluster, drill.access, drill.scratch)
        raise
    drill.step.say("removes what it made")
    scratches.clear(drill.cluster, drill.access, drill.scratch)
    return found


def _bring_back(drill: Drill, report: DeviceReport, probe: Mapping[str, Any] | None) -> Evidence:
    """Restore the backup into the scratch volume and look at that."""
    began = drill.access.clock.monotonic()
    drill.step.say(f"restores {drill.backup.name} into {drill.scratch.name}")
    scratches.restore(drill.cluster, drill.access, drill.step, drill.scratch, drill.backup)
    seconds = drill.access.clock.monotonic() - began
    scratches.make_namespace(drill.cluster, drill.scratch)
    image = find_image(drill.cluster)
    _compare_device(drill, report, image)
    tree, files, said = _read_files(drill, image, probe)
    return _evidence(drill, proven=True, blocks=report.blocks, device=report.sha256, tree=tree, files=files, probe=said,
                     seconds=round(seconds, 1))  # fmt: skip


def _verify(drill: Drill) -> DeviceReport:
    """Read every block from the store; raise StepFailed when one is damaged."""
    drill.step.say(f"verifies {drill.backup.name} in the store")
    say = _by_tenths(drill.step, drill.backup.size)
    try:
        report = hash_backup(drill.lab, drill.access, Wanted(drill.pv.handle, drill.backup.name), on_bytes=say)
    except NoStoreError as exc:
        # That says nothing about the backup: it is not filed as a failure of it.
        raise SystemDown(f"{drill.id}: {exc.mistakes[0]}", next_step=exc.next_step) from exc
    except InputError as exc:
        said = "; ".join(f"{one.where or one.file}: {one.got}" for one in exc.mistakes)
        raise StepFailed(f"{drill.id}: expected {drill.backup.name} in the store, got {said}",
                         next_step=exc.next_step) from exc  # fmt: skip
    if report.is_whole:
        return report
    shown = "; ".join(str(one) for one in report.damages[:_MOST_DAMAGES]) or "it is not complete"
    more = len(report.damages) - _MOST_DAMAGES
    raise StepFailed(
        f"{drill.id}: expected every block of {drill.backup.name} in the store, got {len(report.damages)} damaged: "
        f"{shown}{f'; and {more} more' if more > 0 else ''}",
        next_step=_MEND,
    )


def _compare_device(drill: Drill, report: DeviceReport, image: str) -> None:
    """Compare the restored bytes with the store's, then have the file system checked, its journal first."""
    size = drill.backup.volume_size
    name = scratches.bind(drill.cluster, drill.scratch, "device", size=size, block=True, fs_type="")
    drill.step.say("compares the restored device with the store")
    pod = device_pod(image, name, report.ranges, drill.pv.fs_type)
    ended = run_pod(drill.cluster, drill.access, drill.scratch, "device", pod, size=drill.backup.size)
    got = _words(drill, ended["compare"], "reading the restored device", 1)[0]
    if got != report.sha256:
        raise StepFailed(
            f"{drill.id}: expected the restored device to have checksum {report.sha256[:16]}, as {drill.backup.name} "
            f"in the store has, got {got[:16]}",
            next_step="look at Longhorn's engine logs; the backup itself is whole: `labkit backups extract` reads it",
        )
    check = ended["check"]
    if not fits(check.status):
        raise _broken_files(drill, unreadable("check of the file system", check))
    scratches.unbind(drill.cluster, drill.access, drill.scratch, name)


def _read_files(drill: Drill, image: str, probe: Mapping[str, Any] | None) -> tuple[str, int, str]:
    """Mount the file system, read every file, run the probe; return checksum, number of files, the probe's word."""
    size = drill.backup.volume_size
    name = scratches.bind(drill.cluster, drill.scratch, "files", size=size, block=False, fs_type=drill.pv.fs_type)
    drill.step.say("reads every file")
    pod = files_pod(image, name, probe)
    ended = run_pod(drill.cluster, drill.access, drill.scratch, "files", pod, size=drill.backup.size)
    count, tree, *_ = _words(drill, ended["files"], "reading the files", 2)
    if "probe" not in ended:
        return tree, int(count), ""
    if ended["probe"].status:
        raise StepFailed(
            f"{drill.id}: expected the probe to end with 0, got {ended['probe'].status}: {ended['probe'].log[-400:]}",
            next_step="the files came back as they were backed up: look whether the app's data was whole at that time",
        )
    return tree, int(count), (ended["probe"].log.strip().splitlines() or ["exit status 0"])[-1][:200]


def _words(drill: Drill, ended: Ended, what: str, least: int) -> list[str]:
    """Return the words that a container wrote; raise StepFailed when it did not end well."""
    words = ended.log.split()
    if ended.status or len(words) < least:
        raise _broken_files(drill, unreadable(what, ended))
    return words


def _broken_files(drill: Drill, cause: StepFailed) -> StepFailed:
    return StepFailed(
        f"{drill.id}: {cause.message}",
        next_step="check the file system of the live volume: a backup of a broken one is a broken one",
    )


def _by_tenths(step: Step, size: int) -> Callable[[int], None]:
    """Return what tells the progress in steps of ten per cent."""
    seen, told = [0], [0]

    def add(count: int) -> None:
        seen[0] += count
        tenth = 10 * seen[0] // size if size else 10
        if tenth > told[0]:
            told[0] = tenth
            step.say(f"verified {min(100, 10 * tenth)} %")

    return add


def _evidence(drill: Drill, *, proven: bool, **found: Any) -> Evidence:
    backup = drill.backup
    return Evidence(
        namespace=drill.claim.namespace, claim=drill.claim.name, volume=drill.pv.handle, backup=backup.name,
        target=backup.target, proven=proven, at=datetime.now(UTC), backup_at=backup.snapshot_created or backup.created,
        size=backup.volume_size, **found,
    )  # fmt: skip


def apply_leftover(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Remove something that an interrupted drill left; only what still carries its mark."""
    kind, _, name = change.target.partition("/")
    cluster = open_cluster(lab, access)
    if not any((one.kind, one.name) == (kind, name) for one in read_facts(cluster).leftovers):
        return f"{kind} {name} is gone already"
    path = {"Namespace": f"/api/v1/namespaces/{name}", "PersistentVolume": f"/api/v1/persistentvolumes/{name}",
            "Volume": own("volumes", name), "Backup": own("backups", name),
            "Snapshot": own("snapshots", name)}[kind]  # fmt: skip
    _delete(cluster, access, path, f"{kind} {name}")
    step.say(f"{kind} {name} is gone")
    return f"{kind} {name} removed"


def apply_replaced(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Delete the backups that earlier drills of a claim made, all but the newest; their data in the store too."""
    cluster = open_cluster(lab, access)
    claim, pv = live_claim(cluster, change.target)
    mark, oldest = label_value(claim.namespace, claim.name), datetime.fromtimestamp(0, UTC)
    rows = [parse_backup(one) for one in cluster.items(own("backups"), labelSelector=f"backup-volume={pv.handle}")]
    made = [one for one in rows if one.drill == mark and one.state == "Completed"]
    made.sort(key=lambda one: (one.snapshot_created or one.created or oldest, one.name))
    for one in made[:-1]:
        _delete(cluster, access, own("backups", one.name), f"backup {one.name}")
        step.say(f"{one.name} is deleted")
    return f"{len(made[:-1])} deleted, {made[-1].name} stays" if made else "none is left"


def _delete(cluster: Cluster, access: Access, path: str, what: str) -> None:
    cluster.delete(path)
    access.wait(lambda: True if cluster.find(path) is None else None, what=f"removal of {what}", deadline=300.0,
                every=1.0, last=lambda: "it is still there", causes="look at its finalizers and events")  # fmt: skip
