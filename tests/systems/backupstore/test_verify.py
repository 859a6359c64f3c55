from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labkit.errors import InputError, SystemDown
from labkit.systems.backupstore.access import Folder
from labkit.systems.backupstore.damage import Damage, Kind
from labkit.systems.backupstore.verify import plan_blocks, read_whole, verify_volume
from labkit.systems.backupstore.verifystate import ProgressFile
from labkit.twin.longhorn.store import checksum

BLOCK = 2 << 20


class Counting(Folder):
    """A folder that counts what is read from it, and can fail on the way."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.blocks: list[str] = []
        self.before = lambda _: None

    def read(self, path: str, limit: int | None = None) -> bytes:
        if path.endswith(".blk"):
            self.before(path)
            self.blocks.append(Path(path).stem)
        return super().read(path, limit)


@pytest.fixture
def counting(chain) -> Counting:
    return Counting(chain.root / "backupstore")


def test_a_shared_block_is_read_once(chain, counting: Counting) -> None:
    report = verify_volume(counting, chain.entry("vol-data"))
    assert len(counting.blocks) == len(set(counting.blocks)) == report.blocks == 4
    assert report.bytes == 4 * BLOCK
    assert report.restorable == ("backup-1", "backup-2", "backup-3")


def test_one_backup_reads_its_blocks_only(chain, counting: Counting) -> None:
    report = verify_volume(counting, chain.entry("vol-data"), backups=["backup-1"])
    assert (len(counting.blocks), report.restorable, report.orphans) == (2, ("backup-1",), None)


def test_a_damaged_block_is_named_in_every_backup_that_uses_it(chain) -> None:
    name = checksum(chain.images["vol-data", "backup-1"][:BLOCK])
    path = chain.writer.block_path("vol-data", name)
    path.write_bytes(path.read_bytes()[:-9])
    report = verify_volume(chain.store, chain.entry("vol-data"))
    file = str(path.relative_to(chain.root / "backupstore"))
    assert [(d.backup, d.offset, d.file, d.kind) for d in report.damages] == [
        (f"backup-{at}", 0, file, Kind.BLOCK_TRUNCATED) for at in (1, 2, 3)
    ]
    assert (report.lost, report.restorable) == (("backup-1", "backup-2", "backup-3"), ())


def test_unreadable_blocks_are_damage(chain) -> None:
    path = next(iter(sorted(chain.writer.folder("vol-data").glob("blocks/*/*/*.blk"))))
    path.unlink()
    path.mkdir()
    kinds = {damage.kind for damage in verify_volume(chain.store, chain.entry("vol-data")).damages}
    assert kinds == {Kind.BLOCK_UNREADABLE}


def test_an_interrupted_check_goes_on(chain, counting: Counting, tmp_path: Path) -> None:
    state = tmp_path / "state"
    entry = chain.entry("vol-data")

    def stop(path: str) -> None:
        if len(counting.blocks) == 2:
            raise KeyboardInterrupt

    counting.before = stop
    first = ProgressFile(state, counting)
    with pytest.raises(KeyboardInterrupt):
        verify_volume(counting, entry, progress=first, workers=1)
    first.close()
    with state.open("a") as file:
        file.write("vol-data 0123")  # a line that a crash cut short
    done = counting.blocks.copy()
    counting.blocks.clear()
    counting.before = lambda _: None
    second = ProgressFile(state, counting)
    seen: list[int] = []
    report = verify_volume(counting, entry, progress=second, on_block=seen.append)
    second.finish()
    assert second.resumed
    assert (len(counting.blocks), report.skipped, sum(seen)) == (2, 2, 4 * BLOCK)
    assert not set(counting.blocks) & set(done)
    third = ProgressFile(state, counting)
    assert not third.resumed  # a finished one starts anew: a disk can rot after it was checked
    third.close()


def test_damage_is_looked_at_again_after_an_interruption(chain, tmp_path: Path) -> None:
    path = chain.writer.block_path("vol-data", checksum(chain.images["vol-data", "backup-1"][:BLOCK]))
    kept = path.read_bytes()
    path.unlink()
    for data, lost in ((None, 3), (kept, 0)):
        if data is not None:
            path.write_bytes(data)
        progress = ProgressFile(tmp_path / "state", chain.store)
        assert len(verify_volume(chain.store, chain.entry("vol-data"), progress=progress).lost) == lost
        progress.close()


@pytest.mark.parametrize(
    "text", ["something\n", '{"file": "x"}\n', '{"file": "labkit backups verify", "store": "/o"}\n']
)
def test_a_state_file_of_something_else_is_refused(chain, tmp_path: Path, text: str) -> None:
    (tmp_path / "state").write_text(text)
    with pytest.raises(InputError, match="name another --state"):
        ProgressFile(tmp_path / "state", chain.store)
    assert (tmp_path / "state").read_text() == text


def test_a_state_file_is_never_in_the_store(chain) -> None:
    with pytest.raises(InputError, match="outside of the store"):
        ProgressFile(chain.root / "backupstore" / "state", chain.store)


def test_a_store_that_vanishes_is_no_damage(chain, counting: Counting) -> None:
    entry = chain.entry("vol-data")
    counting.before = lambda _: shutil.rmtree(chain.root / "backupstore", ignore_errors=True)
    with pytest.raises(SystemDown, match="vanished while it was read"):
        verify_volume(counting, entry)


def test_a_backup_that_is_deleted_meanwhile_is_no_damage(chain, counting: Counting) -> None:
    entry = chain.entry("vol-data")
    last = checksum(chain.images["vol-data", "backup-3"][3 * BLOCK :])

    def delete(path: str) -> None:
        if last in path and chain.writer.backup_path("vol-data", "backup-3").exists():
            chain.writer.delete_backup("vol-data", "backup-3")

    counting.before = delete
    report = verify_volume(counting, entry)
    assert (report.vanished, report.damages) == (("backup-3",), ())
    assert report.restorable == ("backup-1", "backup-2")


def test_a_block_that_comes_back_is_no_damage(chain, counting: Counting) -> None:
    path = chain.writer.block_path("vol-data", checksum(chain.images["vol-data", "backup-1"][:BLOCK]))
    data = path.read_bytes()
    path.unlink()

    def come_back(name: str) -> None:
        if len(counting.blocks) == 4:
            path.write_bytes(data)

    counting.before = come_back
    assert verify_volume(counting, chain.entry("vol-data"), workers=1).damages == ()


def test_orphans_are_counted_and_harmless(chain) -> None:
    path = chain.writer.block_path("vol-data", "ab" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    report = verify_volume(chain.store, chain.entry("vol-data"))
    assert (report.orphans, report.damages) == (1, ())


def test_nothing_in_the_store_is_written(chain) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain.root.rglob("*")}
    for path in before:
        path.chmod(0o500 if path.is_dir() else 0o400)
    verify_volume(chain.store, chain.entry("vol-data"))
    assert {path: path.stat().st_mtime_ns for path in chain.root.rglob("*")} == before
    for path in before:
        path.chmod(0o700 if path.is_dir() else 0o600)


def test_plans_name_each_block_once_in_order(chain) -> None:
    entry = chain.entry("vol-data")
    configs = [read_whole(chain.store, entry, f"backup-{at}") for at in (1, 2, 3)]
    tasks = plan_blocks(configs)
    assert len(tasks) == len({task.digest for task in tasks}) == 4
    assert [task.digest for task in tasks][:2] == [ref.digest for ref in configs[0].blocks]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (Damage("v1", "b1", 0, "f", Kind.BLOCK_MISSING), "volume v1 backup b1 offset 0: block-missing f"),
        (Damage("v1", "", -1, "f", Kind.VOLUME_CFG_BROKEN, "why"), "volume v1: volume-cfg-broken f: why"),
    ],
)
def test_damage_says_where(damage: Damage, text: str) -> None:
    assert str(damage) == text
