"""Changes of backups: a target looked at again, a backup taken now."""

from __future__ import annotations

from labkit.errors import StepFailed
from labkit.facts.evidence import LABEL
from labkit.facts.longhorn import DRIVER, Claim, PersistentVolume
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.backup import take_backup
from labkit.systems.longhorn.claims import parse_claim, parse_pv
from labkit.systems.longhorn.target import sync_target


def apply_sync(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Have Longhorn look at a backup target again; `after.volumes` must have complete backups in the end."""
    wanted = change.after.get("volumes")
    volumes = [str(one) for one in wanted] if isinstance(wanted, list) else []
    return sync_target(open_cluster(lab, access), access, step, change.target, volumes=volumes)


def apply_backup(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Back up a volume now: `after.volume`, or that of the claim which the change names as `namespace/name`.

    With `after.drill` the backup says that a drill of that claim made it; `after.mode` is incremental, or full to
    write every block anew.
    """
    cluster = open_cluster(lab, access)
    drill, mode = str(change.after.get("drill") or ""), str(change.after.get("mode") or "incremental")
    volume = str(change.after.get("volume") or "") or volume_of(cluster, change.target)
    done = take_backup(cluster, access, step, volume, labels={LABEL: drill} if drill else {}, mode=mode)
    return f"{done.name}, {done.size} bytes, as of {done.snapshot_created:%Y-%m-%d %H:%M:%S} UTC"


def volume_of(cluster: Cluster, claim: str) -> str:
    """Return the Longhorn volume of a claim, given as `namespace/name`; raise StepFailed when it has none."""
    return live_claim(cluster, claim)[1].handle


def live_claim(cluster: Cluster, claim: str) -> tuple[Claim, PersistentVolume]:
    """Return a claim on Longhorn, given as `namespace/name`, with its PersistentVolume.

    Raises:
        StepFailed: it is not there, not bound, or lies elsewhere.
    """
    space, _, name = claim.partition("/")
    found = cluster.find(f"/api/v1/namespaces/{space}/persistentvolumeclaims/{name}")
    parsed = parse_claim(found, {}) if found is not None else None
    item = cluster.find(f"/api/v1/persistentvolumes/{parsed.volume}") if parsed is not None and parsed.volume else None
    pv = parse_pv(item) if item is not None else None
    if parsed is None or pv is None or pv.driver != DRIVER:
        got = "no such claim" if parsed is None else "one that is not bound" if pv is None else f"one on {pv.driver}"
        raise StepFailed(f"claim {claim}: expected one on a Longhorn volume, got {got}",
                         next_step="read again, and plan again")  # fmt: skip
    return parsed, pv
