"""A backup store behind SFTP, with the host's key verified; only opens, reads and lists."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import asyncssh

from labkit.errors import SystemDown
from labkit.systems.backupstore.access import bad_option, no_store

_T = TypeVar("_T")
_CONNECT_SECONDS = 20
_ANSWER_SECONDS = 120


@dataclass(frozen=True)
class SftpPlace:
    """Where a store lies: `sftp://user@host[:port]/path`; `user` is empty for the local user's name."""

    host: str
    port: int
    user: str
    path: str

    @property
    def url(self) -> str:
        """The place as a URL."""
        user = f"{self.user}@" if self.user else ""
        port = "" if self.port == 22 else f":{self.port}"
        return f"sftp://{user}{self.host}{port}{self.path}"


def parse_sftp_url(url: str) -> SftpPlace:
    """Read `sftp://user@host[:port]/path`; raises `InputError`."""
    shape = "sftp://user@host[:port]/path"
    try:
        parts = urlsplit(url)
        port = parts.port or 22
    except ValueError as exc:
        raise bad_option(url, shape, str(exc)) from exc
    if parts.password is not None:
        raise bad_option("sftp://...", f"{shape} without a password", "a password", "use a key or an agent")
    if parts.scheme != "sftp" or not parts.hostname or not parts.path or parts.query or parts.fragment:
        raise bad_option(url, shape, "something else")
    return SftpPlace(parts.hostname, port, unquote(parts.username or ""), unquote(parts.path))


class SftpStore:
    """A store behind SFTP. A loop of its own runs in a thread, so that many blocks can be asked for at once."""

    def __init__(self, place: SftpPlace, *, known_hosts: Path | None = None, key: Path | None = None) -> None:
        """Connect; `known_hosts` and `key` default to the user's own in `~/.ssh`.

        Raises:
            SystemDown: no connection, an unknown or wrong host key, or refused credentials.
            InputError: there is no store at that path.
        """
        self.place = place
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="sftp")
        self._thread.start()
        self._connection: asyncssh.SSHClientConnection | None = None
        try:
            with self._explained("a connection"):
                self._run(self._connect(known_hosts, key), _CONNECT_SECONDS + 5)
            self._root = self._find_root()
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """The place as a URL."""
        return self.place.url

    def names(self, folder: str) -> list[str]:
        """Give the names in a folder, sorted; empty when there is no such folder."""
        return self._listed(f"{self._root}/{folder}") or []

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Read a file; at most `limit` + 1 bytes of it."""
        with self._explained(path):
            return self._run(self._read(f"{self._root}/{path}", limit))

    def modified(self, path: str) -> datetime:
        """Give the time of the last change of a file, in UTC."""
        with self._explained(path):
            return datetime.fromtimestamp(self._run(self._sftp.stat(f"{self._root}/{path}")).mtime or 0, UTC)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            with suppress(OSError, TimeoutError, asyncssh.Error):
                self._run(self._disconnect(self._connection), _CONNECT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    @staticmethod
    async def _disconnect(connection: asyncssh.SSHClientConnection) -> None:
        connection.close()
        await connection.wait_closed()

    async def _connect(self, known_hosts: Path | None, key: Path | None) -> None:
        self._connection = await asyncssh.connect(
            self.place.host,
            self.place.port,
            username=self.place.user or (),
            known_hosts=str(known_hosts) if known_hosts else (),
            client_keys=[str(key)] if key else (),
            config=None,
            connect_timeout=_CONNECT_SECONDS,
            keepalive_interval=15,
        )
        self._sftp = await self._connection.start_sftp_client()

    async def _read(self, path: str, limit: int | None) -> bytes:
        async with self._sftp.open(path, "rb") as file:
            data: bytes = await file.read(-1 if limit is None else limit + 1)
        return data

    def _find_root(self) -> str:
        path = self.place.path.rstrip("/")
        for root in (f"{path}/backupstore", path):
            if self._listed(f"{root}/volumes") is not None:
                return root
        raise no_store(self.where, self._listed(path or "/"))

    def _listed(self, folder: str) -> list[str] | None:
        try:
            with self._explained(folder):
                entries = self._run(self._sftp.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return sorted(str(name) for name in entries if name not in {".", ".."})

    def _run(self, work: Coroutine[object, object, _T], seconds: float = _ANSWER_SECONDS) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    @contextmanager
    def _explained(self, wanted: str) -> Iterator[None]:
        """Turn asyncssh's errors into the ones of a local folder, and a lost connection into `SystemDown`."""
        try:
            yield
        except asyncssh.SFTPNoSuchFile as exc:
            raise FileNotFoundError(wanted) from exc
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as exc:
            raise self._down(wanted, exc.reason) from exc
        except asyncssh.SFTPError as exc:
            raise OSError(exc.reason) from exc
        except asyncssh.HostKeyNotVerifiable as exc:
            raise SystemDown(
                f"{self.where}: expected a host key that known_hosts lists, got another: {exc.reason}",
                next_step="compare the key with the NAS's own, add it to known_hosts, or name --known-hosts",
            ) from exc
        except asyncssh.PermissionDenied as exc:
            raise SystemDown(
                f"{self.where}: expected to be let in, got: {exc.reason}",
                next_step="add your public key for that user on the NAS, or name --key",
            ) from exc
        except (asyncssh.Error, OSError, TimeoutError) as exc:
            raise self._down(wanted, str(exc) or type(exc).__name__) from exc

    def _down(self, wanted: str, reason: str) -> SystemDown:
        return SystemDown(
            f"{self.where}: expected {wanted}, got: {reason}",
            next_step="look at the host and its SSH service, then run the command again",
        )
