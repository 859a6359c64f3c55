"""Write one backup as a sparse raw image, checked on the way, and never half of it under its final name."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from labkit.errors import StepFailed
from labkit.systems.backupstore.access import Folder, Store, bad_option
from labkit.systems.backupstore.blockmap import zero_digest
from labkit.systems.backupstore.blocks import Checked
from labkit.systems.backupstore.catalog import VolumeEntry, read_backup
from labkit.systems.backupstore.damage import Damage
from labkit.systems.backupstore.layout import BackupConfig, block_file
from labkit.systems.backupstore.newfile import new_file
from labkit.systems.backupstore.parallel import side_by_side, usual_workers
from labkit.systems.backupstore.verify import BlockTask, fetch_block

_ZEROS = bytes(4 << 20)
_SYNC_EVERY = 32 << 20


class WriteTask(NamedTuple):
    """One distinct block and the offsets, ascending, where it goes."""

    block: BlockTask
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class Extracted:
    """An image that was written; `sha256` is of all `size` bytes, None when it was not wanted.

    `written` counts the bytes that are no holes; `damages` names what was left out (or only wrapped wrongly).
    """

    image: Path
    volume: str
    backup: str
    size: int
    written: int
    sha256: str | None
    damages: tuple[Damage, ...]

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing was left out."""
        return not any(damage.costs_backup for damage in self.damages)


class BackupDamaged(StepFailed):
    """Report a backup that can't be read in full; `damages` lists every place."""

    exit_status = 1

    def __init__(self, config: BackupConfig, damages: tuple[Damage, ...]) -> None:
        self.damages = damages
        places = "\n".join(f"  {damage}" for damage in damages)
        super().__init__(
            f"backup {config.name} of {config.volume}: expected all its blocks, got {len(damages)} damaged; "
            f"no image was written\n{places}",
            next_step="take an earlier backup (labkit backups verify names whole ones), or --keep-going for the rest",
        )


def plan_writes(config: BackupConfig, size: int) -> list[WriteTask]:
    """List the blocks of an image of `size` bytes by their first offsets; blocks of zeros stay holes. Pure."""
    offsets: dict[bytes, list[int]] = {}
    zero = zero_digest(config.block_size)
    for ref in config.blocks:
        if ref.digest != zero and ref.offset + config.block_size <= size:
            offsets.setdefault(ref.digest, []).append(ref.offset)
    return [
        WriteTask(BlockTask(digest, config.block_size, config.compression), tuple(places))
        for digest, places in offsets.items()
    ]


def image_size(entry: VolumeEntry, config: BackupConfig) -> int:
    """Give the size of the image in bytes: the volume's, or what its map reaches when volume.cfg is lost. Pure."""
    if entry.config is not None:
        return entry.config.size
    return max((ref.offset + config.block_size for ref in config.blocks), default=0)


def extract_backup(
    store: Store,
    entry: VolumeEntry,
    backup: str,
    image: Path,
    *,
    size: int | None = None,
    force: bool = False,
    keep_going: bool = False,
    without_backing_image: bool = False,
    checksum: bool = True,
    on_bytes: Callable[[int], None] = lambda _: None,
    workers: int | None = None,
) -> Extracted:
    """Write a backup to a raw image.

    Args:
        store: the store.
        entry: the backup's volume, as the catalog listed it.
        backup: the name of a complete backup.
        image: the file to make; its folder must exist.
        size: the size of the image in bytes when volume.cfg does not say it.
        force: replace an existing file.
        keep_going: leave holes where blocks are damaged instead of stopping.
        without_backing_image: leave holes where the volume shows its backing image.
        checksum: compute the SHA-256 of the whole image.
        on_bytes: called with the bytes of the image that were dealt with since the last call.
        workers: threads; None chooses.

    Raises:
        InputError: the image exists or lies in the store, or the backup can't be extracted as it is.
        BackupDamaged: blocks are damaged; every one was looked at, no image is left.
        StepFailed: the image can't be written.
        SystemDown: the store stopped answering.
    """
    _refuse_target(store, image, force=force)
    known_size = entry.config.size if entry.config else size
    config, found = read_backup(store, entry.folder, entry.name, backup, known_size)
    if config is None:
        raise StepFailed(f"backup {backup} of {entry.name}: expected its config, got {found[0]}")
    _refuse_backup(entry, config, without_backing_image=without_backing_image)
    damages = [damage for damage in found if damage.costs_backup]
    if damages and not keep_going:
        raise BackupDamaged(config, tuple(damages))
    total = known_size if known_size is not None else image_size(entry, config)
    writer = _Writer(store, entry, config, total, keep_going=keep_going, checksum=checksum, on_bytes=on_bytes)
    with new_file(image, force=force) as fd:
        _refuse_full(image, config)
        os.ftruncate(fd, total)
        writer.write_all(fd, workers or usual_workers(remote=not isinstance(store, Folder)))
        damages += writer.damages
        if writer.is_stopped:
            raise BackupDamaged(config, tuple(sorted(damages)))
        os.fsync(fd)
    return Extracted(image, entry.name, backup, total, writer.written, writer.sha256, tuple(sorted(damages)))


