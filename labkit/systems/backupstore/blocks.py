"""Turn the file of a block into its content: lz4 frames, gzip members, or the bytes themselves. Pure.

The method of a file is not recorded, so the first bytes and the backup's word are both only hints, and whatever gives
the checksum is right. The usual frame is taken apart here and its blocks decoded straight into memory of the right
size: the library's frame decoder copies them once more and grows its buffer, which costs most of its time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import lz4.block
import lz4.frame
import xxhash

from labkit.systems.backupstore.blockmap import checksum_of
from labkit.systems.backupstore.damage import Kind

_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_GZIP_MAGIC = b"\x1f\x8b"
# Version 1, independent blocks, content checksum, blocks of at most 4 MiB: what Longhorn writes.
_USUAL_HEADER = _LZ4_MAGIC + b"\x64\x70\xb9"
_LZ4_MAX = 4 << 20
_STORED = 1 << 31
_GZIP_HEADER_BYTES = 10


class Decoded(NamedTuple):
    """The content of a block's file, and what is wrong with its wrapping (empty: nothing)."""

    content: bytes
    flaw: str = ""


class Checked(NamedTuple):
    """A block after the check: its content when the checksum fits, and what was found wrong."""

    content: bytes | None
    kind: Kind | None = None
    detail: str = ""


class UndecodableError(ValueError):
    """Say why a file can't be decoded; `truncated` when it ends too early."""

    def __init__(self, message: str, *, truncated: bool = False) -> None:
        super().__init__(message)
        self.truncated = truncated


def read_limit(block_size: int) -> int:
    """Give the most bytes that the file of a block can have: incompressible data grows a little."""
    return block_size + block_size // 64 + 4096


def check_block(data: bytes, digest: bytes, block_size: int, method: str) -> Checked:
    """Decode a block's file and compare its length and checksum; tries the likely method first, then the others."""
    failures: list[Checked] = []
    for decode in _candidates(data, method):
        found = _try(decode, data, digest, block_size)
        if found.content is not None:
            return found
        failures.append(found)
    return failures[0]


def _try(decode: Callable[[bytes, int], Decoded], data: bytes, digest: bytes, block_size: int) -> Checked:
    try:
        content, flaw = decode(data, block_size)
    except UndecodableError as exc:
        return Checked(None, Kind.BLOCK_TRUNCATED if exc.truncated else Kind.BLOCK_UNDECODABLE, str(exc))
    if len(content) != block_size:
        kind = Kind.BLOCK_TRUNCATED if len(content) < block_size else Kind.BLOCK_LENGTH
        return Checked(None, kind, f"expected {block_size} bytes, got {len(content)}")
    got = checksum_of(content)
    if got != digest:
        return Checked(None, Kind.BLOCK_CHECKSUM, f"expected {digest.hex()}, got {got.hex()}")
    return Checked(content, Kind.BLOCK_FRAME, flaw) if flaw else Checked(content)


def _candidates(data: bytes, method: str) -> Iterator[Callable[[bytes, int], Decoded]]:
    """Give the ways to decode, likely ones first: the backup's method, what the first bytes say, as they are."""
    known = {"lz4": decode_lz4, "gzip": decode_gzip, "none": decode_none}
    order = [method] if method in known else []
    if data.startswith(_LZ4_MAGIC):
        order.append("lz4")
    if data.startswith(_GZIP_MAGIC):
        order.append("gzip")
    order.append("none")
    return (known[name] for name in dict.fromkeys(order))


def decode_none(data: bytes, block_size: int) -> Decoded:
    """Give an uncompressed block; bytes beyond it are a flaw."""
    if len(data) > block_size:
        return Decoded(data[:block_size], f"{len(data) - block_size} bytes follow the block")
    return Decoded(data)


