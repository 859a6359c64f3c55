"""A backup target brought up to date in the cluster: asked for, and waited for along the whole chain.

The target answers first, then its BackupVolumes are listed, then each of those lists its Backups, then each Backup
reads its own figures: whoever looks as soon as the target is available sees half of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from labkit.errors import StepFailed
from labkit.facts.longhorn import BackupTarget
from labkit.systems.access import Access, Step
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.parse import parse_backup, parse_backup_volume, parse_target
from labkit.systems.longhorn.paths import own

DEADLINE = 600.0
_CAUSES = "look at the target: kubectl -n longhorn-system get backuptargets,backupvolumes, and at the NAS's NFS service"


def sync_target(
    cluster: Cluster,
    access: Access,
    step: Step,
    name: str = "default",
    *,
    volumes: Iterable[str] = (),
    deadline: float = DEADLINE,
) -> str:
    """Have Longhorn look at a backup target again, and wait until all that it has is in the cluster.

    Args:
        cluster: where Longhorn is.
        access: for its time.
        step: is told how far it is.
        name: of the target.
        volumes: those that must be there in the end, each with at least one complete backup.
        deadline: lab seconds.

    Returns:
        What is there, in words.

    Raises:
        StepFailed: there is no such target, it is not available, or it did not come to an end in time.
    """
    found = cluster.find(own("backuptargets", name))
    if found is None:
        raise StepFailed(f"backup target {name}: expected it in the cluster, got none",
                         next_step="set defaultBackupStore in Longhorn's Helm values")  # fmt: skip
    asked = _next_moment(parse_target(found))
    cluster.patch(own("backuptargets", name), {"spec": {"syncRequestedAt": f"{asked:%Y-%m-%dT%H:%M:%SZ}"}})
    step.say(f"target {name}: asked to look again")
    chain = _Chain(cluster, step, name, asked, frozenset(volumes))
    access.wait(chain.probe, what=f"backup target {name}", deadline=deadline, every=2.0,
                last=lambda: chain.seen, causes=_CAUSES)  # fmt: skip
    return chain.seen


def _next_moment(target: BackupTarget) -> datetime:
    """Return a moment after the last sync: times have whole seconds, and one that is not later counts for nothing."""
    now = datetime.now(UTC).replace(microsecond=0)
    return now if target.last_synced is None else max(now, target.last_synced + timedelta(seconds=1))


class _Chain:
    """How far a sync has come."""

    def __init__(self, cluster: Cluster, step: Step, name: str, asked: datetime, wanted: frozenset[str]) -> None:
        self._cluster, self._step, self._name, self._asked, self._wanted = cluster, step, name, asked, wanted
        self.seen = "no answer yet"

    def probe(self) -> bool | None:
        """Look once; return True at the end of the chain."""
        for look in (self._target, self._volumes, self._backups):
            if (waiting := look()) is not None:
                self._note(waiting)
                return None
        return True

    def _target(self) -> str | None:
        target = parse_target(self._cluster.get(own("backuptargets", self._name)))
        if target.problem:
            return f"target {self._name} is not available: {target.problem}"
        if not target.available or target.last_synced is None or target.last_synced < self._asked:
            return f"target {self._name} is being looked at"
        return None

    def _volumes(self) -> str | None:
        rows = [parse_backup_volume(one) for one in self._cluster.items(own("backupvolumes"))]
        mine = [row for row in rows if row.target == self._name]
        if missing := sorted(self._wanted - {row.volume for row in mine}):
            return f"no backups of {', '.join(missing)} on target {self._name}"
        late = sorted(row.volume for row in mine if row.last_synced is None)
        return f"the backups of {', '.join(late)} are being listed" if late else None

    def _backups(self) -> str | None:
        rows = [parse_backup(one) for one in self._cluster.items(own("backups"))]
        mine = [row for row in rows if row.target == self._name]
        late = [row for row in mine if row.state == "" or (row.state == "Completed" and row.last_synced is None)]
        done = [row for row in mine if row.state == "Completed"]
        if late:
            return f"{len(late)} of {len(mine)} backups have not been read yet"
        if missing := sorted(self._wanted - {row.volume for row in done}):
            return f"no complete backup of {', '.join(missing)}"
        self.seen = f"{len(done)} backups of {len({row.volume for row in done})} volumes"
        return None

    def _note(self, text: str) -> None:
        if text != self.seen:
            self.seen = text
            self._step.say(text)
