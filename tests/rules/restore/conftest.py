"""Facts for the rules of restores, built from few words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from labkit.facts.backups import StoredBackup, StoredVolume, StoreFacts
from labkit.facts.longhorn import Backup, Claim, LonghornFacts, LonghornNode, PersistentVolume, Volume
from labkit.facts.restore import GitClaim, Holder, HolderFacts

NOW = datetime(2026, 8, 20, 12, tzinfo=UTC)
PIN = "pvc-00000000-0000-0000-0000-000000000001"
URL = "nfs://nas.lan:/backups?backup={}&volume={}"


def day(number: int, hour: int = 3) -> datetime:
    return datetime(2026, 8, number, hour, tzinfo=UTC)


def name_of(volume: str, number: int) -> str:
    return f"backup-{sum(volume.encode()):08x}{number:08x}"


def backup(volume: str, number: int, claim: str = "notes-data", **more: Any) -> StoredBackup:
    """A backup of a day of August."""
    given = {"name": name_of(volume, number), "volume": volume, "created": day(number, 4), "blocks": 8,
             "snapshot_created": day(number), "namespace": "default", "claim": claim, "size": 8 << 21}  # fmt: skip
    return StoredBackup.model_validate(given | more)


def stored(volume: str, *backups: StoredBackup, claim: str = "notes-data", **more: Any) -> StoredVolume:
    given = {"name": volume, "size": 64 << 20, "namespace": "default", "claim": claim, "backups": backups}
    return StoredVolume.model_validate(given | more)


def store(*volumes: StoredVolume) -> StoreFacts:
    return StoreFacts(where="/nas", volumes=volumes, read_at=NOW)


def claim(name: str = "notes-data", **more: Any) -> GitClaim:
    given = {"namespace": "default", "name": name, "storage_class": "longhorn", "requested": 64 << 20,
             "kustomization": "flux-system/apps", "place": "apps/notes/pvc.yaml:1"}  # fmt: skip
    return GitClaim.model_validate(given | more)


def volume(name: str, *, of: str = "", made: int = 1, **more: Any) -> Volume:
    """A living volume, made on a day of August; `of` names the stored volume and the day of its backup: `vol@5`."""
    source, _, number = of.partition("@")
    given: dict[str, Any] = {"name": name, "size": 64 << 20, "replicas": 2, "state": "attached",
                             "created_at": day(made, 1)}  # fmt: skip
    if of:
        url = URL.format(name_of(source, int(number)), source)
        given |= {"from_backup": url, "restore_initiated": True}
    return Volume.model_validate(given | more)


def living(
    *volumes: Volume, bound: dict[str, tuple[str, str]] | None = None, extra: tuple[PersistentVolume, ...] = (),
    backups: tuple[Backup, ...] = (), **more: Any,
) -> LonghornFacts:  # fmt: skip
    """A cluster; `bound` has for a claim its PV and the Longhorn volume behind it ("" for a PV that is not there)."""
    claims, pvs = [], list(extra)
    for name, (pv, handle) in (bound or {}).items():
        phase = "Bound" if handle else "Pending"
        claims.append(Claim(namespace="default", name=name, phase=phase, volume=pv, storage_class="longhorn"))
        if handle:
            pvs.append(pv_of(pv, handle, name))
    nodes = (LonghornNode(name="n1"), LonghornNode(name="n2"))
    given = {"installed": "1.10.2", "ready": True, "volumes": volumes, "claims": claims, "pvs": pvs, "nodes": nodes,
             "backups": backups, "read_at": NOW}  # fmt: skip
    return LonghornFacts.model_validate(given | more)


def pv_of(name: str, handle: str, claim: str = "notes-data", **more: Any) -> PersistentVolume:
    given = {"name": name, "handle": handle, "driver": "driver.longhorn.io", "phase": "Bound", "reclaim": "Delete",
             "claim_namespace": "default", "claim": claim, "claim_uid": "1"}  # fmt: skip
    return PersistentVolume.model_validate(given | more)


def known(volume: str, *numbers: int) -> tuple[Backup, ...]:
    return tuple(Backup(name=name_of(volume, n), volume=volume, state="Completed", created=day(n, 4)) for n in numbers)


def holders(*given: Holder) -> HolderFacts:
    return HolderFacts(holders=given, read_at=NOW)


def holder(name: str = "notes", *claims: str, **more: Any) -> Holder:
    given = {"kind": "Deployment", "namespace": "default", "name": name, "replicas": 1, "running": 1, "ready": 1,
             "claims": claims or ("notes-data",), "kustomization": "flux-system/apps"}  # fmt: skip
    return Holder.model_validate(given | more)
