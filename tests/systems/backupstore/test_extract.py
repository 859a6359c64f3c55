from __future__ import annotations

import hashlib
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from labkit.errors import InputError, StepFailed
from labkit.systems.backupstore.blockmap import checksum_of
from labkit.systems.backupstore.diff import diff_image
from labkit.systems.backupstore.extract import BackupDamaged, extract_backup, plan_writes
from labkit.systems.backupstore.parallel import side_by_side
from labkit.systems.backupstore.verify import read_whole
from labkit.twin.longhorn.store import StoredVolume, checksum, image_reader

BLOCK = 2 << 20


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _block_file(chain, backup: str, offset: int) -> Path:
    image = chain.images["vol-data", backup]
    return chain.writer.block_path("vol-data", checksum(image[offset : offset + BLOCK]))


def test_an_image_is_sparse_and_its_checksum_is_that_of_all_bytes(chain, tmp_path: Path) -> None:
    seen: list[int] = []
    done = extract_backup(chain.store, chain.entry("vol-data"), "backup-1", tmp_path / "i.raw", on_bytes=seen.append)
    image = chain.images["vol-data", "backup-1"]
    assert done.image.read_bytes() == image
    assert done.sha256 == hashlib.sha256(image).hexdigest()
    assert (done.written, done.size, sum(seen), done.is_whole) == (2 * BLOCK, 4 * BLOCK, 4 * BLOCK, True)
    assert done.image.stat().st_blocks * 512 < 3 * BLOCK


def test_the_checksum_may_be_left_out(chain, tmp_path: Path) -> None:
    done = extract_backup(chain.store, chain.entry("vol-data"), "backup-3", tmp_path / "i.raw", checksum=False)
    assert done.sha256 is None
    assert done.image.read_bytes() == chain.images["vol-data", "backup-3"]


def test_written_zeros_become_holes_without_their_file(make_lab, make_block, tmp_path: Path) -> None:
    lab = make_lab("nas")
    image = make_block("text", 1) + bytes(BLOCK)
    volume = StoredVolume("vol-data", 2 * BLOCK)
    lab.writer.write_backup(volume, "backup-1", image_reader(image), started=lab.clock, finished=lab.clock)
    lab.writer.block_path("vol-data", checksum(bytes(BLOCK))).unlink()
    done = extract_backup(lab.store, lab.entry("vol-data"), "backup-1", tmp_path / "i.raw")
    assert (done.image.read_bytes(), done.written) == (image, BLOCK)


def test_an_existing_image_is_replaced_only_when_told(chain, tmp_path: Path) -> None:
    target = tmp_path / "i.raw"
    target.write_text("mine")
    with pytest.raises(InputError, match="expected a new file, got one that exists"):
        extract_backup(chain.store, chain.entry("vol-data"), "backup-1", target)
    assert target.read_text() == "mine"
    extract_backup(chain.store, chain.entry("vol-data"), "backup-1", target, force=True)
    assert target.read_bytes() == chain.images["vol-data", "backup-1"]


def test_an_image_that_came_meanwhile_is_not_replaced(chain, tmp_path: Path) -> None:
    target = tmp_path / "i.raw"

    def appear(_: int) -> None:
        target.write_text("theirs")

    with pytest.raises(InputError, match="came meanwhile"):
        extract_backup(chain.store, chain.entry("vol-data"), "backup-1", target, on_bytes=appear)
    assert target.read_text() == "theirs"
    assert _names(tmp_path) == ["i.raw", "nas"]


@pytest.mark.parametrize("place", ["missing/i.raw", "nas/backupstore/i.raw", "nas/backupstore/volumes/i.raw", "nas"])
def test_places_that_are_refused(chain, tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError):
        extract_backup(chain.store, chain.entry("vol-data"), "backup-1", tmp_path / place, force=True)


