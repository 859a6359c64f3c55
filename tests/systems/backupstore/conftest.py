from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labkit.systems.backupstore.access import Folder, open_folder
from labkit.systems.backupstore.catalog import VolumeEntry, read_catalog
from labkit.twin.longhorn.store import BackupStore, StoredVolume, sparse_reader

BLOCK = 2 << 20
START = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)


def block_of(kind: str, seed: int, size: int = BLOCK) -> bytes:
    """Make a block: zeros, noise that does not compress, text that does, or one repeated byte."""
    rng = random.Random(seed)
    if kind == "zero":
        return bytes(size)
    if kind == "noise":
        return rng.randbytes(size)
    if kind == "same":
        return bytes([1 + seed % 255]) * size
    line = b"%d the quick brown fox %d\n" % (seed, rng.random() * 1e9)
    return (line * (size // len(line) + 1))[:size]


class Lab:
    """A store made for one test, with the images that its backups must give."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writer = BackupStore(root)
        self.images: dict[tuple[str, str], bytes] = {}
        self.clock = START

    def back_up(self, volume: StoredVolume, backup: str, image: bytes, **more: object) -> dict[str, object]:
        started, self.clock = self.clock, self.clock + timedelta(days=1)
        self.images[volume.name, backup] = image
        finished = started + timedelta(seconds=2)
        return self.writer.write_backup(
            volume, backup, sparse_reader(image), started=started, finished=finished, **more
        )

    @property
    def store(self) -> Folder:
        return open_folder(self.root)

    def entry(self, volume: str) -> VolumeEntry:
        return next(v for v in read_catalog(self.store).volumes if v.name == volume)


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[[str], Lab]:
    return lambda name: Lab(tmp_path / name)


@pytest.fixture
def chain(tmp_path: Path) -> Lab:
    """Volume `vol-data` of four blocks with three backups b1, b2, b3: b2 changes block 1, b3 adds block 3."""
    lab = Lab(tmp_path / "nas")
    volume = StoredVolume("vol-data", 4 * BLOCK)
    first = [block_of("text", 1), block_of("noise", 2), block_of("zero", 0), block_of("zero", 0)]
    second = [first[0], block_of("text", 3), *first[2:]]
    third = [*second[:3], block_of("same", 4)]
    for at, blocks in enumerate((first, second, third), 1):
        lab.back_up(volume, f"backup-{at}", b"".join(blocks))
    return lab


@pytest.fixture
def make_block() -> Callable[..., bytes]:
    return block_of


@pytest.fixture(scope="session")
def sample_store() -> Path:
    return Path(__file__).parents[2] / "data" / "backupstore"
