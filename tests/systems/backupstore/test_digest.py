"""A backup read from end to end: every block checked, and the checksum that its restored device must have."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.systems.backupstore.damage import Kind
from labkit.systems.backupstore.digest import data_ranges, read_device
from labkit.twin.longhorn.store import StoredVolume, checksum

BLOCK = 2 << 20


def over_ranges(image: bytes, ranges: tuple[tuple[int, int], ...]) -> str:
    return hashlib.sha256(b"".join(image[at : at + length] for at, length in ranges)).hexdigest()


@given(st.sets(st.integers(0, 200)), st.integers(1, 20))
def test_ranges_hold_every_block_and_are_few(places: set[int], most: int) -> None:
    ranges = data_ranges(sorted(place * 8 for place in places), 8, most)
    inside = {at // 8 for start, length in ranges for at in range(start, start + length, 8)}
    assert places <= inside
    assert len(ranges) <= most
    assert list(ranges) == sorted(ranges)
    assert all(a + length < b for (a, length), (b, _) in pairwise(ranges))
    if most > len(places):
        assert inside == places


def test_the_checksum_is_that_of_the_same_ranges_of_the_device(chain) -> None:
    for backup in ("backup-1", "backup-2", "backup-3"):
        found = read_device(chain.store, chain.entry("vol-data"), backup)
        image = chain.images["vol-data", backup]
        assert found.is_whole
        assert found.size == len(image)
        assert found.sha256 == over_ranges(image, found.ranges)
    assert found.ranges == ((0, 2 * BLOCK), (3 * BLOCK, BLOCK))


def test_zeros_repeats_and_gaps(make_lab, make_block) -> None:
    lab = make_lab("nas")
    kinds = ["zero", "text", "text", "zero", "noise", "zero", "zero", "text", "zero"]
    image = b"".join(make_block(kind, 1) for kind in kinds)
    lab.back_up(StoredVolume("v-1", len(image)), "backup-1", image)
    seen: list[int] = []
    found = read_device(lab.store, lab.entry("v-1"), "backup-1", on_bytes=seen.append, workers=3)
    assert found.sha256 == over_ranges(image, found.ranges)
    assert sum(seen) == sum(length for _, length in found.ranges)
    assert found.blocks == 2


def test_an_empty_volume_has_the_checksum_of_nothing(make_lab) -> None:
    lab = make_lab("nas")
    lab.back_up(StoredVolume("v-1", 4 * BLOCK), "backup-1", bytes(4 * BLOCK))
    found = read_device(lab.store, lab.entry("v-1"), "backup-1")
    assert found.sha256 == over_ranges(bytes(4 * BLOCK), found.ranges)


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_a_damaged_block_is_named_and_there_is_no_checksum(chain, harm: str) -> None:
    second = chain.images["vol-data", "backup-1"][BLOCK : 2 * BLOCK]
    path = chain.writer.block_path("vol-data", checksum(second))
    path.write_bytes(b"x" * 100) if harm == "flip" else path.unlink()
    found = read_device(chain.store, chain.entry("vol-data"), "backup-1")
    assert not found.is_whole
    assert [(one.backup, one.offset) for one in found.damages] == [("backup-1", BLOCK)]
    if harm == "remove":
        assert found.damages[0].kind is Kind.BLOCK_MISSING
    assert read_device(chain.store, chain.entry("vol-data"), "backup-2").is_whole


def test_a_backup_that_is_not_there_is_damage_too(chain) -> None:
    found = read_device(chain.store, chain.entry("vol-data"), "backup-9")
    assert not found.is_whole
    assert found.damages[0].kind is Kind.BACKUP_CFG_MISSING
