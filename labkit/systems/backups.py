"""The backup store of a lab without its cluster: found, listed, and backups in it read block by block.

The lab file says where it is (`nas.store`): a folder where the backup target is mounted, or one behind SFTP. On a lab
whose `Access` has the target mounted already, that is it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labkit.errors import InputError, LabError, Mistake
from labkit.facts.backups import StoredBackup, StoredVolume, StoreFacts
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.backupstore.access import NoStoreError, Store, open_folder
from labkit.systems.backupstore.catalog import BackupEntry, Catalog, VolumeEntry, read_catalog
from labkit.systems.backupstore.damage import Damage
from labkit.systems.backupstore.digest import DeviceReport, read_device
from labkit.systems.backupstore.verify import VolumeReport, verify_volume

NEXT = (
    "mount the export here (or allow SFTP), and say where in the lab file: "
    "nas.store: /mnt/backups, or sftp://user@host/path"
)


@dataclass(frozen=True)
class Wanted:
    """A backup to look at: of a volume, by name."""

    volume: str
    backup: str


@contextmanager
def open_store(lab: Lab, access: Access) -> Iterator[Store]:
    """Open the lab's backup store for the time of the block.

    Raises:
        InputError: the lab file does not say where it is, or there is no store (an empty folder is none).
        SystemDown: it does not answer.
    """
    place = store_place(lab, access)
    if isinstance(place, Path):
        yield open_folder(place)
        return
    from labkit.systems.backupstore.sftp import SftpStore, parse_sftp_url  # noqa: PLC0415  # rarely needed, slow

    remote = SftpStore(parse_sftp_url(place))
    try:
        yield remote
    finally:
        remote.close()


def store_place(lab: Lab, access: Access) -> Path | str:
    """Return the folder of the store, or the URL of one behind SFTP; raise InputError when nothing says where."""
    mounted = access.mounts.get(plain_target(lab.nas.backup_target))
    if mounted is not None:
        return mounted
    if lab.nas.store is None:
        raise InputError(
            [Mistake(f"lab {lab.name}", 0, 0, "nas.store", "the place of the backup store", "nothing")], next_step=NEXT
        )
    return lab.nas.store if lab.nas.store.startswith("sftp://") else access.path(lab.nas.store)


def plain_target(url: str) -> str:
    """Return a backup target's URL without its options and the slash at its end."""
    return url.partition("?")[0].rstrip("/")


def read_store(lab: Lab, access: Access) -> StoreFacts:
    """Return what the store holds, by its config files; a store that cannot be read is a problem, no error."""
    now = datetime.now(UTC)
    where = lab.nas.store or lab.nas.backup_target
    try:
        with open_store(lab, access) as store:
            return store_facts(read_catalog(store), now).model_copy(update={"where": where})
    except NoStoreError as exc:
        return StoreFacts(where=where, problem=_in_words(exc, where), empty=exc.is_empty, read_at=now)
    except LabError as exc:
        return StoreFacts(where=where, problem=_in_words(exc, where), read_at=now)


def store_facts(catalog: Catalog, now: datetime) -> StoreFacts:
    """Return a catalog as facts. Pure."""
    volumes = tuple(_volume(entry) for entry in catalog.volumes)
    problem = "" if volumes else f"{catalog.where}: expected volumes with backups, got an empty store"
    return StoreFacts(where=catalog.where, volumes=volumes, problem=problem, empty=not volumes, read_at=now)


def verify_backups(
    lab: Lab,
    access: Access,
    wanted: Iterable[Wanted],
    *,
    on_volume: Callable[[str], None] = lambda _: None,
    on_block: Callable[[int], None] = lambda _: None,
    side_by_side: int = 2,
) -> tuple[StoredVolume, ...]:
    """Read every block of some backups and compare its checksum; volumes side by side, blocks as well.

    Args:
        lab: whose store it is.
        access: how it is reached.
        wanted: the backups; shared blocks of a volume are read once.
        on_volume: called with a sentence when a volume has been looked at.
        on_block: called after each block with its uncompressed size.
        side_by_side: how many volumes at a time.

    Returns:
        The volumes with the wanted backups only, each `verified`, with its damage; what the store has not is left out.

    Raises:
        InputError, SystemDown: the store cannot be opened, or went away.
    """
    names: dict[str, list[str]] = {}
    for one in wanted:
        names.setdefault(one.volume, []).append(one.backup)
    with open_store(lab, access) as store, ThreadPoolExecutor(max_workers=max(1, side_by_side)) as pool:
        entries = {name: entry for name in names if (entry := find_volume(store, name))}

        def verify(entry: VolumeEntry) -> StoredVolume:
            report = verify_volume(store, entry, backups=names[entry.name], on_block=on_block)
            on_volume(f"{entry.name}: {len(report.restorable)} of {len(report.checked)} backups whole")
            return verified(entry, report)

        return tuple(pool.map(verify, entries.values()))


