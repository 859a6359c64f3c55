"""The map of a backup: which block stands at which offset. Pure."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

DIGEST_BYTES = 32

_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def checksum_of(block: bytes | memoryview) -> bytes:
    """Give the 32 bytes that name a block: the first half of its SHA-512."""
    return hashlib.sha512(block).digest()[:DIGEST_BYTES]


@cache
def zero_digest(block_size: int) -> bytes:
    """Give the digest of a block of zeros, whose content needs no file."""
    return checksum_of(bytes(block_size))


class BlockRef(NamedTuple):
    """One entry of a backup's map: a byte offset and the digest of the block there."""

    offset: int
    digest: bytes

    @property
    def checksum(self) -> str:
        """The digest in hex, as it stands in file names."""
        return self.digest.hex()


class BlockMap:
    """The blocks of one backup, sorted by offset; 40 bytes an entry, so that large volumes fit into memory."""

    def __init__(self, refs: Iterable[BlockRef] = ()) -> None:
        ordered = sorted(refs)
        self._offsets = array("q", (ref.offset for ref in ordered))
        self._digests = b"".join(ref.digest for ref in ordered)

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[BlockRef]:
        for at, offset in enumerate(self._offsets):
            yield BlockRef(offset, self._digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockMap) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self._offsets.tobytes(), self._digests))


class MapFault(NamedTuple):
    """One entry of a map that can't be right; `offset` is None when it has none."""

    offset: int | None
    word: str


def parse_map(value: object, block_size: int) -> tuple[BlockMap, tuple[MapFault, ...], int]:
    """Read the array Blocks into a map, the faults of its entries, and the number of entries."""
    entries = value if isinstance(value, list) else []
    faults = [] if value is None or isinstance(value, list) else [MapFault(None, "Blocks is not an array")]
    refs: dict[int, BlockRef] = {}
    for entry in entries:
        ref = _entry(entry, block_size)
        if isinstance(ref, MapFault):
            faults.append(ref)
        elif ref.offset in refs:
            faults.append(MapFault(ref.offset, "offset listed twice"))
        else:
            refs[ref.offset] = ref
    return BlockMap(refs.values()), tuple(faults), len(entries)


def _entry(entry: object, block_size: int) -> BlockRef | MapFault:
    fields = {str(key).lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}
    offset, checksum = fields.get("offset"), fields.get("blockchecksum")
    if not isinstance(offset, int) or isinstance(offset, bool):
        return MapFault(None, f"expected a whole number as Offset, got {offset!r}")
    if offset < 0 or offset % block_size or offset >= 1 << 62:
        return MapFault(offset, f"expected an offset that is a multiple of {block_size}, got {offset}")
    if not isinstance(checksum, str) or _CHECKSUM.fullmatch(checksum) is None:
        return MapFault(offset, f"expected a checksum of 64 hex digits, got {checksum!r}")
    return BlockRef(offset, bytes.fromhex(checksum))
