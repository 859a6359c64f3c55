"""The SSH program that git calls: asyncssh with one identity, verified host keys and a route of our own.

Git runs it as it would run ssh (`GIT_SSH_COMMAND`), so that no ssh client is needed. Everything that it must know
comes through the environment that `environment` makes; nothing secret stands in an argument.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import asyncssh

IDENTITY = "LABKIT_SSH_IDENTITY"
KNOWN_HOSTS = "LABKIT_SSH_KNOWN_HOSTS"
ROUTE = "LABKIT_SSH_ROUTE"
SECONDS = "LABKIT_SSH_SECONDS"
MARK = "labkit-ssh"
"""Every line of ours on standard error begins with it: `labkit-ssh: unknown-host: ...`."""
PROBLEMS = ("input", "unreachable", "unknown-host", "changed-host", "denied", "broken")
_TAKES_VALUE = ("-p", "-o", "-l", "-i", "-F", "-J", "-b", "-c", "-m", "-S", "-W")
_FAILED = 255


def environment(
    identity: str, known_hosts: str, *, route: tuple[str, int] | None = None, seconds: float = 15.0
) -> dict[str, str]:
    """Return the variables that make git use this program.

    Args:
        identity: the private key, in OpenSSH format.
        known_hosts: lines as in a known_hosts file; a server that is not in them is refused.
        route: where to connect in place of the host and port of the URL.
        seconds: how long connecting and logging in may take each.
    """
    found = {
        "GIT_SSH_COMMAND": shlex.join([sys.executable, "-P", "-m", "labkit.gitssh"]),
        "GIT_SSH_VARIANT": "ssh",
        IDENTITY: identity,
        KNOWN_HOSTS: known_hosts,
        SECONDS: f"{seconds:g}",
    }
    return found if route is None else {**found, ROUTE: f"{route[0]}:{route[1]}"}


class SshError(Exception):
    """A login that did not come about; `problem` is one of `PROBLEMS`."""

    def __init__(self, problem: str, text: str) -> None:
        super().__init__(text)
        self.problem = problem


@dataclass(frozen=True)
class Call:
    """What git asks for: a user at a host, a port, a command there, and the protocol it would like to speak."""

    host: str
    command: str
    user: str = "git"
    port: int = 22
    protocol: str = ""


def parse_call(words: Sequence[str], variables: Mapping[str, str]) -> Call:
    """Read the arguments that git gives to ssh.

    Raises:
        SshError: there is no host or no command among them.
    """
    port, user, rest = 22, "", list(words)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option = rest.pop(0)
        value = rest.pop(0) if option in _TAKES_VALUE and rest else ""
        if option == "-p" and value.isdecimal():
            port = int(value)
        elif option == "-l":
            user = value
    if rest and rest[0] == "--":
        rest.pop(0)
    if len(rest) < 2:
        raise SshError("input", "expected a host and a command from git, got neither")
    name, at, host = rest[0].rpartition("@")
    return Call(host=host, command=" ".join(rest[1:]), user=name if at else user or "git", port=port,
                protocol=variables.get("GIT_PROTOCOL", ""))  # fmt: skip


class _Client(asyncssh.SSHClient):
    """Remembers the key of a host that is not the known one, and refuses it."""

    def __init__(self) -> None:
        self.shown = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Refuse every key that is not among the known ones."""
        del host, addr, port
        self.shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
        return False


def matching_keys(known_hosts: str, host: str, port: int) -> tuple[str, ...]:
    """Return the fingerprints that a known_hosts text has for a host.

    Raises:
        SshError: it is no such text.
    """
    keys = _match(known_hosts, host, port)[0]
    return tuple(f"{key.get_algorithm()} {key.get_fingerprint()}" for key in keys)


def _match(
    text: str, host: str, port: int
) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
    """The keys, the CAs and the revoked keys that stand for a host."""
    try:
        known = asyncssh.import_known_hosts(text)
    except ValueError as exc:
        raise SshError("input", f"known hosts: expected lines of a known_hosts file, got {exc}") from exc
    keys, authorities, revoked, *_ = known.match(host, "", None if port == 22 else port)
    return keys, authorities, revoked