def test_damage_stops_with_the_whole_list_and_leaves_nothing(chain, tmp_path: Path) -> None:
    _block_file(chain, "backup-3", 0).unlink()
    os.truncate(_block_file(chain, "backup-3", 3 * BLOCK), 10)
    with pytest.raises(BackupDamaged) as caught:
        extract_backup(chain.store, chain.entry("vol-data"), "backup-3", tmp_path / "i.raw")
    assert [(damage.offset, str(damage.kind)) for damage in caught.value.damages] == [
        (0, "block-missing"),
        (3 * BLOCK, "block-truncated"),
    ]
    assert _names(tmp_path) == ["nas"]


def test_damage_leaves_holes_when_told_to_keep_going(chain, tmp_path: Path) -> None:
    _block_file(chain, "backup-3", BLOCK).unlink()
    done = extract_backup(chain.store, chain.entry("vol-data"), "backup-3", tmp_path / "i.raw", keep_going=True)
    image = chain.images["vol-data", "backup-3"]
    expected = image[:BLOCK] + bytes(BLOCK) + image[2 * BLOCK :]
    assert done.image.read_bytes() == expected
    assert (done.sha256, done.is_whole) == (hashlib.sha256(expected).hexdigest(), False)
    assert [damage.offset for damage in done.damages] == [BLOCK]


def test_a_wrong_map_entry_leaves_a_hole_when_told(chain, tmp_path: Path) -> None:
    path = chain.writer.backup_path("vol-data", "backup-3")
    path.write_text(path.read_text().replace(f'"Offset":{3 * BLOCK}', f'"Offset":{9 * BLOCK}'))
    with pytest.raises(BackupDamaged, match="beyond the volume"):
        extract_backup(chain.store, chain.entry("vol-data"), "backup-3", tmp_path / "i.raw")
    done = extract_backup(chain.store, chain.entry("vol-data"), "backup-3", tmp_path / "i.raw", keep_going=True)
    assert done.image.read_bytes() == chain.images["vol-data", "backup-3"][: 3 * BLOCK] + bytes(BLOCK)
    assert not done.is_whole


def test_a_wrong_wrapping_costs_nothing(chain, tmp_path: Path) -> None:
    with _block_file(chain, "backup-1", 0).open("ab") as file:
        file.write(b"more")
    done = extract_backup(chain.store, chain.entry("vol-data"), "backup-1", tmp_path / "i.raw")
    assert done.image.read_bytes() == chain.images["vol-data", "backup-1"]
    assert (done.is_whole, [str(damage.kind) for damage in done.damages]) == (True, ["block-frame"])


def test_files_of_another_method_than_the_config_says(chain, tmp_path: Path) -> None:
    path = chain.writer.backup_path("vol-data", "backup-3")
    path.write_text(path.read_text().replace('"CompressionMethod":"lz4"', '"CompressionMethod":"gzip"'))
    done = extract_backup(chain.store, chain.entry("vol-data"), "backup-3", tmp_path / "i.raw")
    assert done.image.read_bytes() == chain.images["vol-data", "backup-3"]


def test_a_backing_image_is_not_silently_left_out(make_lab, make_block, tmp_path: Path) -> None:
    lab = make_lab("nas")
    lab.back_up(StoredVolume("vol-data", 2 * BLOCK, backing_image="parrot"), "backup-1", make_block("text", 1))
    entry = lab.entry("vol-data")
    with pytest.raises(InputError, match="backing image parrot"):
        extract_backup(lab.store, entry, "backup-1", tmp_path / "i.raw")
    extract_backup(lab.store, entry, "backup-1", tmp_path / "i.raw", without_backing_image=True)


