"""Check that every block of the backups is there and has its checksum; a shared block is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from labkit.errors import StepFailed, SystemDown
from labkit.systems.backupstore.access import Folder, Store
from labkit.systems.backupstore.blockmap import BlockRef
from labkit.systems.backupstore.blocks import Checked, check_block, read_limit
from labkit.systems.backupstore.catalog import VolumeEntry, read_backup
from labkit.systems.backupstore.damage import Damage, Kind, lost_backups
from labkit.systems.backupstore.layout import BackupConfig, block_file
from labkit.systems.backupstore.parallel import side_by_side, usual_workers
from labkit.systems.backupstore.verifystate import Progress


class BlockTask(NamedTuple):
    """One distinct block to check: its digest, its uncompressed size and the method that its backup names."""

    digest: bytes
    block_size: int
    method: str


@dataclass
class VolumeReport:
    """What the check of one volume found; byte counts are of the device (uncompressed)."""

    volume: str
    checked: dict[str, bool] = field(default_factory=dict)
    damages: tuple[Damage, ...] = ()
    blocks: int = 0
    bytes: int = 0
    skipped: int = 0
    orphans: int | None = None
    vanished: tuple[str, ...] = ()

    @property
    def restorable(self) -> tuple[str, ...]:
        """The backups that can be read in full."""
        return tuple(name for name, fine in self.checked.items() if fine)

    @property
    def lost(self) -> tuple[str, ...]:
        """The backups that can't be read in full."""
        return tuple(name for name, fine in self.checked.items() if not fine)


def plan_blocks(configs: Iterable[BackupConfig]) -> list[BlockTask]:
    """List the distinct blocks of some backups, in the order in which they first occur. Pure."""
    tasks = {
        (ref.digest, config.block_size): BlockTask(ref.digest, config.block_size, config.compression)
        for config in configs
        for ref in config.blocks
    }
    return list(tasks.values())


def places_of(
    configs: Iterable[BackupConfig], blocks: Mapping[tuple[bytes, int], Checked]
) -> Iterator[tuple[str, BlockRef, Checked]]:
    """Give every place where one of some blocks, by (digest, block size), is used, and what is known of it. Pure."""
    for config in configs:
        for ref in config.blocks:
            if found := blocks.get((ref.digest, config.block_size)):
                yield config.name, ref, found


def fetch_block(store: Store, folder: str, task: BlockTask) -> Checked:
    """Read and check one block; what is wrong with its file is given, not raised."""
    try:
        data = store.read(f"{folder}/{block_file(task.digest.hex())}", read_limit(task.block_size))
    except (FileNotFoundError, NotADirectoryError):
        return Checked(None, Kind.BLOCK_MISSING)
    except OSError as exc:
        return Checked(None, Kind.BLOCK_UNREADABLE, str(exc))
    return check_block(data, task.digest, task.block_size, task.method)


def verify_volume(
    store: Store,
    entry: VolumeEntry,
    *,
    backups: Iterable[str] | None = None,
    progress: Progress | None = None,
    on_block: Callable[[int], None] = lambda _: None,
    workers: int | None = None,
) -> VolumeReport:
    """Check all blocks of a volume's complete backups, or of some of them.

    Args:
        store: the store.
        entry: the volume, as the catalog listed it.
        backups: the names of the backups to check; None checks all.
        progress: remembers the blocks found good, so that an interrupted check goes on.
        on_block: called after each block with its uncompressed size.
        workers: threads; None chooses.

    Raises:
        SystemDown: the store stopped answering or vanished.
    """
    wanted = None if backups is None else frozenset(backups)
    report = VolumeReport(entry.name)
    configs, damages = _read_configs(store, entry, wanted)
    bad = _check_blocks(
        store,
        entry,
        plan_blocks(configs),
        report=report,
        progress=progress or Progress(),
        on_block=on_block,
        workers=workers,
    )
    bad, gone = _look_again(store, entry, bad, configs)
    report.vanished = gone
    damages += [
        Damage(entry.name, backup, ref.offset, f"{entry.folder}/{block_file(ref.checksum)}", found.kind, found.detail)
        for backup, ref, found in places_of(
            configs, {(task.digest, task.block_size): found for task, found in bad.items()}
        )
        if backup not in gone and found.kind
    ]
    volume_wide = [d for d in entry.damages if not d.backup or d.kind is Kind.BACKUP_CFG_MISSING]
    report.damages = tuple(sorted({*damages, *volume_wide}))
    lost = lost_backups(report.damages)
    names = [item.name for item in entry.backups if item.state in {"complete", "broken"} and item.name not in gone]
    report.checked = {n: (entry.name, n) not in lost for n in names if wanted is None or n in wanted}
    if wanted is None and all(item.config is not None for item in entry.backups):
        report.orphans = _count_orphans(store, entry, configs)
    return report


