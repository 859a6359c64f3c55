"""How quick reading a backup store is, against what the machine can do at all.

The limits are measured in the same run, in turns, with as many threads, over the same files, none of them in the page
cache (a store on a NAS never is), with the plain calls of the libraries:

- bare: reading and decompressing the blocks; for an extraction also writing them plainly to a new file, and `fsync`;
- checked: the same and the checksums that are asked for: the SHA-512 that names every block, and for an extraction the
  SHA-256 of the image. Nothing that checks what it reads can be quicker, so this is what must be reached to 0.8; where
  SHA-512 is slower than the decompression, no check comes near the bare limit.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import lz4.frame

from bench.figure import Figure
from labkit.systems.backupstore.access import Folder, open_folder
from labkit.systems.backupstore.catalog import VolumeEntry, read_catalog
from labkit.systems.backupstore.extract import extract_backup
from labkit.systems.backupstore.parallel import usual_workers
from labkit.systems.backupstore.verify import verify_volume
from labkit.twin.longhorn.store import BackupStore, StoredVolume

MIB = 1 << 20
BLOCK = 2 * MIB
BLOCKS = 96
ROUNDS = 3
LEAST = 0.8
PLAIN: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.decompress,
    "gzip": lambda data: zlib.decompress(data, 31),
    "none": lambda data: data,
}


def block(number: int, size: int = BLOCK) -> bytes:
    """Make a block as a file system holds it: a quarter noise (media, keys), the rest text that compresses."""
    rng = random.Random(number)
    noise = rng.randbytes(size // 4)
    words = [rng.randbytes(rng.randint(2, 9)).hex().encode() for _ in range(500)]
    text = b" ".join(rng.choices(words, k=size // 8))
    return (noise + text * 2)[:size]


def make_store(root: Path, method: str, *, block_size: int = BLOCK, blocks: int = BLOCKS) -> tuple[Folder, VolumeEntry]:
    """Write a store with one backup of distinct blocks."""
    volume = StoredVolume("vol-bench", block_size * blocks, block_size=block_size, compression=method)
    now = datetime(2026, 11, 1, tzinfo=UTC)
    BackupStore(root).write_backup(
        volume, "backup-1", lambda offset, size: block(offset // size, size), started=now, finished=now
    )
    store = open_folder(root)
    return store, read_catalog(store).volumes[0]


def forget(files: list[Path]) -> None:
    """Drop files from the page cache."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def seconds(work: Callable[[], object], files: list[Path]) -> float:
    """Return how long some work takes on cold files."""
    forget(files)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _side_by_side(work: Callable[[Path], object], files: list[Path]) -> Callable[[], object]:
    def run() -> None:
        with ThreadPoolExecutor(usual_workers()) as pool:
            for _ in pool.map(work, files):
                pass

    return run


def copy(source: Path, target: Path) -> None:
    """Copy an image plainly and wait for the disk."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    target.unlink()


def write_plainly(
    decode: Callable[[Path], bytes], files: list[Path], target: Path, *, checked: bool
) -> Callable[[], object]:
    """Give the least work that makes an image: read, decompress, write, `fsync`; with both checksums when checked."""

    def run() -> None:
        with target.open("wb") as out:

            def write(item: tuple[int, Path]) -> None:
                content = decode(item[1])
                if checked:
                    hashlib.sha512(content)
                    hashlib.sha256(content)
                os.pwrite(out.fileno(), content, item[0] * BLOCK)

            with ThreadPoolExecutor(usual_workers()) as pool:
                for _ in pool.map(write, enumerate(files)):
                    pass
            os.fsync(out.fileno())
        target.unlink()

    return run


def measure(method: str, folder: Path) -> Iterator[Figure]:
    """Yield the figures of one compression."""
    store, entry = make_store(folder / method, method)
    files = sorted((folder / method).rglob("*.blk"))
    image, again = folder / f"{method}.raw", folder / f"{method}.copy"
    extract_backup(store, entry, "backup-1", image)

    def decode(path: Path) -> bytes:
        return PLAIN[method](path.read_bytes())

    def extract() -> None:
        extract_backup(store, entry, "backup-1", again)
        again.unlink()

    work: dict[str, tuple[Callable[[], object], list[Path]]] = {
        "read": (_side_by_side(decode, files), files),
        "read checked": (_side_by_side(lambda path: hashlib.sha512(decode(path)), files), files),
        "verify": (lambda: verify_volume(store, entry), files),
        "write": (write_plainly(decode, files, again, checked=False), files),
        "write checked": (write_plainly(decode, files, again, checked=True), files),
        "extract": (extract, files),
        "copy": (lambda: copy(image, again), [image]),
    }
    took = dict.fromkeys(work, float("inf"))
    for _ in range(ROUNDS):  # in turns, so that a busy moment of the machine hits all alike
        for name, (run, cold) in work.items():
            took[name] = min(took[name], seconds(run, cold))
    rate = {name: BLOCK * BLOCKS / MIB / value for name, value in took.items()}
    for mine, limit in (("verify", "read"), ("extract", "write")):
        limits = f"{rate[limit]:.0f} bare, {rate[f'{limit} checked']:.0f} checked"
        note = f"limits {limits}; plain copy of the image {rate['copy']:.0f}"
        yield Figure(f"{mine} {method}", rate[mine], "MiB/s of device", note=note)
        yield Figure(f"{mine} {method} / bare limit", rate[mine] / rate[limit])
        yield Figure(f"{mine} {method} / checked limit", rate[mine] / rate[f"{limit} checked"], limit=LEAST, least=True)


_PEAK = """
import resource, sys
from typer.testing import CliRunner
from labkit.commands.backups import app
done = CliRunner().invoke(app, ["extract", sys.argv[1], sys.argv[2]])
assert done.exit_code == 0, done.output
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_memory(folder: Path, blocks: int) -> float:
    """Return the most memory in MiB that an extraction of so many blocks of 16 MiB takes, Python included."""
    root = folder / f"big-{blocks}"
    make_store(root, "lz4", block_size=16 * MIB, blocks=blocks)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(root), str(folder / "big.raw")], check=True, capture_output=True
    )
    (folder / "big.raw").unlink()
    return float(done.stdout)


def figures() -> Iterator[Figure]:
    """Yield the figures."""
    with tempfile.TemporaryDirectory() as name:
        for method in PLAIN:
            yield from measure(method, Path(name))
        small, large = peak_memory(Path(name), 4), peak_memory(Path(name), 24)
        note = f"{small:.0f} MiB for 64 MiB, {large:.0f} MiB for 384 MiB in blocks of 16 MiB"
        yield Figure("peak memory, 384 MiB / 64 MiB", large / small, limit=2.0, note=note)


if __name__ == "__main__":
    for figure in figures():
        print(figure, flush=True)