class _Writer:
    """Decodes side by side, writes each block where it belongs, and follows with the checksum in the image's order."""

    def __init__(
        self,
        store: Store,
        entry: VolumeEntry,
        config: BackupConfig,
        size: int,
        *,
        keep_going: bool,
        checksum: bool,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._store, self._entry, self._config, self._size = store, entry, config, size
        self._keep_going, self._on_bytes = keep_going, on_bytes
        self._hash = hashlib.sha256() if checksum else None
        self._hashed = 0
        self._fd, self._synced = -1, 0
        self._syncing: Future[None] = Future()
        self._syncing.set_result(None)
        self.damages: list[Damage] = []
        self.written = 0
        self.is_stopped = False

    @property
    def sha256(self) -> str | None:
        """The checksum of the whole image in hex; None when it was not wanted."""
        return self._hash.hexdigest() if self._hash else None

    def write_all(self, fd: int, workers: int) -> None:
        """Write all blocks; on damage, unless told to keep going, only look at the rest."""
        self._fd = fd
        with ThreadPoolExecutor(1) as syncer:
            self._write_and_follow(workers, syncer)

    def _write_and_follow(self, workers: int, syncer: ThreadPoolExecutor) -> None:
        tasks = plan_writes(self._config, self._size)
        repeated = sorted(offset for task in tasks for offset in task.offsets[1:])
        lost: set[int] = set()
        at = 0
        for task, found in side_by_side(self._write, tasks, workers):
            first, content = task.offsets[0], found.content
            self._account(task, found)
            self._sync_early(syncer)
            while at < len(repeated) and repeated[at] < first:
                self._follow(repeated[at], None, repeated[at] in lost)
                at += 1
            lost.update(() if content else task.offsets)
            self._follow(first, content, content is None)
        for offset in repeated[at:]:
            self._follow(offset, None, offset in lost)
        self._skip_to(self._size)

    def _write(self, task: WriteTask) -> tuple[WriteTask, Checked]:
        """Fetch and write one block; runs in several threads, so it only reads what they share."""
        found = fetch_block(self._store, self._entry.folder, task.block)
        if found.content is not None and not self.is_stopped:
            for offset in task.offsets:
                _write_at(self._fd, found.content, offset)
        return task, found

    def _sync_early(self, syncer: ThreadPoolExecutor) -> None:
        """Let the disk write while blocks are decoded: the `fsync` at the end then finds little left to do."""
        if self.written - self._synced >= _SYNC_EVERY and self._syncing.done():
            self._synced = self.written
            self._syncing = syncer.submit(os.fdatasync, self._fd)

    def _account(self, task: WriteTask, found: Checked) -> None:
        if found.content is not None:
            self.written += len(found.content) * len(task.offsets)
        elif not self._keep_going:
            self.is_stopped = True
        if found.kind is not None:
            file = f"{self._entry.folder}/{block_file(task.block.digest.hex())}"
            self.damages += [
                Damage(self._entry.name, self._config.name, offset, file, found.kind, found.detail)
                for offset in task.offsets
            ]

    def _follow(self, offset: int, content: bytes | None, is_hole: bool) -> None:
        """Take the checksum on over one block; a repeated one is read back from the image."""
        block_size = self._config.block_size
        self._skip_to(offset)
        if self._hash and not self.is_stopped:
            if is_hole:
                content = bytes(block_size)
            elif content is None:
                content = os.pread(self._fd, block_size, offset)
            self._hash.update(content or b"")
        self._hashed = offset + block_size
        self._on_bytes(block_size)

    def _skip_to(self, offset: int) -> None:
        """Take the checksum on over a hole."""
        while self._hashed < offset:
            count = min(len(_ZEROS), offset - self._hashed)
            if self._hash and not self.is_stopped:
                self._hash.update(_ZEROS[:count] if count < len(_ZEROS) else _ZEROS)
            self._hashed += count
            self._on_bytes(count)


def _write_at(fd: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _refuse_target(store: Store, image: Path, *, force: bool) -> None:
    if not image.parent.is_dir():
        raise bad_option(str(image), "a file in an existing folder", f"no folder {image.parent}")
    if isinstance(store, Folder) and image.resolve().is_relative_to(store.root.resolve()):
        raise bad_option(str(image), "a file outside of the store, which is only ever read", "one inside")
    if image.is_symlink() or image.exists():
        if not image.is_file():
            raise bad_option(str(image), "a new file", "something that is no plain file")
        if not force:
            raise bad_option(str(image), "a new file", "one that exists", "name another, or --force to replace it")


def _refuse_backup(entry: VolumeEntry, config: BackupConfig, *, without_backing_image: bool) -> None:
    if config.single_file or not config.is_complete:
        got = "a single file" if config.single_file else "one in progress or broken off"
        raise bad_option(f"backup {config.name}", "a complete backup of blocks", got, "choose another one")
    backing = entry.config.backing_image if entry.config else ""
    if backing and not without_backing_image:
        got = f"one that lies on backing image {backing}, which is not part of its backups"
        hint = "--without-backing-image leaves holes where it shows"
        raise bad_option(f"volume {entry.name}", "a volume without a backing image", got, hint)


def _refuse_full(image: Path, config: BackupConfig) -> None:
    zero = zero_digest(config.block_size)
    needed = sum(config.block_size for ref in config.blocks if ref.digest != zero)
    free = shutil.disk_usage(image.parent).free
    if needed > free:
        raise StepFailed(
            f"{image}: expected room for {needed} bytes, got {free}",
            next_step="make room, or name a folder on another disk",
        )
