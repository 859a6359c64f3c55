from __future__ import annotations

import zlib

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.systems.backupstore.blockmap import checksum_of
from labkit.systems.backupstore.blocks import check_block, decode_lz4, read_limit
from labkit.systems.backupstore.damage import Kind
from labkit.twin.longhorn.store import compress

SMALL = 64 << 10  # the decoder does not care: a small size keeps the tests quick
contents = st.builds(
    lambda head, fill: (head + bytes([fill]) * SMALL)[:SMALL], st.binary(max_size=2000), st.integers(0, 255)
)
methods = st.sampled_from(["lz4", "gzip", "none"])


@given(contents, methods, methods)
def test_every_method_reads_back_whatever_the_config_says(content: bytes, written: str, said: str) -> None:
    data = compress(written, content)
    found = check_block(data, checksum_of(content), SMALL, said)
    assert (found.content, found.kind) == (content, None)


@pytest.mark.parametrize("kind", ["text", "noise", "zero"])
def test_blocks_of_16_mib_hold_several_lz4_blocks(make_block, kind: str) -> None:
    content = make_block(kind, 5, 16 << 20)
    data = compress("lz4", content)
    assert data[:7].hex() == "04224d186470b9"
    assert check_block(data, checksum_of(content), 16 << 20, "lz4").content == content
    assert len(data) <= read_limit(16 << 20)


@pytest.mark.parametrize("linked", [True, False])
def test_other_lz4_frames_read_too(make_block, linked: bool) -> None:
    content = make_block("text", 5)
    data = lz4.frame.compress(content, block_linked=linked, block_size=lz4.frame.BLOCKSIZE_MAX64KB, store_size=True)
    assert check_block(data, checksum_of(content), len(content), "lz4") == (content, None, "")


def _strictly_right(method: str, data: bytes, content: bytes) -> bool:
    """Say whether a plain decoder accepts the file and gives the content."""
    try:
        if method == "lz4":
            decoder = lz4.frame.LZ4FrameDecompressor()
            return decoder.decompress(data) == content and decoder.eof and not decoder.unused_data
        if method == "gzip":
            stream = zlib.decompressobj(31)
            return stream.decompress(data) == content and stream.eof and not stream.unused_data
    except (RuntimeError, zlib.error):
        return False
    return data == content


@given(contents, methods, st.data())
@settings(max_examples=300)
def test_no_flipped_bit_goes_unseen(content: bytes, method: str, data: st.DataObject) -> None:
    stored = bytearray(compress(method, content))
    at = data.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= 1 << data.draw(st.integers(0, 7))
    found = check_block(bytes(stored), checksum_of(content), SMALL, method)
    # A few bits carry no meaning (a gzip header's time, padding): then a plain decoder is content too.
    assert (found.kind is None) == _strictly_right(method, bytes(stored), content)
    assert found.content in {None, content}


@given(contents, methods, st.data())
def test_no_truncation_goes_unseen(content: bytes, method: str, data: st.DataObject) -> None:
    stored = compress(method, content)
    kept = data.draw(st.integers(0, len(stored) - 1))
    found = check_block(stored[:kept], checksum_of(content), SMALL, method)
    assert found.kind is not None
    assert found.content is None or (method == "gzip" and kept >= len(stored) - 8)


@given(contents, methods, st.binary(min_size=1, max_size=40))
def test_bytes_after_a_block_are_named_but_cost_nothing(content: bytes, method: str, tail: bytes) -> None:
    found = check_block(compress(method, content) + tail, checksum_of(content), SMALL, method)
    assert (found.content, found.kind) == (content, Kind.BLOCK_FRAME)
    assert "follow" in found.detail


@pytest.mark.parametrize(
    ("method", "cut", "kind"),
    [
        ("lz4", slice(0, -1), Kind.BLOCK_TRUNCATED),
        ("lz4", slice(0, 9), Kind.BLOCK_TRUNCATED),
        ("gzip", slice(0, 40), Kind.BLOCK_TRUNCATED),
        ("none", slice(0, 40), Kind.BLOCK_TRUNCATED),
        ("none", slice(0, 0), Kind.BLOCK_TRUNCATED),
        ("lz4", slice(4, None), Kind.BLOCK_UNDECODABLE),
        ("gzip", slice(4, None), Kind.BLOCK_UNDECODABLE),
    ],
)
def test_kinds_of_damage(make_block, method: str, cut: slice, kind: Kind) -> None:
    content = make_block("text", 1, SMALL)
    assert check_block(compress(method, content)[cut], checksum_of(content), SMALL, method).kind is kind


@pytest.mark.parametrize("method", ["lz4", "gzip", "none"])
@pytest.mark.parametrize(("size", "kind"), [(SMALL // 2, Kind.BLOCK_TRUNCATED), (SMALL * 2, Kind.BLOCK_LENGTH)])
def test_blocks_of_another_size_are_named(make_block, method: str, size: int, kind: Kind) -> None:
    data = compress(method, make_block("text", 1, size))
    found = check_block(data, bytes(32), SMALL, method)
    expected = {kind, Kind.BLOCK_CHECKSUM} if method == "none" else {kind}
    assert found.kind in expected


def test_another_block_under_this_name_is_named(make_block) -> None:
    found = check_block(compress("lz4", make_block("text", 1, SMALL)), bytes(32), SMALL, "lz4")
    assert (found.kind, found.content) == (Kind.BLOCK_CHECKSUM, None)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = lz4.frame.compress(bytes(256 << 20), store_size=False)
    assert len(decode_lz4(bomb, SMALL).content) <= (4 << 20) + SMALL
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packed.compress(bytes(64 << 20)) + packed.flush()
    assert check_block(data, bytes(32), SMALL, "gzip").kind is Kind.BLOCK_LENGTH