def decode_gzip(data: bytes, block_size: int) -> Decoded:
    """Decode one gzip member; a wrong trailer or bytes after it are a flaw. Raises `UndecodableError`."""
    try:
        return _inflate(data, block_size, 31)
    except zlib.error as exc:
        plain_header = data[:4] == b"\x1f\x8b\x08\x00"
        if not plain_header:
            raise UndecodableError(f"gzip: {exc}") from exc
    # The trailer or the header is wrong: the deflate stream may still be whole.
    try:
        content, flaw = _inflate(data[_GZIP_HEADER_BYTES:], block_size, -15, trailer=8)
    except zlib.error as exc:
        raise UndecodableError(f"gzip: {exc}") from exc
    return Decoded(content, flaw or "gzip: the checksum or the length in its trailer is wrong")


def _inflate(data: bytes, block_size: int, window: int, *, trailer: int = 0) -> Decoded:
    stream = zlib.decompressobj(window)
    # One byte more than a block tells a longer one; the end mark is only read when there is room left.
    content = stream.decompress(data, block_size + 1)
    if len(content) > block_size:
        return Decoded(content)
    if not stream.eof:
        raise UndecodableError(f"gzip: ends after {len(content)} of {block_size} bytes", truncated=True)
    rest = len(stream.unused_data) - trailer
    return Decoded(content, f"gzip: {rest} bytes follow the member" if rest > 0 else "")


def decode_lz4(data: bytes, block_size: int) -> Decoded:
    """Decode one lz4 frame; a wrong checksum of the frame or bytes after it are a flaw. Raises `UndecodableError`."""
    if data.startswith(_USUAL_HEADER):
        return _decode_usual_frame(data, block_size)
    stream = lz4.frame.LZ4FrameDecompressor()
    try:
        content = stream.decompress(data, max_length=block_size + 1)
    except RuntimeError as exc:
        if data.startswith(_LZ4_MAGIC):
            return _decode_damaged_header(data, block_size, exc)
        raise UndecodableError(f"lz4: {exc}") from exc
    if len(content) <= block_size and not stream.eof:
        raise UndecodableError(f"lz4: ends after {len(content)} of {block_size} bytes", truncated=True)
    return Decoded(content, _following(len(stream.unused_data or b"")))


def _decode_damaged_header(data: bytes, block_size: int, cause: Exception) -> Decoded:
    """Read a frame as if its header were the usual one: the content may be whole."""
    try:
        content, flaw = _decode_usual_frame(data, block_size)
    except UndecodableError:
        raise UndecodableError(f"lz4: {cause}") from cause
    return Decoded(content, flaw or "lz4: the header of the frame is wrong")


def _decode_usual_frame(data: bytes, block_size: int) -> Decoded:
    parts: list[bytes] = []
    length, at = 0, len(_USUAL_HEADER)
    view = memoryview(data)
    while True:
        size = int.from_bytes(_taken(view, at, 4), "little")
        at += 4
        if size == 0:
            break
        room = min(_LZ4_MAX, max(block_size - length, 1))
        part = _decode_part(_taken(view, at, size & ~_STORED), room, stored=bool(size & _STORED))
        parts.append(part)
        at += size & ~_STORED
        length += len(part)
        if length > block_size:
            return Decoded(b"".join(parts))
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    end = _taken(view, at, 4)
    if xxhash.xxh32_intdigest(content) != int.from_bytes(end, "little"):
        return Decoded(content, "lz4: the checksum at the end of the frame is wrong")
    return Decoded(content, _following(len(data) - at - 4))


def _decode_part(part: memoryview, room: int, *, stored: bool) -> bytes:
    if stored:
        return bytes(part)
    try:
        content: bytes = lz4.block.decompress(part, uncompressed_size=room)
    except lz4.block.LZ4BlockError as exc:
        if room < _LZ4_MAX:  # perhaps only longer than a block: then its length is what is wrong
            return _decode_part(part, _LZ4_MAX, stored=False)
        raise UndecodableError(f"lz4: {exc}") from exc
    return content


def _taken(view: memoryview, at: int, count: int) -> memoryview:
    part = view[at : at + count]
    if len(part) < count:
        raise UndecodableError(f"lz4: the file ends after {len(view)} bytes, inside the frame", truncated=True)
    return part


def _following(count: int) -> str:
    return f"lz4: {count} bytes follow the frame" if count else ""
