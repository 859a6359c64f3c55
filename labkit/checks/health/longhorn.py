"""Health checks of Longhorn: volumes, where their replicas are, room, and backups made and proven. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from labkit.checks.backups import claims_are_covered, longhorn_is_ready, store_is_readable, target_is_ready
from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import ago, count, listed, size
from labkit.facts.backups import StoreFacts
from labkit.facts.longhorn import LonghornFacts, Volume
from labkit.plan import Finding, Severity
from labkit.rules.coverage import coverage

READS = ("longhorn",)
BOTH = ("longhorn", "store")
_DEAD = ("faulted",)


def seen(scene: Scene) -> LonghornFacts:
    """Return the facts of Longhorn."""
    facts: LonghornFacts = scene["longhorn"]
    return facts


def _told(findings: Iterable[Finding]) -> Iterator[Found]:
    """Pass on what a runbook's check finds."""
    for one in findings:
        yield Found(one.subject, one.expected, one.got, one.remedy, one.severity)


@health("longhorn.running", Area.LONGHORN, "Longhorn runs", Severity.ERROR, reads=READS)
def running(scene: Scene) -> Iterator[Found]:
    """Find a Longhorn whose manager or driver does not run."""
    if seen(scene).installed or any(pv.driver == "driver.longhorn.io" for pv in seen(scene).pvs):
        yield from _told(longhorn_is_ready().find(scene.facts))


@health("longhorn.volume-faulted", Area.LONGHORN, "no volume is faulted", Severity.ERROR, reads=READS)
def volume_faulted(scene: Scene) -> Iterator[Found]:
    """Find volumes without a replica that could be read."""
    for volume in seen(scene).volumes:
        if volume.robustness in _DEAD:
            yield Found(_subject(volume), "healthy", "faulted: no replica of it can be read",
                        "look at the nodes of its replicas, else run disaster-recovery, scope volume")  # fmt: skip


@health("longhorn.volume-degraded", Area.LONGHORN, "every attached volume has all its replicas", Severity.WARNING,
        reads=READS)  # fmt: skip
def volume_degraded(scene: Scene) -> Iterator[Found]:
    """Find volumes that are short of replicas; one with a single replica left is worse."""
    facts = seen(scene)
    for volume in facts.volumes:
        if volume.robustness != "degraded":
            continue
        good = [one for one in facts.replicas if one.volume == volume.name and one.running and not one.failed_at]
        got = f"{len(good)} of {count(volume.replicas, 'replica')}"
        why = f"; {volume.unscheduled_because}" if volume.unscheduled_because else ""
        yield Found(_subject(volume), "healthy", f"degraded: {got}{why}",
                    "Longhorn rebuilds it when a node with room is there; do no work on nodes before",
                    Severity.ERROR if len(good) < 2 <= volume.replicas else None)  # fmt: skip


@health("longhorn.one-zone", Area.LONGHORN, "the replicas of every volume are on more than one host", Severity.WARNING,
        reads=READS)  # fmt: skip
def one_zone(scene: Scene) -> Iterator[Found]:
    """Find volumes that one physical host takes with it."""
    facts = seen(scene)
    zones = {node.name: node.zone for node in facts.nodes if node.zone}
    if len(set(zones.values())) < 2:
        return
    for volume in facts.volumes:
        good = [one for one in facts.replicas if one.volume == volume.name and one.node and not one.failed_at]
        places = {zones.get(one.node, one.node) for one in good}
        if len(good) > 1 and len(places) == 1:
            yield Found(_subject(volume), "replicas on two hosts", f"all {len(good)} on {places.pop()}",
                        "delete one replica: it is rebuilt elsewhere, as replica-auto-balance does")  # fmt: skip


@health("longhorn.node", Area.LONGHORN, "every node takes replicas", Severity.WARNING, reads=READS)
def node_ready(scene: Scene) -> Iterator[Found]:
    """Find nodes and disks that Longhorn cannot use."""
    for node in seen(scene).nodes:
        if not node.ready or node.problem:
            yield Found(f"node {node.name}", "ready for Longhorn", node.problem or "not ready",
                        f"`kubectl -n longhorn-system describe nodes.longhorn.io {node.name}`")  # fmt: skip
        elif not node.schedulable:
            yield Found(f"node {node.name}", "allowed to take replicas", "switched off",
                        "allow scheduling in Longhorn's UI when the reason is over", Severity.INFO)  # fmt: skip
        for disk in node.disks:
            if disk.problem:
                yield Found(f"disk {disk.name} of {node.name}", "usable", disk.problem,
                            "look at its room and its path on the node")  # fmt: skip


@health("longhorn.room", Area.LONGHORN, "every disk of Longhorn has room", Severity.WARNING, reads=READS)
def disk_room(scene: Scene) -> Iterator[Found]:
    """Find disks whose real room runs out, whatever is promised on them."""
    limit = scene.lab.health.limits.longhorn.disk_percent
    for node in seen(scene).nodes:
        for disk in node.disks:
            used = 100 * (disk.maximum - disk.available) / disk.maximum if disk.maximum else 0
            if used >= limit:
                yield Found(f"disk {disk.name} of {node.name}", f"less than {limit} % used",
                            f"{used:.0f} % of {size(disk.maximum)} used, {size(disk.available)} free",
                            "delete old snapshots, trim file systems, or enlarge the VM's disk")  # fmt: skip


