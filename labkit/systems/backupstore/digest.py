"""Read a backup from end to end without writing it: every block checked, and the checksum of what it makes.

The checksum is over the parts of the device that the backup holds, so that the holes of a large volume cost nothing:
whoever reads the same ranges of a restored volume must come to the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

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
_MOST_RANGES = 1000
Range = tuple[int, int]
"""An offset in bytes and a length."""


@dataclass(frozen=True)
class DeviceReport:
    """What one backup makes when it is restored; sizes in bytes.

    `sha256` is over all `ranges` of the device, one behind the other, "" when blocks are damaged; what is outside of
    them is zeros. `blocks` counts the distinct blocks that were read and had their checksum.
    """

    volume: str
    backup: str
    size: int
    blocks: int
    ranges: tuple[Range, ...]
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
        return DeviceReport(entry.name, backup, size or 0, 0, (), "", tuple(damages))
    reader = _Reader(store, entry, config, on_bytes)
    reader.read(workers or usual_workers(remote=not isinstance(store, Folder)))
    found = tuple(sorted([*damages, *reader.damages]))
    fine = not any(damage.costs_backup for damage in found)
    checksum = reader.finish() if fine else ""
    return DeviceReport(entry.name, backup, image_size(entry, config), reader.blocks, reader.ranges, checksum, found)


def data_ranges(offsets: Iterable[int], block_size: int, most: int = _MOST_RANGES) -> tuple[Range, ...]:
    """Return the ranges that blocks at ascending offsets cover; small gaps are bridged to have few. Pure."""
    starts = list(offsets)
    if not starts:
        return ()
    gaps = [(later - earlier - block_size, number) for number, (earlier, later) in enumerate(pairwise(starts), 1)]
    wide = sorted((gap for gap in gaps if gap[0] > 0), reverse=True)[: most - 1]
    cuts = [0, *sorted(number for _, number in wide), len(starts)]
    return tuple((starts[a], starts[b - 1] + block_size - starts[a]) for a, b in pairwise(cuts))


class _Reader:
    """Fetches side by side and follows with the checksum in the device's order."""

    def __init__(self, store: Store, entry: VolumeEntry, config: BackupConfig, on_bytes: Callable[[int], None]) -> None:
        self._store, self._entry, self._config, self._on_bytes = store, entry, config, on_bytes
        self.ranges = data_ranges((ref.offset for ref in config.blocks), config.block_size)
        self._open = list(reversed(self.ranges))
        self._hash = hashlib.sha256()
        self._at = self._open[-1][0] if self._open else 0
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

    def finish(self) -> str:
        """Follow to the end of the last range; return the checksum."""
        self._skip_to(sum(self.ranges[-1]) if self.ranges else 0)
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
        """Follow over what no block of the map fills, up to an offset: zeros within ranges, nothing between them."""
        while self._open and offset >= sum(self._open[-1]):
            self._zeros_to(sum(self._open.pop()))
            self._at = self._open[-1][0] if self._open else self._at
        self._zeros_to(offset)

    def _zeros_to(self, offset: int) -> None:
        while self._at < offset:
            count = min(len(_ZEROS), offset - self._at)
            self._hash.update(_ZEROS[:count])
            self._at += count
            self._on_bytes(count)
