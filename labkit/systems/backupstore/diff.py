"""What changed between two backups of a volume, or between a backup and an image."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from labkit.errors import StepFailed
from labkit.systems.backupstore.access import bad_option
from labkit.systems.backupstore.blockmap import BlockMap, checksum_of, zero_digest
from labkit.systems.backupstore.layout import BackupConfig
from labkit.systems.backupstore.parallel import side_by_side, usual_workers


class Range(NamedTuple):
    """Changed bytes: `offset` and `length`."""

    offset: int
    length: int


@dataclass(frozen=True)
class Difference:
    """The changed ranges, in ascending order and merged; `sizes` are those of both sides in bytes."""

    ranges: tuple[Range, ...]
    sizes: tuple[int, int]

    @property
    def bytes(self) -> int:
        """How many bytes lie in changed blocks."""
        return sum(one.length for one in self.ranges)

    @property
    def is_same(self) -> bool:
        """Tell whether both sides are equal, sizes included."""
        return not self.ranges and self.sizes[0] == self.sizes[1]


def diff_maps(old: BackupConfig, new: BackupConfig) -> tuple[Range, ...]:
    """Compare two backups by their maps; a block of zeros equals a hole. Pure; raises `InputError`."""
    if old.block_size != new.block_size:
        sizes = f"{old.block_size} and {new.block_size}"
        raise bad_option(f"{old.name}, {new.name}", "two backups with the same block size", sizes)
    zero = zero_digest(old.block_size)
    before, after = _content(old.blocks, zero), _content(new.blocks, zero)
    changed = (at for at in sorted(before.keys() | after.keys()) if before.get(at) != after.get(at))
    return merge(changed, old.block_size)


def merge(offsets: Iterable[int], length: int) -> tuple[Range, ...]:
    """Join blocks that follow each other; `offsets` ascend. Pure."""
    ranges: list[Range] = []
    for offset in offsets:
        if ranges and ranges[-1].offset + ranges[-1].length == offset:
            ranges[-1] = Range(ranges[-1].offset, ranges[-1].length + length)
        else:
            ranges.append(Range(offset, length))
    return tuple(ranges)


def diff_image(
    config: BackupConfig,
    size: int,
    image: Path,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
    workers: int | None = None,
) -> Difference:
    """Compare a backup with a raw image by checksums, without reading the store's blocks.

    Args:
        config: the backup with its map.
        size: the size of the volume in bytes.
        image: the image; a block device will do.
        on_bytes: called with the bytes that were compared since the last call.
        workers: threads; None chooses.

    Raises:
        InputError: the image can't be read.
        StepFailed: reading it failed on the way.
    """
    try:
        fd = os.open(image, os.O_RDONLY)
    except OSError as exc:
        raise bad_option(str(image), "an image that can be read", exc.strerror or str(exc)) from exc
    try:
        got = os.lseek(fd, 0, os.SEEK_END)
        changed = list(_changed(config, fd, min(size, got), on_bytes, workers or usual_workers()))
    except OSError as exc:
        raise StepFailed(f"{image}: expected to read it, got: {exc.strerror}") from exc
    finally:
        os.close(fd)
    return Difference(merge(changed, config.block_size), (size, got))


def _changed(config: BackupConfig, fd: int, size: int, on_bytes: Callable[[int], None], workers: int) -> Iterator[int]:
    zero = zero_digest(config.block_size)
    expected = _content(config.blocks, zero)
    offsets = sorted({*expected, *_data_blocks(fd, size, config.block_size)})

    def differs(offset: int) -> bool:
        block = os.pread(fd, config.block_size, offset)
        return checksum_of(block.ljust(config.block_size, b"\0")) != expected.get(offset, zero)

    for offset, is_changed in zip(offsets, side_by_side(differs, offsets, workers), strict=True):
        on_bytes(config.block_size)
        if is_changed:
            yield offset


def _data_blocks(fd: int, size: int, block_size: int) -> Iterator[int]:
    """Give the offsets of blocks that are no holes, so that only they are read."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA) if hasattr(os, "SEEK_DATA") else at
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # no data any more
                return
            start = at  # a device that has no notion of holes
        at = start - start % block_size
        if at < size:
            yield at
        at += block_size


def _content(blocks: BlockMap, zero: bytes) -> dict[int, bytes]:
    return {ref.offset: ref.digest for ref in blocks if ref.digest != zero}