@health("longhorn.promised", Area.LONGHORN, "no disk has promised far more than it has", Severity.WARNING, reads=READS)
def over_promised(scene: Scene) -> Iterator[Found]:
    """Find disks whose volumes could outgrow them by far."""
    limit = scene.lab.health.limits.longhorn.promised_percent
    for node in seen(scene).nodes:
        for disk in node.disks:
            room = disk.maximum - disk.reserved
            if room > 0 and 100 * disk.scheduled > limit * room:
                yield Found(f"disk {disk.name} of {node.name}", f"at most {limit} % promised to volumes",
                            f"{100 * disk.scheduled / room:.0f} %: {size(disk.scheduled)} on {size(room)}",
                            "move replicas, or enlarge the VM's disk")  # fmt: skip


@health("longhorn.restoring", Area.LONGHORN, "no restore is stuck", Severity.WARNING, reads=READS)
def restoring(scene: Scene) -> Iterator[Found]:
    """Find volumes whose restore from a backup failed or has not ended."""
    limit = timedelta(hours=scene.lab.health.limits.longhorn.restore_hours)
    for volume in seen(scene).volumes:
        if volume.restore_failed:
            yield Found(_subject(volume), "restored", volume.restore_failed, "run disaster-recovery with scope volume",
                        Severity.ERROR)  # fmt: skip
        elif volume.is_restoring and volume.created_at is not None and scene.now - volume.created_at > limit:
            done = f", {volume.restore.percent} % done" if volume.restore else ""
            yield Found(_subject(volume), f"restored within {count(int(limit.total_seconds() // 3600), 'hour')}",
                        f"begun {ago(volume.created_at, scene.now)}{done}",
                        "look at room for replicas and concurrent-volume-backup-restore-per-node-limit")  # fmt: skip


@health("longhorn.orphan-volume", Area.LONGHORN, "every volume belongs to a claim", Severity.INFO, reads=READS)
def orphan_volume(scene: Scene) -> Iterator[Found]:
    """Find volumes that only cost room: kept aside by a restore, or left when a claim went."""
    facts = seen(scene)
    live = {pv.handle for pv in facts.pvs if pv.phase in ("Bound", "Available")}
    for volume in facts.volumes:
        if volume.name not in live and not volume.is_restoring:
            was = f"once {volume.namespace}/{volume.claim}, " if volume.claim else ""
            yield Found(f"volume {volume.name}", "a claim that uses it", f"none ({was}{size(volume.actual_size)})",
                        "delete it in Longhorn's UI when nobody wants its data back")  # fmt: skip


@health("longhorn.backup-target", Area.LONGHORN, "Longhorn reaches the lab's backup target", Severity.ERROR,
        reads=READS)  # fmt: skip
def backup_target(scene: Scene) -> Iterator[Found]:
    """Find a target that is away, is not the lab's, or is never looked at."""
    yield from _told(target_is_ready(scene.lab).find(scene.facts))


@health("longhorn.store", Area.LONGHORN, "the backup store holds what the cluster knows of", Severity.ERROR, reads=BOTH)
def store_whole(scene: Scene) -> Iterator[Found]:
    """Find a store that is suddenly empty or damaged; that it cannot be read from here is good to know."""
    store: StoreFacts = scene["store"]
    if store.problem and not store.empty:
        yield Found("backup store", "to be read from here, so that backups can be verified", store.problem,
                    "mount the export here (or allow SFTP), and name it in nas.store", Severity.INFO)  # fmt: skip
        return
    yield from _told(store_is_readable().find(scene.facts))


@health("longhorn.coverage", Area.LONGHORN, "every claim is backed up on schedule", Severity.WARNING, reads=BOTH)
def covered(scene: Scene) -> Iterator[Found]:
    """Find claims without a backup job, never backed up, or late, and jobs without members.

    Late backups go unsaid while the target is away, which is told by itself; so do claims on the NAS: its snapshots
    and replication are looked at by themselves.
    """
    away = any(not target.available for target in seen(scene).targets)
    for one in _told(claims_are_covered().find(scene.facts)):
        if one.severity is not Severity.INFO and not (away and one.expected.startswith("a backup by")):
            yield one


@health("longhorn.restore-proven", Area.LONGHORN, "a restore of every backup was proven lately", Severity.WARNING,
        reads=BOTH)  # fmt: skip
def restore_proven(scene: Scene) -> Iterator[Found]:
    """Find claims whose backups nobody has restored for long; one finding for all that were never proven."""
    facts = seen(scene)
    limit = timedelta(days=scene.lab.health.limits.longhorn.proven_days)
    rows = [row for row in coverage(facts, scene["store"]) if row.volume and row.backups]
    never = [row.id for row in rows if row.proof is None]
    wanted = f"a proven restore within {count(limit.days, 'day')}"
    if never:
        yield Found(listed(never), wanted, "never proven", "run backup-drill")
    for row in rows:
        if row.proof is None:
            continue
        if not row.proof.proven:
            yield Found(row.id, wanted, f"the last drill failed: {row.proof.problem}", "run backup-drill; then "
                        "`labkit backups verify`", Severity.ERROR)  # fmt: skip
        elif scene.now - row.proof.at > limit:
            yield Found(row.id, wanted, f"last proven {ago(row.proof.at, scene.now)}", "run backup-drill")


def _subject(volume: Volume) -> str:
    return f"volume {volume.name} ({volume.namespace}/{volume.claim})" if volume.claim else f"volume {volume.name}"
