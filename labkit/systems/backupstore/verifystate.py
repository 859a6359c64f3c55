"""What an interrupted check has already found good: a text file that grows by one line a block.

Only good blocks are remembered, so damage is always looked at again. A finished check marks the file; the next one with
the same file starts anew, because a disk can rot after it was checked.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TextIO

from labkit.errors import SystemDown
from labkit.systems.backupstore.access import Folder, Store, bad_option

_MAGIC = "labkit backups verify"
_DONE = "done"
_LINE = re.compile(r"(\S+) ([0-9a-f]{64})")
_FLUSH_EVERY = 64


class Progress:
    """Remembers nothing: for checks without a state file."""

    def known(self, volume: str) -> frozenset[bytes]:
        """Give the digests of a volume's blocks that were found good before."""
        del volume
        return frozenset()

    def add(self, volume: str, digest: bytes) -> None:
        """Remember a good block."""


class ProgressFile(Progress):
    """Remembers good blocks in a file; a line cut short by a crash is ignored."""

    def __init__(self, path: Path, store: Store) -> None:
        """Open or begin a state file.

        Raises:
            InputError: it is inside the store, or it is another file or another store's.
            SystemDown: it can't be written.
        """
        _refuse_inside(path, store)
        self.path = path
        self._known: dict[str, set[bytes]] = {}
        self._unflushed = 0
        self.resumed = self._load(store.where)
        try:
            self._file = self._open(store.where)
        except OSError as exc:
            raise SystemDown(f"{path}: expected to write the state of the check, got: {exc.strerror}") from exc

    def known(self, volume: str) -> frozenset[bytes]:
        """Give the digests of a volume's blocks that were found good before."""
        return frozenset(self._known.get(volume, ()))

    def add(self, volume: str, digest: bytes) -> None:
        """Remember a good block."""
        self._file.write(f"{volume} {digest.hex()}\n")
        self._unflushed += 1
        if self._unflushed >= _FLUSH_EVERY:
            self._file.flush()
            self._unflushed = 0

    def finish(self) -> None:
        """Mark the check as finished."""
        self._file.write(f"{_DONE}\n")
        self.close()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._file.close()

    def _open(self, where: str) -> TextIO:
        file = self.path.open("a" if self.resumed else "w", encoding="utf-8")
        if self.resumed:
            file.write("\n")  # ends a line that a crash cut short
        else:
            file.write(json.dumps({"file": _MAGIC, "store": where}) + "\n")
        file.flush()
        return file

    def _load(self, where: str) -> bool:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return False
        if lines == [""]:
            return False
        self._compare_head(lines[0], where)
        if _DONE in lines:
            return False
        for line in lines[1:]:
            if match := _LINE.fullmatch(line):
                self._known.setdefault(match[1], set()).add(bytes.fromhex(match[2]))
        return bool(self._known)

    def _compare_head(self, line: str, where: str) -> None:
        expected = f"the state of a check of {where}, or no such file"
        try:
            head = json.loads(line)
            name, store = head["file"], head["store"]
        except (ValueError, KeyError, TypeError) as exc:
            raise bad_option(str(self.path), expected, "another file", "name another --state") from exc
        if (name, store) != (_MAGIC, where):
            raise bad_option(str(self.path), expected, f"that of {store}", "name another --state")


def _refuse_inside(path: Path, store: Store) -> None:
    if isinstance(store, Folder) and path.resolve().is_relative_to(store.root.resolve()):
        raise bad_option("--state", "a file outside of the store, which is only ever read", str(path))
