"""A Git host: one repository over SSH, where the real git does what the commands ask for."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import asyncssh

from labkit.process import start_program
from labkit.twin import launch

_PROGRAMS = {"git-upload-pack": "upload-pack", "git-receive-pack": "receive-pack", "git-upload-archive": ""}
_PROTOCOL = re.compile(r"version=[0-9]+(:[a-z0-9=-]+)*")
_LOGIN_SECONDS = 15
_NO_SHELL = "Hi {user}! You've successfully authenticated, but the twin's Git host does not provide shell access.\n"
_MISSING = (
    "ERROR: Repository not found.\n"
    "fatal: Could not read from remote repository.\n\n"
    "Please make sure you have the correct access rights\nand the repository exists.\n"
)
_log = logging.getLogger(__name__)


class GitServer:
    """Serve a bare repository to who shows one of the keys.

    Args:
        folder: the bare repository.
        path: the path of its URL.
        keys: public keys that may read and write, as lines `ssh-ed25519 AAAA...`; may change at any time.
        host_key: the server's own private key in OpenSSH format.
        log: where git's messages go.

    Attributes:
        reads: how many fetches, clones and listings there were; `pushes` likewise.
        on_use: called for each command that git runs here.
        before_use: awaited before the repository is looked at.
        before_push: called before a push is let at the repository.
        after_push: called when a push has ended, whether it changed something or not.
    """

    def __init__(self, folder: Path, path: str, *, keys: Collection[str], host_key: str, log: Path) -> None:
        self.folder = folder
        self.path = _plain(path)
        self.keys = {_words(line) for line in keys}
        self.reads = self.pushes = 0
        self.on_use: Callable[[], object] | None = None
        self.before_use: Callable[[], Awaitable[None]] | None = None
        self.before_push: Callable[[], Awaitable[None]] | None = None
        self.after_push: Callable[[], Awaitable[None]] | None = None
        self._host_key = asyncssh.import_private_key(host_key)
        self._log = log
        self._listener: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()

    @property
    def public_host_key(self) -> str:
        """The public half of the host key, as it stands in a known_hosts file behind the name."""
        return _words(self._host_key.export_public_key().decode())

    @property
    def listens(self) -> bool:
        """Whether it can be reached."""
        return self._listener is not None

    async def start(self, listener: socket.socket) -> None:
        """Serve at a listening socket."""
        self._listener = await asyncssh.listen(
            sock=listener, server_factory=lambda: _Session(self), server_host_keys=[self._host_key],
            process_factory=self._process, encoding=None, login_timeout=_LOGIN_SECONDS, config=[],
            agent_forwarding=False,
        )  # fmt: skip

    async def stop(self) -> None:
        """Stop listening and break off all connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            await listener.wait_closed()
        for connection in list(self._connections):
            connection.abort()

    async def _process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            process.exit(await self._serve(process))
        except (asyncio.CancelledError, asyncssh.Error, OSError, EOFError):
            process.close()
        finally:
            await process.wait_closed()  # else what joined it to git is never waited for

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> int:
        words = shlex.split(process.command or "")
        program = _PROGRAMS.get(words[0], "") if len(words) == 2 else ""
        if not program:
            user = process.get_extra_info("username")
            process.stderr.write(_NO_SHELL.format(user=user).encode())
            return 1
        if _plain(words[1]) != self.path:
            process.stderr.write(_MISSING.encode())
            return 128
        if self.on_use is not None:
            self.on_use()
        if self.before_use is not None:
            await self.before_use()
        if program == "receive-pack":
            return await self._push(process)
        self.reads += 1
        return await self._git(process, program)

    async def _push(self, process: asyncssh.SSHServerProcess[bytes]) -> int:
        self.pushes += 1
        if self.before_push is not None:
            await self.before_push()
        status = await self._git(process, "receive-pack")
        if self.after_push is not None:
            await self.after_push()
        return status

    async def _git(self, process: asyncssh.SSHServerProcess[bytes], program: str) -> int:
        """Join the connection to a git of its own, which ends with this process at the latest."""
        argv = [sys.executable, "-I", launch.__file__, str(os.getpid()), "/usr/bin/env", "git"]
        child = await asyncio.to_thread(
            start_program, [*argv, program, self.folder], env=self._environment(process), log=self._log,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            await process.redirect(stdin=child.stdin, stdout=child.stdout)
            await process.stdout.drain()
            return await asyncio.to_thread(child.wait)
        finally:
            if child.poll() is None:
                child.kill()
                await asyncio.to_thread(child.wait)

    def _environment(self, process: asyncssh.SSHServerProcess[bytes]) -> dict[str, str]:
        env = {
            "PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
        }  # fmt: skip
        protocol = str(process.env.get("GIT_PROTOCOL", ""))
        if _PROTOCOL.fullmatch(protocol):
            env["GIT_PROTOCOL"] = protocol
        return env


class _Session(asyncssh.SSHServer):
    """One connection: only public keys are taken."""

    def __init__(self, server: GitServer) -> None:
        self._server = server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._server._connections.add(conn)  # noqa: SLF001  # same module

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server._connections.discard(self._conn)  # noqa: SLF001  # same module

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = _words(key.export_public_key().decode()) in self._server.keys
        if not known:
            _log.info("%s: a key that is no deploy key was refused", username)
        return known


def _words(line: str) -> str:
    return " ".join(line.split()[:2])


def _plain(path: str) -> str:
    return path.strip("/").removesuffix(".git")
