from __future__ import annotations

import hashlib
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.systems.backupstore.catalog import read_catalog
from labkit.systems.backupstore.diff import diff_image, diff_maps
from labkit.systems.backupstore.extract import BackupDamaged, extract_backup
from labkit.systems.backupstore.verify import read_whole, verify_volume
from labkit.twin.longhorn.store import StoredVolume

BLOCK = 2 << 20
kinds = st.sampled_from(["zero", "noise", "text", "same"])
states = st.lists(st.lists(st.tuples(kinds, st.integers(0, 3)), min_size=4, max_size=4), min_size=1, max_size=4)
quick = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _image(make_block, state: list[tuple[str, int]], size: int = BLOCK) -> bytes:
    return b"".join(make_block(kind, seed, size) for kind, seed in state)


@given(states=states, method=st.sampled_from(["lz4", "gzip", "none"]), deleted=st.sets(st.integers(0, 3)))
@quick
def test_chains_read_back_equal_also_after_deletions(make_lab, make_block, states, method, deleted) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = make_lab(folder)
        volume = StoredVolume("vol-data", 4 * BLOCK, compression=method)
        for at, state in enumerate(states):
            lab.back_up(volume, f"backup-{at}", _image(make_block, state))
        gone = {f"backup-{at}" for at in deleted if at < len(states)}
        for name in gone:
            lab.writer.delete_backup("vol-data", name)
        entry = lab.entry("vol-data")
        assert {config.name for config in entry.complete} == {name for _, name in lab.images} - gone
        assert entry.damages == ()
        report = verify_volume(lab.store, entry)
        assert (report.damages, report.lost, report.orphans) == ((), (), 0)
        for config in entry.complete:
            image = lab.images["vol-data", config.name]
            target = Path(folder) / f"{config.name}.raw"
            done = extract_backup(lab.store, entry, config.name, target)
            assert target.read_bytes() == image == lab.writer.restore_image("vol-data", config.name)
            assert done.sha256 == hashlib.sha256(image).hexdigest()
            assert target.stat().st_blocks * 512 <= done.written + (64 << 10)
            assert diff_image(read_whole(lab.store, entry, config.name), len(image), target).is_same


@given(old=states.map(lambda found: found[0]), new=states.map(lambda found: found[0]))
@quick
def test_a_diff_names_exactly_the_blocks_that_changed(make_lab, make_block, old, new) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = make_lab(folder)
        volume = StoredVolume("vol-data", 4 * BLOCK)
        before, after = _image(make_block, old), _image(make_block, new)
        lab.back_up(volume, "backup-0", before)
        lab.back_up(volume, "backup-1", after)
        entry = lab.entry("vol-data")
        first, second = (read_whole(lab.store, entry, name) for name in ("backup-0", "backup-1"))
        found = {at for r in diff_maps(first, second) for at in range(r.offset, r.offset + r.length, BLOCK)}
        offsets = range(0, len(before), BLOCK)
        expected = {at for at in offsets if before[at : at + BLOCK] != after[at : at + BLOCK]}
        assert found == expected
        image = Path(folder) / "image.raw"
        image.write_bytes(after)
        against = diff_image(first, len(before), image)
        assert {at for r in against.ranges for at in range(r.offset, r.offset + r.length, BLOCK)} == expected
        assert against.is_same == (not expected)


@pytest.mark.parametrize("method", ["lz4", "gzip", "none"])
def test_blocks_of_16_mib(make_lab, make_block, tmp_path: Path, method: str) -> None:
    lab = make_lab("nas")
    volume = StoredVolume("vol-big", 48 << 20, block_size=16 << 20, compression=method)
    image = _image(make_block, [("text", 1), ("zero", 0), ("noise", 2)], 16 << 20)
    lab.back_up(volume, "backup-1", image)
    entry = lab.entry("vol-big")
    assert entry.complete[0].block_size == 16 << 20
    done = extract_backup(lab.store, entry, "backup-1", tmp_path / "big.raw")
    assert done.sha256 == hashlib.sha256(image).hexdigest()


@given(seed=st.integers(0, 1 << 30), method=st.sampled_from(["lz4", "gzip", "none"]))
@quick
def test_random_damage_is_found_and_named_and_the_rest_restorable(make_lab, make_block, seed, method) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        lab = make_lab(folder)
        volume = StoredVolume("vol-data", 3 * BLOCK, compression=method)
        for at in range(3):
            state = [(rng.choice(["noise", "text", "same"]), rng.randint(0, 3)) for _ in range(3)]
            lab.back_up(volume, f"backup-{at}", _image(make_block, state))
        hurt = _hurt_some(rng, sorted(Path(folder).rglob("*.blk")))
        entry = lab.entry("vol-data")
        report = verify_volume(lab.store, entry)
        expected = {
            (config.name, ref.offset)
            for config in (read_whole(lab.store, entry, c.name) for c in entry.complete)
            for ref in config.blocks
            if ref.checksum in hurt
        }
        assert {(damage.backup, damage.offset) for damage in report.damages} == expected
        assert {Path(damage.file).stem for damage in report.damages} == hurt
        assert set(report.lost) == {name for name, _ in expected}
        for name in report.restorable:
            done = extract_backup(lab.store, entry, name, Path(folder) / f"{name}.raw")
            assert done.sha256 == hashlib.sha256(lab.images["vol-data", name]).hexdigest()
        for name in report.lost:
            with pytest.raises(BackupDamaged) as caught:
                extract_backup(lab.store, entry, name, Path(folder) / f"{name}.raw")
            assert {damage.offset for damage in caught.value.damages} == {at for b, at in expected if b == name}
        assert not list(Path(folder).glob("*.part"))


def _hurt_some(rng: random.Random, files: list[Path]) -> set[str]:
    """Remove, cut, or flip bytes in the middle of some block files; gives their checksums."""
    chosen = rng.sample(files, rng.randint(1, min(2, len(files))))
    for path in chosen:
        size = path.stat().st_size
        match rng.choice(["remove", "cut", "flip", "empty", "folder"]):
            case "remove":
                path.unlink()
            case "cut":
                os.truncate(path, rng.randint(1, size // 2))
            case "empty":
                os.truncate(path, 0)
            case "folder":
                path.unlink()
                path.mkdir()
            case _:
                data = bytearray(path.read_bytes())
                data[size // 2] ^= 1 << rng.randint(0, 7)
                path.write_bytes(data)
    return {path.stem for path in chosen}


def test_names_of_volumes_are_listed_sorted(make_lab, make_block) -> None:
    lab = make_lab("nas")
    for name in ("vol-b", "vol-a", "vol-c"):
        lab.back_up(StoredVolume(name, BLOCK), "backup-1", make_block("text", 1))
    assert [entry.name for entry in read_catalog(lab.store).volumes] == ["vol-a", "vol-b", "vol-c"]
    lab.writer.delete_volume("vol-b")
    assert [entry.name for entry in read_catalog(lab.store).volumes] == ["vol-a", "vol-c"] == lab.writer.volumes()
