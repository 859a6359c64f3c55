"""SFTP in a guest: the guest's paths, its owners and modes, and no way out of its folder."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.constants import FX_FAILURE, FXF_APPEND, FXF_CREAT, FXF_TRUNC, FXF_WRITE
from asyncssh.sftp import SFTPAttrs, SFTPName

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest

_CHANGING = FXF_WRITE | FXF_APPEND | FXF_CREAT | FXF_TRUNC
_FOLDER, _LINK, _PLAIN = 0o040000, 0o120000, 0o100000


class JailedSftp(asyncssh.SFTPServer):
    """Serve a guest's files to the user who logged in; every change is counted."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], guest: Guest) -> None:
        super().__init__(channel)
        self._guest = guest
        self._user = str(channel.get_extra_info("username"))
        self._home = "/root" if self._user == "root" else f"/home/{self._user}"
        guest.world.counters.request("guests")

    def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        """Open a file for reading or, where the user may, for writing."""
        place, files = self._guest.files.locate(self._name(path)), self._guest.files
        with _as_sftp():
            if not pflags & _CHANGING:
                files.check_read(place, self._user)
                return place.open("rb", buffering=0)
            files.check_write(place, self._user)
            files.check_room(self._name(path))
            new = not place.exists()
            mode = "ab" if pflags & FXF_APPEND else "wb" if pflags & FXF_TRUNC or new else "r+b"
            stream = place.open(mode, buffering=0)
            files.own(place, self._user, new=new)
            if attrs.permissions is not None and new:
                files.chmod(self._name(path), attrs.permissions & 0o7777)
            self._count()
            return stream

    def stat(self, path: bytes) -> SFTPAttrs:
        """Return the attributes of what a path leads to."""
        return self._attributes(path, follow=True)

    def lstat(self, path: bytes) -> SFTPAttrs:
        """Return the attributes of a path itself."""
        return self._attributes(path, follow=False)

    def fstat(self, file_obj: object) -> SFTPAttrs:
        """Return the attributes of an open file."""
        return SFTPAttrs(size=os.fstat(file_obj.fileno()).st_size, permissions=_PLAIN | 0o644)  # type: ignore[attr-defined]

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Set the mode of a file; times and owners are left as they are."""
        with _as_sftp():
            if attrs.permissions is not None:
                self._guest.files.chmod(self._name(path), attrs.permissions & 0o7777, self._user)
                self._count()

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Set the mode of an open file."""
        name = self._guest.files.name(type(self._guest.files.root)(file_obj.name))  # type: ignore[attr-defined]
        self.setstat(name.encode(), attrs)

    def remove(self, path: bytes) -> None:
        """Remove a file."""
        self._change(lambda: self._guest.files.remove(self._name(path), self._user))

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Make a folder."""
        mode = 0o755 if attrs.permissions is None else attrs.permissions & 0o7777
        self._change(lambda: self._guest.files.mkdir(self._name(path), self._user, mode=mode))

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        place = self._guest.files.locate(self._name(path))
        with _as_sftp():
            self._guest.files.check_write(place, self._user)
            place.rmdir()
            self._count()

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file; an existing target is refused."""
        if self._guest.files.exists(self._name(newpath)):
            raise asyncssh.SFTPError(FX_FAILURE, "File exists")
        self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file, in place of an existing one."""
        self._change(lambda: self._guest.files.move(self._name(oldpath), self._name(newpath), self._user))

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Make a symbolic link."""
        self._change(lambda: self._guest.files.link(oldpath.decode(), self._name(newpath), self._user))

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Refuse hard links, which a jail made of paths cannot keep in."""
        raise asyncssh.SFTPError(FX_FAILURE, f"hard links are not supported: {oldpath!r} {newpath!r}")

    def readlink(self, path: bytes) -> bytes:
        """Return the target of a symbolic link, as it was written."""
        with _as_sftp():
            return os.readlink(self._guest.files.locate(self._name(path), follow=False)).encode()  # noqa: PTH115

    def realpath(self, path: bytes) -> bytes:
        """Return the whole path without links."""
        return self._guest.files.name(self._guest.files.locate(self._name(path))).encode()

    async def scandir(self, path: bytes):  # type: ignore[no-untyped-def]  # asyncssh's own type is an async iterator
        """Yield the entries of a folder."""
        with _as_sftp():
            place = self._guest.files.locate(self._name(path))
            self._guest.files.check_read(place, self._user)
            names = sorted(os.listdir(place))  # noqa: PTH208
        for name in names:
            inner = posixpath.join(self._name(path), name).encode()
            yield SFTPName(name.encode(), attrs=self._attributes(inner, follow=False))

    def _name(self, path: bytes) -> str:
        text = path.decode("utf-8", "replace")
        return text if text.startswith("/") else posixpath.join(self._home, text)

    def _attributes(self, path: bytes, *, follow: bool) -> SFTPAttrs:
        files = self._guest.files
        place = files.locate(self._name(path), follow=follow)
        with _as_sftp():
            found = place.lstat()
        kind = _LINK if place.is_symlink() else _FOLDER if place.is_dir() else _PLAIN
        owner = 0 if files.owner(place) == "root" else 1000
        return SFTPAttrs(size=found.st_size, uid=owner, gid=owner, permissions=kind | files.mode(place),
                         atime=int(found.st_atime), mtime=int(found.st_mtime))  # fmt: skip

    def _change(self, act: object) -> None:
        with _as_sftp():
            act()  # type: ignore[operator]
            self._count()

    def _count(self) -> None:
        self._guest.world.counters.write("guests")


@contextmanager
def _as_sftp() -> Iterator[None]:
    """Turn errors of files into those of SFTP."""
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            raise asyncssh.SFTPNoSuchFile(exc.strerror or "No such file") from exc
        if exc.errno in {errno.EACCES, errno.EPERM}:
            raise asyncssh.SFTPPermissionDenied(exc.strerror or "Permission denied") from exc
        raise asyncssh.SFTPFailure(exc.strerror or "Failure") from exc
