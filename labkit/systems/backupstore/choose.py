"""Choose one backup by volume, former claim, name or time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from labkit.systems.backupstore.access import bad_option
from labkit.systems.backupstore.catalog import Catalog, VolumeEntry
from labkit.systems.backupstore.layout import BackupConfig


def parse_utc(text: str) -> datetime:
    """Read a time such as `2026-11-23T11:30:00Z`; without a zone it is UTC. Raises `InputError`."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise bad_option("--at", "a time such as 2026-11-23T11:30:00Z", text) from exc
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def choose_volumes(catalog: Catalog, *, volume: str | None = None, pvc: str | None = None) -> tuple[VolumeEntry, ...]:
    """Give the volumes meant: by name, by `namespace/name` of the former claim, or all. Raises `InputError`."""
    if volume is not None:
        found = tuple(entry for entry in catalog.volumes if entry.name == volume)
        if not found:
            raise bad_option("--volume", _one_of([v.name for v in catalog.volumes]), volume)
    elif pvc is not None:
        found = tuple(entry for entry in catalog.volumes if str(entry.pvc) == pvc)
        if not found:
            known = sorted({str(entry.pvc) for entry in catalog.volumes if entry.pvc})
            raise bad_option("--pvc", _one_of(known), pvc)
    else:
        found = catalog.volumes
    return found


def choose_backup(
    catalog: Catalog,
    *,
    volume: str | None = None,
    pvc: str | None = None,
    backup: str | None = None,
    at: datetime | None = None,
) -> tuple[VolumeEntry, BackupConfig]:
    """Give the backup meant: the one named, or the newest complete one at or before `at` (None: now).

    Raises:
        InputError: none fits, or several volumes do.
    """
    volumes = choose_volumes(catalog, volume=volume, pvc=pvc)
    if backup is not None:
        return _named(volumes, backup)
    entry = _single(volumes)
    return entry, newest_at(entry, at)


def newest_at(entry: VolumeEntry, at: datetime | None) -> BackupConfig:
    """Give the newest complete backup of a volume at or before a time (None: now). Raises `InputError`."""
    fitting = [c for c in entry.complete if at is None or (c.taken_at is not None and c.taken_at <= at)]
    if fitting:
        return fitting[-1]
    if entry.complete:
        oldest = entry.complete[0]
        got = f"the oldest is {oldest.name} from {_shown(oldest.taken_at)}"
        raise bad_option(f"volume {entry.name}", f"a backup at or before {_shown(at)}", got, "choose a later time")
    raise bad_option(f"volume {entry.name}", "a complete backup", _states(entry))


def _named(volumes: Sequence[VolumeEntry], backup: str) -> tuple[VolumeEntry, BackupConfig]:
    found = [(entry, item) for entry in volumes for item in entry.backups if item.name == backup]
    if not found:
        known = [item.name for entry in volumes for item in entry.backups]
        raise bad_option("--backup", _one_of(known), backup)
    entry, item = found[0] if len(found) == 1 else (_single([entry for entry, _ in found]), found[0][1])
    if item.state != "complete" or item.config is None:
        why = "; ".join(d.detail or str(d.kind) for d in entry.damages if d.backup == backup)
        got = f"one that is {item.state}" + (f" ({why})" if why else "")
        raise bad_option(f"backup {backup}", "a complete backup", got, "choose another one of its volume")
    return entry, item.config


def _single(volumes: Sequence[VolumeEntry]) -> VolumeEntry:
    if len(volumes) == 1:
        return volumes[0]
    words = [f"{entry.name} ({entry.pvc or 'no claim'}, newest {_newest(entry)})" for entry in volumes]
    raise bad_option("--volume or --pvc", "one volume", f"{len(volumes)}: {', '.join(words)}", "name one")


def _newest(entry: VolumeEntry) -> str:
    return _shown(entry.newest.taken_at) if entry.newest else "none"


def _states(entry: VolumeEntry) -> str:
    return ", ".join(f"{item.name} ({item.state})" for item in entry.backups) or "none"


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names[:20])}" if names else "something that the store holds"


def _shown(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else "an unknown time"
