"""Where a backup store lies: a folder (mounted or copied), or a folder behind SFTP. Both are only ever read.

Paths are relative to the `backupstore` folder, with `/` between their parts.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from labkit.errors import InputError, Mistake, SystemDown

# The whole share went away, not one file: going on would call every block missing.
_GONE = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENODEV})


class Store(Protocol):
    """A backup store that can be read.

    Missing things raise `FileNotFoundError` or `NotADirectoryError`; other faults of one file `OSError`;
    a store that stopped answering `SystemDown`. Methods may be called from several threads.
    """

    @property
    def where(self) -> str:
        """The place as the user wrote it."""

    def names(self, folder: str) -> list[str]:
        """Give the names in a folder, sorted; empty when there is no such folder."""

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Read a file; at most `limit` + 1 bytes of it, so that a wrong file can't fill the memory."""

    def modified(self, path: str) -> datetime:
        """Give the time of the last change of a file, in UTC."""


class Folder:
    """A store in a local folder."""

    def __init__(self, root: Path, where: str | None = None) -> None:
        self._root = root
        self._where = where or str(root)

    @property
    def where(self) -> str:
        """The folder as the user wrote it."""
        return self._where

    @property
    def root(self) -> Path:
        """The `backupstore` folder itself."""
        return self._root

    def names(self, folder: str) -> list[str]:
        """Give the names in a folder, sorted; empty when there is no such folder."""
        try:
            with self._reading(folder):
                return sorted(os.listdir(self._root / folder))  # noqa: PTH208 - names, not paths: half the time
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Read a file; at most `limit` + 1 bytes of it."""
        with self._reading(path), open(f"{self._root}/{path}", "rb", buffering=0) as file:  # noqa: PTH123 - hot path
            return _read_up_to(file.fileno(), limit)

    def modified(self, path: str) -> datetime:
        """Give the time of the last change of a file, in UTC."""
        with self._reading(path):
            return datetime.fromtimestamp((self._root / path).stat().st_mtime, UTC)

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if exc.errno in _GONE:
                raise SystemDown(
                    f"backup store {self._where}: expected to read {path}, got: {exc.strerror}",
                    next_step="look at the mount and the NAS, then run the command again",
                ) from exc
            raise


def _read_up_to(fd: int, limit: int | None) -> bytes:
    size = os.fstat(fd).st_size
    wanted = size if limit is None else min(size, limit + 1)
    data = os.read(fd, wanted)
    while len(data) < wanted:  # a network file system may answer in parts
        more = os.read(fd, wanted - len(data))
        if not more:
            break
        data += more
    return data


def open_folder(folder: Path) -> Folder:
    """Open the store in a folder: the backup target itself, or the `backupstore` folder in it.

    Raises:
        InputError: there is no store in it.
        SystemDown: it can't be read.
    """
    try:
        for root in (folder / "backupstore", folder):
            if (root / "volumes").is_dir():
                return Folder(root, str(folder))
        entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else None
    except OSError as exc:
        raise SystemDown(
            f"backup store {folder}: expected a readable folder, got: {exc.strerror}",
            next_step="look at its mount and its rights (Longhorn writes folders with mode 0700)",
        ) from exc
    raise no_store(str(folder), entries)


class NoStoreError(InputError):
    """Report a place without a store; `is_empty` when there is a folder with nothing in it."""

    def __init__(self, mistakes: Iterable[Mistake], *, is_empty: bool, next_step: str = "") -> None:
        super().__init__(mistakes, next_step=next_step)
        self.is_empty = is_empty


def no_store(where: str, entries: list[str] | None) -> NoStoreError:
    """Give the error for a place without a store; `entries` is None when there is no folder at all."""
    if entries is None:
        got = "no such folder"
    elif not entries:
        got = "an empty folder; is the export mounted?"
    else:
        got = f"a folder with {', '.join(entries[:5])}"
    return NoStoreError(
        [Mistake(where, 0, 0, "", "a folder that contains backupstore/volumes", got)],
        is_empty=entries == [],
        next_step="give the folder that the backup target's URL points to",
    )


def bad_option(option: str, expected: str, got: str, hint: str = "") -> InputError:
    """Give the error for an option that can't be followed."""
    return InputError([Mistake(option, 0, 0, "", expected, got, hint)])
