"""The file system of a guest: a real folder that no path and no symbolic link leads out of.

Owners and modes are kept beside it, so that a file which only root may read is refused to others, whoever runs
the twin. Paths are those of the guest (`/etc/hostname`).
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
from collections.abc import Callable
from pathlib import Path

from labkit.twin.guests.changes import note_change

_MOST_LINKS = 40
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # the guest's, not this machine's


class Files:
    """Read and write a guest's files; all errors are OSError with the errno that a real kernel gives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.virtual: dict[str, Callable[[], bytes]] = {}
        """Files that are computed, as those in /proc are."""
        self.is_full: Callable[[], bool] = lambda: False
        """Whether the disk has no room left for what users and programs write."""
        self._modes: dict[str, int] = {}
        self._owners: dict[str, str] = {}
        root.mkdir(parents=True, exist_ok=True)

    def locate(self, path: str, *, follow: bool = True) -> Path:
        """Return where a guest's path really is, with all links resolved inside the guest."""
        waiting = [part for part in reversed(path.split("/")) if part not in {"", "."}]
        done: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                del done[-1:]
                continue
            here = self.root.joinpath(*done, part)
            if here.is_symlink() and (follow or waiting):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(here)  # noqa: PTH115  # Path.readlink drops a trailing slash
                if target.startswith("/"):
                    done.clear()
                waiting.extend(piece for piece in reversed(target.split("/")) if piece not in {"", "."})
                continue
            done.append(part)
        return self.root.joinpath(*done)

    def name(self, place: Path) -> str:
        """Return the guest's path of a real one."""
        return "/" + place.relative_to(self.root).as_posix().removeprefix(".")

    def exists(self, path: str) -> bool:
        """Tell whether there is anything at a path."""
        return posixpath.normpath(path) in self.virtual or os.path.lexists(self.locate(path))

    def is_dir(self, path: str) -> bool:
        """Tell whether a path is a folder."""
        return self.locate(path).is_dir()

    def read(self, path: str, user: str = "root") -> bytes:
        """Return the content of a file."""
        if (compute := self.virtual.get(posixpath.normpath(path))) is not None:
            return compute()
        place = self.locate(path)
        self.check_read(place, user)
        return place.read_bytes()

    def write(
        self, path: str, data: bytes, user: str = "root", *, mode: int | None = None, append: bool = False
    ) -> None:
        """Write a file; the folder must be there."""
        if data:
            self.check_room(path)
        self._store(path, data, user, mode=mode, append=append)

    def _store(self, path: str, data: bytes, user: str, *, mode: int | None, append: bool = False) -> None:
        place = self.locate(path)
        self.check_write(place, user)
        new = not place.exists()
        with place.open("ab" if append else "wb") as stream:
            stream.write(data)
        self.own(place, user, new=new)
        if mode is not None:
            self._modes[self.name(place)] = mode
        note_change()

    def put(self, path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file as root, and the folders above it; there is always room for it."""
        self.locate(path).parent.mkdir(parents=True, exist_ok=True)
        self._store(path, data.encode() if isinstance(data, str) else data, "root", mode=mode)

    def check_room(self, path: str) -> None:
        """Raise ENOSPC when the disk is full."""
        if self.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def mkdir(self, path: str, user: str = "root", *, parents: bool = False, mode: int = 0o755) -> None:
        """Make a folder; with `parents` it may exist already."""
        place = self.locate(path)
        if place.is_dir() and parents:
            return
        first = place
        while parents and not first.parent.is_dir():
            first = first.parent
        self.check_write(first, user)
        place.mkdir(parents=parents)
        self.own(first, user, new=True)
        self._modes[self.name(place)] = mode
        note_change()

    def remove(self, path: str, user: str = "root", *, recursive: bool = False) -> None:
        """Remove a file, a link or, when recursive, a folder with all in it."""
        place = self.locate(path, follow=False)
        if not os.path.lexists(place):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self.check_write(place, user)
        if place.is_dir() and not place.is_symlink():
            if not recursive:
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            shutil.rmtree(place)
        else:
            place.unlink()
        self.forget(place)
        note_change()

    def move(self, source: str, target: str, user: str = "root") -> None:
        """Rename a file or folder; a folder as target receives it."""
        old, new = self.locate(source, follow=False), self.locate(target)
        if new.is_dir():
            new = new / old.name
        self.check_write(old, user)
        self.check_write(new, user)
        mode, owner = self.mode(old), self.owner(old)
        old.replace(new)
        self.forget(old)
        self._modes[self.name(new)], self._owners[self.name(new)] = mode, owner
        note_change()

    def link(self, target: str, path: str, user: str = "root") -> None:
        """Make a symbolic link at `path`."""
        place = self.locate(path, follow=False)
        self.check_write(place, user)
        place.symlink_to(target)
        self.own(place, user, new=True)
        note_change()

    def chmod(self, path: str, mode: int, user: str = "root") -> None:
        """Set the mode of a file."""
        place = self.locate(path)
        self._must_exist(place)
        if user not in {"root", self.owner(place)}:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        self._modes[self.name(place)] = mode
        note_change()

    def chown(self, path: str, owner: str) -> None:
        """Set the owner of a file."""
        place = self.locate(path)
        self._must_exist(place)
        self._owners[self.name(place)] = owner
        note_change()

    def mode(self, place: Path) -> int:
        """Return the mode of a real path, as the guest sees it."""
        plain = place.is_symlink() or not place.is_dir()
        return self._modes.get(self.name(place), 0o644 if plain else 0o755)

    def owner(self, place: Path) -> str:
        """Return the user who owns a real path; a home belongs to its user."""
        name = self.name(place)
        parts = name.split("/")
        return self._owners.get(name) or (parts[2] if name.startswith("/home/") and len(parts) > 2 else "root")

    def own(self, place: Path, user: str, *, new: bool) -> None:
        """Give a new file to the user who made it."""
        if new:
            self._owners[self.name(place)] = user

    def forget(self, place: Path) -> None:
        """Drop owner and mode of what is gone."""
        name = self.name(place)
        for table in (self._modes, self._owners):
            for key in [key for key in table if key == name or key.startswith(name + "/")]:
                del table[key]

    def check_read(self, place: Path, user: str) -> None:
        """Raise EACCES when a user may not read a real path, ENOENT when it is not there."""
        self._must_exist(place)
        if user == "root" or self.owner(place) == user:
            return
        closed = [above for above in place.parents if above.is_relative_to(self.root) and not self._enters(above, user)]
        if closed or not self.mode(place) & 0o004:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.name(place))

    def check_write(self, place: Path, user: str) -> None:
        """Raise EACCES when a user may not write a real path, ENOENT when its folder is not there."""
        if not place.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name(place))
        if user == "root":
            return
        if os.path.lexists(place):
            allowed = self.owner(place) == user or bool(self.mode(place) & 0o002)
        else:
            allowed = self.owner(place.parent) == user or self.name(place.parent) in _SHARED
        if not allowed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.name(place))

    def _enters(self, folder: Path, user: str) -> bool:
        return self.owner(folder) == user or bool(self.mode(folder) & 0o001)

    def _must_exist(self, place: Path) -> None:
        if not place.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name(place))
