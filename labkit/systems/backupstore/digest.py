"""Read a backup from end to end without writing it: every block checked, and the checksum of the device it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from labkit.systems.backupstore.access import Folder, Store
from labkit.systems.backupstore.blockmap import BlockRef, zero_digest
from labkit.systems.backupstore.blocks import Checked
from labkit.systems.backupstore.catalog import VolumeEntry, read_backup
from labkit.systems.backupstore.damage import Damage
from labkit.systems.backupstore.extract import image_size
from labkit.systems.backupstore.layout import BackupConfig, block_file
from labkit.systems.backupstore.parallel import side_by_side, usual_workers
from labkit.systems.backupstore.verify import BlockTask, fetch_block

_ZEROS = bytes(4 << 20)


@dataclass(frozen=True)
class DeviceReport:
    """What one backup makes when it is restored; `sha256` is of all `size` bytes, "" when blocks are damaged.

    `blocks` counts the distinct blocks that were read and had their checksum.
    """

    volume: str
    backup: str
    size: int
    blocks: int
    sha256: str
    damages: tuple[Damage, ...]

    @property
    def is_whole(self) -> bool:
        """Tell whether the backup can be read in full."""
        return bool(self.sha256)


def read_device(
    store: Store,
    entry: VolumeEntry,
    backup: str,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
    workers: int | None = None,
) -> DeviceReport:
    """Read all blocks of a backup in the order of the device; what is wrong is listed, not raised.

    Args:
        store: the store.
        entry: the backup's volume, as the catalog listed it.
        backup: the name of a backup.
        on_bytes: called with the bytes of the device that were dealt with since the last call.
        workers: threads; None chooses. Memory is bounded by twice as many blocks.

    Raises:
        SystemDown: the store stopped answering.
    """
    size = entry.config.size if entry.config else None
    config, damages = read_backup(store, entry.folder, entry.name, backup, size)
    if config is None or not config.is_complete:
        return DeviceReport(entry.name, backup, size or 0, 0, "", tuple(damages))
    reader = _Reader(store, entry, config, on_bytes)
    reader.read(workers or usual_workers(remote=not isinstance(store, Folder)))
    found = tuple(sorted([*damages, *reader.damages]))
    fine = not any(damage.costs_backup for damage in found)
    total = image_size(entry, config)
    return DeviceReport(entry.name, backup, total, reader.blocks, reader.finish(total) if fine else "", found)


class _Reader:
    """Fetches side by side and follows with the checksum in the device's order."""

    def __init__(self, store: Store, entry: VolumeEntry, config: BackupConfig, on_bytes: Callable[[int], None]) -> None:
        self._store, self._entry, self._config, self._on_bytes = store, entry, config, on_bytes
        self._hash = hashlib.sha256()
        self._at = 0
        self._good: set[bytes] = set()
        self.damages: list[Damage] = []

    @property
    def blocks(self) -> int:
        """How many distinct blocks were found good."""
        return len(self._good)

    def read(self, workers: int) -> None:
        """Read all blocks."""
        for ref, found in side_by_side(self._fetch, self._refs(), workers):
            if found.kind is not None:
                file = f"{self._entry.folder}/{block_file(ref.checksum)}"
                self.damages.append(
                    Damage(self._entry.name, self._config.name, ref.offset, file, found.kind, found.detail)
                )
            if found.content is not None:
                self._good.add(ref.digest)
                self._skip_to(ref.offset)
                self._hash.update(found.content)
                self._at = ref.offset + len(found.content)
                self._on_bytes(len(found.content))

    def finish(self, size: int) -> str:
        """Follow to the end of the device; return the checksum."""
        self._skip_to(size)
        return self._hash.hexdigest()

    def _refs(self) -> Iterator[BlockRef]:
        """Give the blocks; of those that are all zeros only the first, for the rest reads the same unread."""
        zero, seen = zero_digest(self._config.block_size), False
        for ref in self._config.blocks:
            if ref.digest != zero or not seen:
                yield ref
            seen = seen or ref.digest == zero

    def _fetch(self, ref: BlockRef) -> tuple[BlockRef, Checked]:
        task = BlockTask(ref.digest, self._config.block_size, self._config.compression)
        return ref, fetch_block(self._store, self._entry.folder, task)

    def _skip_to(self, offset: int) -> None:
        while self._at < offset:
            count = min(len(_ZEROS), offset - self._at)
            self._hash.update(_ZEROS[:count])
            self._at += count
            self._on_bytes(count)
