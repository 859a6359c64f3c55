"""SSH into guests: one server per VM on its own address, its own host key, and keys as cloud-init gave them."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import asyncssh

from labkit.twin.guests.identity import host_key
from labkit.twin.guests.sftp import JailedSftp

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest

SYSTEM = "guests"
_LOGIN_SECONDS = 30
_log = logging.getLogger(__name__)
_doors: WeakKeyDictionary[Guest, SshDoor] = WeakKeyDictionary()


class _Server(asyncssh.SSHServer):
    def __init__(self, door: SshDoor) -> None:
        self._door = door

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._door.connections.add(conn)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._door.connections.discard(self._conn)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        given = key.export_public_key().decode().split()[:2]
        return given in [line.split()[:2] for line in self._door.guest.users.get(username, [])]


class SshDoor:
    """The SSH server of a guest: opened at its boot, closed when it goes down."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._listener: asyncssh.SSHAcceptor | None = None
        self._mute: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen at the guest's address; one that another guest has already is not taken from it."""
        guest, mute = self.guest, self.guest.world.faults.has("ssh-silent", self.guest.name)
        if (self._mute if mute else self._listener) is not None or not guest.address:
            return
        await self.close()
        try:
            listener = guest.world.endpoints.listen(f"{guest.address}:22")
        except OSError as exc:
            _log.warning("%s: %s is taken: %s", guest.name, guest.address, exc)
            return
        if mute:
            self._mute = await asyncio.start_server(_say_nothing, sock=listener)
        else:
            self._listener = await self._serve(listener)
        guest.listening[22] = "0.0.0.0"  # noqa: S104  # what `ss` shows inside the guest

    async def close(self) -> None:
        """Stop listening and break off all connections."""
        if self._listener is not None:
            self._listener.close()
        if self._mute is not None:
            self._mute.close()
        self._listener = self._mute = None
        for connection in list(self.connections):
            connection.abort()
        self.guest.listening.pop(22, None)

    async def _serve(self, listener: socket.socket) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            sock=listener,
            server_factory=lambda: _Server(self),
            server_host_keys=[asyncssh.import_private_key(host_key(self.guest))],
            process_factory=self._process,
            sftp_factory=lambda channel: JailedSftp(channel, self.guest),
            encoding=None,
            login_timeout=_LOGIN_SECONDS,
            config=[],
            agent_forwarding=False,
        )

    async def _process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        guest = self.guest
        guest.world.counters.request(SYSTEM)
        user = str(process.get_extra_info("username"))
        command = process.command
        line = command if command is not None else (await process.stdin.read()).decode("utf-8", "replace")
        job = guest.spawn(guest.execute(line, user=user, stdin=process.stdin.read, env=_environment(process)))
        try:
            result = await job
            process.stdout.write(result.out)
            process.stderr.write(result.err)
            process.exit(result.status)
        except (asyncio.CancelledError, asyncssh.Error, OSError, EOFError):
            process.close()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(4096):
            pass
    finally:
        writer.close()


def _environment(process: asyncssh.SSHServerProcess[Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in process.env.items() if str(name).startswith(("LC_", "LABKIT_"))}


async def open_door(guest: Guest) -> None:
    """Open the SSH server of a guest that boots, and close it when the guest goes down."""
    door = _doors.get(guest)
    if door is None:
        door = _doors[guest] = SshDoor(guest)
        guest.closers.append(_close_door)
    await door.open()


def drop_connections(guest: Guest) -> None:
    """Break off all SSH connections of a guest, as a network does that fails; it goes on listening."""
    door = _doors.get(guest)
    for connection in list(door.connections) if door else ():
        connection.abort()


async def _close_door(guest: Guest) -> None:
    await _doors[guest].close()