async def login(call: Call, variables: Mapping[str, str]) -> asyncssh.SSHClientConnection:
    """Log in with the identity of the environment, to a host that is known by it.

    Raises:
        SshError: with what kept it.
    """
    known = _match(variables.get(KNOWN_HOSTS, ""), call.host, call.port)
    where = call.host if call.port == 22 else f"[{call.host}]:{call.port}"
    if not any(known[:2]):
        raise SshError("unknown-host", f"{where}: expected its host key among the known hosts, got none")
    host, port = _route(call, variables)
    seconds = float(variables.get(SECONDS) or 15)
    client = _Client()
    make: Callable[[], asyncssh.SSHClient] = lambda: client  # noqa: E731
    try:
        return await asyncssh.connect(
            host, port, username=call.user, client_keys=[_identity(variables)], agent_path=None, config=None,
            known_hosts=known, client_factory=make, connect_timeout=seconds, login_timeout=seconds,
            preferred_auth="publickey", keepalive_interval=30,
        )  # fmt: skip
    except asyncssh.HostKeyNotVerifiable as exc:
        wanted = ", ".join(f"{key.get_algorithm()} {key.get_fingerprint()}" for key in known[0])
        raise SshError("changed-host", f"{where}: expected host key {wanted}, got {client.shown or exc}") from exc
    except asyncssh.PermissionDenied as exc:
        raise SshError("denied", f"{call.user}@{where}: expected to be let in with this key, got refused") from exc
    except (asyncssh.Error, OSError, TimeoutError) as exc:
        got = str(exc) or f"no answer within {seconds:g} s"
        raise SshError("unreachable", f"{where}: expected a login, got {got}") from exc


def _identity(variables: Mapping[str, str]) -> asyncssh.SSHKey:
    text = variables.get(IDENTITY, "")
    try:
        return asyncssh.import_private_key(text if text.endswith("\n") else text + "\n")
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        # The error may show what it could not read.
        raise SshError("input", "identity: expected a private key without a passphrase, got something else") from None


def _route(call: Call, variables: Mapping[str, str]) -> tuple[str, int]:
    host, _, port = variables.get(ROUTE, "").rpartition(":")
    return (host, int(port)) if host and port.isdecimal() else (call.host, call.port)


async def list_heads(call: Call, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the branches of a repository with their commits: `git ls-remote` without a process.

    Args:
        call: its command is the path of the repository.
        variables: what `environment` returned.

    Raises:
        SshError: no login came about, or there is no such repository.
    """
    async with await login(call, variables) as connection:
        try:
            process = await connection.create_process(f"git-upload-pack {shlex.quote(call.command)}", encoding=None)
            heads = {name: commit async for name, commit in _advertised(process)}
            process.stdin.write(b"0000")
            process.stdin.write_eof()
            await process.wait_closed()
        except (asyncssh.Error, OSError, EOFError, ValueError) as exc:
            raise SshError("broken", f"{call.host}: expected the branches, got {exc or type(exc).__name__}") from exc
    return heads


async def _advertised(process: asyncssh.SSHClientProcess[bytes]) -> AsyncIterator[tuple[str, str]]:
    """Yield branch and commit from what a server sends first: lines with their length in four digits before them."""
    while length := int(await process.stdout.readexactly(4), 16):
        line = (await process.stdout.readexactly(length - 4)).rstrip(b"\n")
        commit, _, name = line.partition(b"\0")[0].partition(b" ")
        if name.startswith(b"refs/heads/"):
            yield name.removeprefix(b"refs/heads/").decode("utf-8", "replace"), commit.decode()


async def run(call: Call, variables: Mapping[str, str]) -> int:
    """Log in and run the command with this process's streams; return its exit status."""
    async with await login(call, variables) as connection:
        try:
            process = await connection.create_process(
                call.command, stdin=sys.stdin.buffer, stdout=sys.stdout.buffer, stderr=sys.stderr.buffer,
                encoding=None, env={"GIT_PROTOCOL": call.protocol} if call.protocol else {},
            )  # fmt: skip
            done = await process.wait()
        except (asyncssh.Error, OSError) as exc:
            raise SshError("broken", f"{call.host}: expected the connection to hold, got {exc}") from exc
    return _FAILED if done.exit_status is None else done.exit_status


def main() -> int:
    """Be ssh for git."""
    try:
        return asyncio.run(run(parse_call(sys.argv[1:], os.environ), os.environ))
    except SshError as exc:
        sys.stderr.write(f"{MARK}: {exc.problem}: {exc}\n")
    return _FAILED


if __name__ == "__main__":
    sys.exit(main())
