"""Read what a backup store holds: volumes, backups, locks, and the damage that their configs show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from labkit.systems.backupstore.access import Store
from labkit.systems.backupstore.damage import Damage, Kind
from labkit.systems.backupstore.layout import (
    BackupConfig,
    ConfigError,
    Pvc,
    Schedule,
    VolumeConfig,
    backup_file,
    backup_named_by,
    is_name,
    parse_backup_config,
    parse_volume_config,
    volume_folder,
)

LOCK_LIFE = timedelta(seconds=150)
_LOCK_KINDS = {1: "backup or restore", 2: "deletion"}
_CONFIG_LIMIT = 1 << 30
_WORKERS = 8


@dataclass(frozen=True)
class Lock:
    """A lock file: what for, acquired or not, and when it was last renewed."""

    file: str
    kind: str
    acquired: bool
    renewed: datetime

    def is_live(self, now: datetime) -> bool:
        """Tell whether its holder still renews it."""
        return now - self.renewed < LOCK_LIFE


@dataclass(frozen=True)
class BackupEntry:
    """A backup as listed; `config` is None when its file can't be read, and holds no map."""

    name: str
    config: BackupConfig | None

    @property
    def state(self) -> str:
        """One of complete, in progress, single file, broken."""
        if self.config is None:
            return "broken"
        if self.config.single_file:
            return "single file"
        return "complete" if self.config.is_complete else "in progress"