def test_a_full_disk_is_told_before(chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = os.statvfs(tmp_path)
    path = chain.writer.folder("vol-data") / "volume.cfg"
    blocks = usage.f_bavail * usage.f_frsize // BLOCK + 2
    path.write_text(path.read_text().replace(f'"Size":"{4 * BLOCK}"', f'"Size":"{blocks * BLOCK}"'))
    config = chain.writer.backup_config("vol-data", "backup-3")
    name = config["Blocks"][0]["BlockChecksum"]
    entries = ",".join(f'{{"Offset":{at * BLOCK},"BlockChecksum":"{name}"}}' for at in range(blocks))
    text = chain.writer.backup_path("vol-data", "backup-3").read_text()
    head, _, tail = text.partition('"Blocks":[')
    head = head.replace(f'"Size":"{3 * BLOCK}"', f'"Size":"{blocks * BLOCK}"')
    chain.writer.backup_path("vol-data", "backup-3").write_text(f'{head}"Blocks":[{entries}]{tail.partition("]")[2]}')
    with pytest.raises(StepFailed, match="expected room for"):
        extract_backup(chain.store, chain.entry("vol-data"), "backup-3", tmp_path / "i.raw")
    assert _names(tmp_path) == ["nas"]


def test_repeated_blocks_are_read_once(make_lab, make_block, tmp_path: Path) -> None:
    lab = make_lab("nas")
    blocks = [make_block("text", 1), make_block("noise", 2)]
    image = b"".join([*blocks, blocks[0], bytes(BLOCK), blocks[1], blocks[0]])
    lab.back_up(StoredVolume("vol-data", len(image)), "backup-1", image)
    entry = lab.entry("vol-data")
    config = read_whole(lab.store, entry, "backup-1")
    assert [task.offsets for task in plan_writes(config, len(image))] == [
        (0, 2 * BLOCK, 5 * BLOCK),
        (BLOCK, 4 * BLOCK),
    ]
    done = extract_backup(lab.store, entry, "backup-1", tmp_path / "i.raw", workers=1)
    assert done.sha256 == hashlib.sha256(image).hexdigest()


def test_a_huge_volume_takes_neither_room_nor_memory(make_lab, make_block, tmp_path: Path) -> None:
    lab = make_lab("nas")
    size = 24 * BLOCK
    image = b"".join(make_block("noise", at) for at in range(24))
    lab.back_up(StoredVolume("vol-data", size), "backup-1", image)
    path = lab.writer.folder("vol-data") / "volume.cfg"
    path.write_text(path.read_text().replace(f'"Size":"{size}"', f'"Size":"{1 << 40}"'))
    entry = lab.entry("vol-data")
    tracemalloc.start()
    done = extract_backup(lab.store, entry, "backup-1", tmp_path / "i.raw", checksum=False, workers=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.image.stat().st_size == 1 << 40
    assert peak < 24 * BLOCK
    with done.image.open("rb") as file:
        assert file.read(size) == image


def test_only_a_few_results_wait() -> None:
    running, most, guard = 0, 0, threading.Lock()

    def work(item: int) -> int:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        with guard:
            running -= 1
        return item * 2

    given, taken = 0, 0

    def items():
        for at in range(50):
            nonlocal given
            given = at
            yield at

    for at, result in enumerate(side_by_side(work, items(), 3)):
        assert result == at * 2
        assert given - at <= 6
        taken += 1
    assert taken == 50
    assert most <= 3


def test_a_diff_with_a_shorter_or_longer_image(chain, tmp_path: Path) -> None:
    entry = chain.entry("vol-data")
    config = read_whole(chain.store, entry, "backup-3")
    image = chain.images["vol-data", "backup-3"]
    (tmp_path / "short.raw").write_bytes(image[: 3 * BLOCK])
    short = diff_image(config, len(image), tmp_path / "short.raw")
    assert ([tuple(r) for r in short.ranges], short.sizes, short.bytes) == (
        [(3 * BLOCK, BLOCK)],
        (4 * BLOCK, 3 * BLOCK),
        BLOCK,
    )
    (tmp_path / "long.raw").write_bytes(image + bytes(BLOCK))
    longer = diff_image(config, len(image), tmp_path / "long.raw")
    assert (longer.ranges, longer.is_same) == ((), False)
    with pytest.raises(InputError, match="an image that can be read"):
        diff_image(config, len(image), tmp_path / "none.raw")


def test_checksums_are_the_first_half_of_sha512() -> None:
    assert checksum_of(b"abc").hex() == hashlib.sha512(b"abc").hexdigest()[:64] == checksum(b"abc")