def hash_backup(
    lab: Lab, access: Access, wanted: Wanted, *, on_bytes: Callable[[int], None] = lambda _: None
) -> DeviceReport:
    """Read one backup from end to end: every block checked, and the SHA-256 of the device that it makes.

    Raises:
        InputError: the store cannot be opened, or has no such volume or backup.
        SystemDown: it went away.
    """
    with open_store(lab, access) as store:
        entry = find_volume(store, wanted.volume)
        if entry is None or wanted.backup not in {one.name for one in entry.backups}:
            got = (
                "no such volume" if entry is None else f"only {', '.join(one.name for one in entry.backups) or 'none'}"
            )
            raise InputError(
                [Mistake(store.where, 0, 0, wanted.volume, f"backup {wanted.backup}", got)],
                next_step="look whether Longhorn writes to that target: its URL and nas.store must be the same folder",
            )
        return read_device(store, entry, wanted.backup, on_bytes=on_bytes)


def find_volume(store: Store, name: str) -> VolumeEntry | None:
    """Return a volume of the store, None when it has none of that name."""
    return next(iter(read_catalog(store, only=name).volumes), None)


def verified(entry: VolumeEntry, report: VolumeReport) -> StoredVolume:
    """Return a volume with the backups that were verified, and what is wrong with each. Pure."""
    fact = _volume(entry)
    backups = tuple(
        one.model_copy(update={"verified": True, "damage": tuple(_words(report.damages, one.name))})
        for one in fact.backups
        if one.name in report.checked
    )
    return fact.model_copy(update={"backups": backups})


def _volume(entry: VolumeEntry) -> StoredVolume:
    config = entry.config
    return StoredVolume(
        name=entry.name,
        size=config.size if config else 0,
        namespace=entry.pvc.namespace if entry.pvc else "",
        claim=entry.pvc.name if entry.pvc else "",
        storage_class=config.storage_class if config else "",
        job_labels=entry.job_labels,
        backups=tuple(sorted((_backup(entry, one) for one in entry.backups), key=_age)),
        damage=tuple(_words(entry.damages, "")),
    )


def _backup(entry: VolumeEntry, one: BackupEntry) -> StoredBackup:
    config = one.config
    damage = tuple(_words(entry.damages, one.name))
    if config is None:
        return StoredBackup(name=one.name, volume=entry.name, damage=damage or ("its config cannot be read",))
    return StoredBackup(
        name=one.name,
        volume=entry.name,
        created=config.created_at if one.state == "complete" else None,
        snapshot_created=config.snapshot_at,
        size=config.size,
        blocks=config.count,
        namespace=config.pvc.namespace if config.pvc else "",
        claim=config.pvc.name if config.pvc else "",
        damage=damage,
    )


def _age(backup: StoredBackup) -> tuple[datetime, str]:
    oldest = datetime.fromtimestamp(0, UTC)
    return (backup.snapshot_created or backup.created or oldest, backup.name)


def _words(damages: Iterable[Damage], backup: str) -> Iterator[str]:
    """Give what costs a backup (or concerns the whole volume, for "")."""
    return (str(one) for one in damages if one.backup == backup and (not backup or one.costs_backup))


def _in_words(exc: LabError, where: str) -> str:
    """Return an error in one line, its next step behind it; `where` stands for the folder that it was mounted at."""
    if isinstance(exc, InputError):
        text = "; ".join(f"{where}: expected {one.expected}, got {one.got}" for one in exc.mistakes)
    else:
        text = " ".join(line.strip() for line in exc.message.splitlines())
    return "; ".join(filter(None, (text, exc.next_step)))