@dataclass(frozen=True)
class VolumeEntry:
    """A volume as listed; `folder` is its path below the `backupstore` folder, `config` None when it can't be read."""

    name: str
    folder: str
    config: VolumeConfig | None
    backups: tuple[BackupEntry, ...]
    locks: tuple[Lock, ...]
    damages: tuple[Damage, ...]

    @property
    def complete(self) -> tuple[BackupConfig, ...]:
        """The complete backups, oldest first."""
        found = (b.config for b in self.backups if b.config is not None and b.state == "complete")
        return tuple(sorted(found, key=_age))

    @property
    def newest(self) -> BackupConfig | None:
        """The newest complete backup; `LastBackupName` can be stale."""
        return self.complete[-1] if self.complete else None

    @property
    def pvc(self) -> Pvc | None:
        """The former claim, as the newest source knows it."""
        sources: Iterable[VolumeConfig | BackupConfig | None] = (*reversed(self.complete), self.config)
        return next((source.pvc for source in sources if source is not None and source.pvc), None)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The recurring jobs that back it up, as the newest source knows them."""
        sources: Iterable[VolumeConfig | BackupConfig | None] = (self.config, *reversed(self.complete))
        return next((source.schedules for source in sources if source is not None and source.schedules), ())

    @property
    def job_labels(self) -> dict[str, str]:
        """The labels that put it into its recurring jobs, as the newest source that has any knows them."""
        sources: Iterable[VolumeConfig | BackupConfig | None] = (self.config, *reversed(self.complete))
        return next((source.job_labels for source in sources if source is not None and source.job_labels), {})


@dataclass(frozen=True)
class Catalog:
    """All volumes of a store, sorted by name."""

    where: str
    volumes: tuple[VolumeEntry, ...]

    @property
    def damages(self) -> tuple[Damage, ...]:
        """All damage that the configs show."""
        return tuple(damage for volume in self.volumes for damage in volume.damages)


def _age(config: BackupConfig) -> tuple[datetime, datetime, str]:
    epoch = datetime.fromtimestamp(0, UTC)
    return (config.taken_at or epoch, config.created_at or epoch, config.name)


def read_catalog(store: Store, *, only: str | None = None) -> Catalog:
    """Read all configs of a store, or those of one volume; damage is listed, not raised."""
    folders = _volume_folders(store, only)
    with ThreadPoolExecutor(_WORKERS) as pool:
        found = list(pool.map(lambda folder: _read_volume(store, *folder), folders))
    return Catalog(store.where, tuple(sorted((v for v in found if v is not None), key=lambda v: v.name)))


def _volume_folders(store: Store, only: str | None) -> list[tuple[str, str]]:
    """Give (name, folder) of everything that may be a volume."""
    if only is not None and store.names(f"volumes/{volume_folder(only)}"):
        return [(only, f"volumes/{volume_folder(only)}")]
    return [
        (name, f"volumes/{first}/{second}/{name}")
        for first in store.names("volumes")
        for second in store.names(f"volumes/{first}")
        for name in store.names(f"volumes/{first}/{second}")
        if is_name(name) and only in {None, name}
    ]


def _read_volume(store: Store, name: str, folder: str) -> VolumeEntry | None:
    inside = store.names(folder)
    files = store.names(f"{folder}/backups") if "backups" in inside else []
    names = [backup for backup in map(backup_named_by, files) if backup]
    if "volume.cfg" not in inside and not names and "blocks" not in inside:
        return None  # an empty folder, or the lock of the backing images
    config, damages = _read_volume_config(store, name, folder)
    backups: list[BackupEntry] = []
    for backup in names:
        found, wrong = read_backup(store, folder, name, backup, config.size if config else None)
        backups.append(BackupEntry(backup, found.without_map() if found else None))
        damages += wrong
    if folder != f"volumes/{volume_folder(name)}":
        expected = f"expected at volumes/{volume_folder(name)}, where Longhorn looks for it"
        damages.append(Damage(name, "", -1, folder, Kind.VOLUME_MISPLACED, expected))
    if config and config.last_backup and config.last_backup not in names:
        word = "volume.cfg names it as the newest: lost, or deleted while another backup ran"
        file = f"{folder}/{backup_file(config.last_backup)}"
        damages.append(Damage(name, config.last_backup, -1, file, Kind.BACKUP_CFG_MISSING, word))
    locks = _read_locks(store, folder) if "locks" in inside else ()
    return VolumeEntry(name, folder, config, tuple(backups), locks, tuple(damages))


def _read_volume_config(store: Store, name: str, folder: str) -> tuple[VolumeConfig | None, list[Damage]]:
    file = f"{folder}/volume.cfg"
    try:
        config = parse_volume_config(store.read(file, _CONFIG_LIMIT))
    except FileNotFoundError:
        return None, [Damage(name, "", -1, file, Kind.VOLUME_CFG_MISSING)]
    except (OSError, ConfigError) as exc:
        return None, [Damage(name, "", -1, file, Kind.VOLUME_CFG_BROKEN, str(exc))]
    if config.name != name:
        word = f"expected the name {name}, got {config.name}"
        return None, [Damage(name, "", -1, file, Kind.VOLUME_CFG_BROKEN, word)]
    return config, []


def read_backup(
    store: Store, folder: str, volume: str, backup: str, volume_size: int | None
) -> tuple[BackupConfig | None, list[Damage]]:
    """Read the config of one backup with its map, and what is wrong with it."""
    file = f"{folder}/{backup_file(backup)}"
    try:
        config = parse_backup_config(store.read(file, _CONFIG_LIMIT))
    except FileNotFoundError:
        return None, [Damage(volume, backup, -1, file, Kind.BACKUP_CFG_MISSING)]
    except (OSError, ConfigError) as exc:
        return None, [Damage(volume, backup, -1, file, Kind.BACKUP_CFG_BROKEN, str(exc))]
    wrong = config_problems(config, volume, backup, volume_size)
    return config, [Damage(volume, backup, at, file, kind, word) for at, kind, word in wrong]


def config_problems(
    config: BackupConfig, volume: str, backup: str, volume_size: int | None
) -> list[tuple[int, Kind, str]]:
    """Give what a backup's config says that can't be right, as (offset or -1, kind, words). Pure."""
    wrong: list[tuple[int, Kind, str]] = []
    if (config.name, config.volume) != (backup, volume):
        word = f"expected backup {backup} of {volume}, got {config.name} of {config.volume}"
        wrong.append((-1, Kind.BACKUP_CFG_BROKEN, word))
    if not config.is_complete or config.single_file:
        return wrong
    expected = config.count * config.block_size
    if config.size != expected:
        word = f"Size: expected {expected} ({config.count} blocks of {config.block_size}), got {config.size}"
        wrong.append((-1, Kind.BACKUP_CFG_BROKEN, word))
    wrong += [(-1 if f.offset is None else f.offset, Kind.MAP_ENTRY, f.word) for f in config.faults]
    if volume_size is not None:
        last = volume_size - config.block_size
        beyond = (ref.offset for ref in config.blocks if ref.offset > last)
        wrong += [(at, Kind.MAP_ENTRY, f"beyond the volume's {volume_size} bytes") for at in beyond]
    return wrong


def _read_locks(store: Store, folder: str) -> tuple[Lock, ...]:
    files = (name for name in store.names(f"{folder}/locks") if name.startswith("lock-") and name.endswith(".lck"))
    return tuple(lock for lock in (_read_lock(store, f"{folder}/locks/{name}") for name in files) if lock)


def _read_lock(store: Store, path: str) -> Lock | None:
    """Read a lock; None when it is released while it is read. One with a text that can't be read holds nothing."""
    try:
        data, renewed = store.read(path, 1 << 16), store.modified(path)
    except OSError:
        return None
    try:
        fields = json.loads(data)
        kind = _LOCK_KINDS.get(fields.get("Type"), "unknown")
        return Lock(path, kind, acquired=fields.get("Acquired") is True, renewed=renewed)
    except (ValueError, AttributeError, TypeError):
        return Lock(path, "unreadable", acquired=False, renewed=renewed)
