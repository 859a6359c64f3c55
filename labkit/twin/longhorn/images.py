"""The bytes of volumes: one sparse raw file each, and snapshots of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from labkit.twin.longhorn.store import ReadBlock

_CHUNK = 1 << 20


class Images:
    """Keep raw files below one folder, by a name that a replica's own files tell."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Return the head of a volume."""
        return self._folder / name / "head.img"

    def snapshot(self, name: str, snapshot: str) -> Path:
        """Return the file of a snapshot."""
        return self._folder / name / f"{snapshot}.img"

    def create(self, name: str, size: int) -> Path:
        """Make an empty head of that size in bytes; one that is there keeps its bytes and grows."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(size)
        return path

    def clear(self, name: str, size: int) -> Path:
        """Make the head empty again."""
        path = self.path(name)
        path.unlink(missing_ok=True)
        return self.create(name, size)

    def take(self, name: str, snapshot: str) -> int:
        """Copy the head as a snapshot; return the bytes that it holds."""
        return copy_sparse(self.path(name), self.snapshot(name, snapshot))

    def drop(self, name: str, snapshot: str) -> None:
        """Remove a snapshot."""
        self.snapshot(name, snapshot).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a volume's files."""
        folder = self._folder / name
        for path in folder.glob("*.img"):
            path.unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()


def extents(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the parts of a file that hold data; the whole file where holes cannot be told."""
    with path.open("rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
                at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            except OSError:  # nothing but a hole from here on
                return
            yield start, at


def allocated(path: Path) -> int:
    """Return the bytes of a file that are no holes."""
    return sum(end - start for start, end in extents(path)) if path.exists() else 0


def copy_sparse(source: Path, target: Path) -> int:
    """Copy a file with its holes; return the bytes copied."""
    copied = 0
    with source.open("rb") as read, target.open("wb") as write:
        write.truncate(source.stat().st_size)
        for start, end in extents(source):
            read.seek(start)
            write.seek(start)
            left = end - start
            while left:
                part = read.read(min(_CHUNK, left))
                write.write(part)
                left -= len(part)
                copied += len(part)
    return copied


def block_reader(path: Path) -> ReadBlock:
    """Return what reads blocks of a file, None for those that lie in a hole."""
    found = list(extents(path))

    def read(offset: int, length: int) -> bytes | None:
        if not any(start < offset + length and end > offset for start, end in found):
            return None
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length).ljust(length, b"\0")

    return read