def _read_configs(
    store: Store, entry: VolumeEntry, wanted: frozenset[str] | None
) -> tuple[list[BackupConfig], list[Damage]]:
    configs: list[BackupConfig] = []
    damages: list[Damage] = []
    size = entry.config.size if entry.config else None
    for item in entry.backups:
        if (wanted is None or item.name in wanted) and item.state in {"complete", "broken"}:
            config, wrong = read_backup(store, entry.folder, entry.name, item.name, size)
            damages += wrong
            configs += [config] if config else []
    return configs, damages


def _check_blocks(
    store: Store,
    entry: VolumeEntry,
    tasks: list[BlockTask],
    *,
    report: VolumeReport,
    progress: Progress,
    on_block: Callable[[int], None],
    workers: int | None,
) -> dict[BlockTask, Checked]:
    """Check blocks side by side; gives those with something wrong."""

    def check(task: BlockTask) -> tuple[BlockTask, Checked]:
        found = fetch_block(store, entry.folder, task)
        return task, found._replace(content=None)  # only the verdict: the content would fill the memory

    known = progress.known(entry.name)
    open_tasks = [task for task in tasks if task.digest not in known]
    for task in tasks:
        if task.digest in known:
            report.skipped += 1
            on_block(task.block_size)
    bad: dict[BlockTask, Checked] = {}
    count = workers or usual_workers(remote=not isinstance(store, Folder))
    for task, found in side_by_side(check, open_tasks, count):
        report.blocks += 1
        report.bytes += task.block_size
        if found.kind is None:
            progress.add(entry.name, task.digest)
        else:
            bad[task] = found
        on_block(task.block_size)
    return bad


def _look_again(
    store: Store, entry: VolumeEntry, bad: dict[BlockTask, Checked], configs: list[BackupConfig]
) -> tuple[dict[BlockTask, Checked], tuple[str, ...]]:
    """Read missing blocks once more and find backups that were deleted meanwhile: a store may change."""
    missing = [task for task, found in bad.items() if found.kind is Kind.BLOCK_MISSING]
    if not missing:
        return bad, ()
    if not store.names("volumes"):
        raise SystemDown(
            f"backup store {store.where}: expected its volumes, got an empty folder: it vanished while it was read",
            next_step="look at the mount and the NAS, then run the command again",
        )
    files = store.names(f"{entry.folder}/backups")
    gone = tuple(config.name for config in configs if f"backup_{config.name}.cfg" not in files)
    again = {task: fetch_block(store, entry.folder, task)._replace(content=None) for task in missing}
    still = {**bad, **again}
    return {task: found for task, found in still.items() if found.kind is not None}, gone


def _count_orphans(store: Store, entry: VolumeEntry, configs: Iterable[BackupConfig]) -> int:
    """Count block files that no backup names; normal after a deletion that was cut short."""
    named = {ref.digest.hex() for config in configs for ref in config.blocks}
    pool = f"{entry.folder}/blocks"
    files = (
        name.removesuffix(".blk")
        for first in store.names(pool)
        for second in store.names(f"{pool}/{first}")
        for name in store.names(f"{pool}/{first}/{second}")
        if name.endswith(".blk")
    )
    return sum(1 for checksum in files if checksum not in named)


def read_whole(store: Store, entry: VolumeEntry, backup: str) -> BackupConfig:
    """Read the config of one backup with its map; raises `StepFailed` when it says something that can't be right."""
    size = entry.config.size if entry.config else None
    config, damages = read_backup(store, entry.folder, entry.name, backup, size)
    if config is None or damages:
        raise StepFailed(f"backup {backup} of {entry.name}: expected a config that can be right, got {damages[0]}")
    return config
