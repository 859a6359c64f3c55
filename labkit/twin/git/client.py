"""What Flux does with a Git host: ask where its branches and tags are, and fetch, over SSH with verified host keys."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncssh

from labkit.errors import StepFailed
from labkit.gitssh import Call, SshError, environment, login
from labkit.process import run_program

_SCP = re.compile(r"(?:([^@/]+)@)?([^:/]+):(.*)")
_SECONDS = 60.0


@dataclass(frozen=True)
class Remote:
    """An SSH URL taken apart."""

    user: str
    host: str
    port: int
    path: str


def parse_url(url: str) -> Remote | None:
    """Take `ssh://user@host:port/path` or `user@host:path` apart; None for a URL that is not of SSH."""
    if "://" in url:
        parts = urlsplit(url)
        if parts.scheme != "ssh" or not parts.hostname:
            return None
        return Remote(parts.username or "git", parts.hostname, parts.port or 22, parts.path)
    found = _SCP.fullmatch(url)
    return Remote(found[1] or "git", found[2], 22, found[3]) if found else None


def known_hosts_line(remote: Remote, public_key: str) -> str:
    """Return the line of a known_hosts file for a host."""
    name = remote.host if remote.port == 22 else f"[{remote.host}]:{remote.port}"
    return f"{name} {public_key}\n"


@dataclass(frozen=True)
class Credentials:
    """What a deploy secret holds, and the way to the host: the address to connect to."""

    identity: str
    known_hosts: str
    route: tuple[str, int]


async def list_refs(remote: Remote, credentials: Credentials) -> dict[str, str]:
    """Return the refs of a repository with their commits (`refs/tags/v1^{}` is what a tag stands for).

    It is what `git ls-remote` does, without a process: it is asked for again and again.

    Raises:
        SshError: no login came about; its `problem` says why.
        StepFailed: the host has no such repository.
    """
    call = Call(remote.host, f"git-upload-pack {shlex.quote(remote.path)}", remote.user, remote.port)
    variables = environment(credentials.identity, credentials.known_hosts, route=credentials.route)
    connection = await login(call, variables)
    try:
        process = await connection.create_process(call.command, encoding=None)
        refs = await _advertised(process)
        process.stdin.write(b"0000")
        process.stdin.write_eof()
        await process.wait_closed()
    except (asyncssh.Error, OSError, asyncio.IncompleteReadError, ValueError) as exc:
        raise SshError("broken", str(exc) or type(exc).__name__) from exc
    finally:
        connection.close()
    return refs


async def _advertised(process: asyncssh.SSHClientProcess[bytes]) -> dict[str, str]:
    refs: dict[str, str] = {}
    while True:
        head = await process.stdout.read(4)
        if len(head) < 4:
            said = (await process.stderr.read()).decode("utf-8", "replace").strip()
            raise StepFailed(said.splitlines()[0] if said else "EOF")
        length = int(head, 16)
        if length == 0:
            return refs
        line = (await process.stdout.readexactly(length - 4)).rstrip(b"\n")
        commit, _, name = line.partition(b"\0")[0].partition(b" ")
        if name != b"capabilities^{}":
            refs[name.decode("utf-8", "replace")] = commit.decode()


def fetch(mirror: Path, url: str, commit: str, remote: Remote, credentials: Credentials) -> None:
    """Fetch a commit into a bare repository, made when it is absent; only what is missing travels.

    Raises:
        StepFailed: with what git said.
    """
    if not mirror.exists():
        git(["init", "--quiet", "--bare", mirror])
    with ExitStack() as stack:
        env = _openssh(stack, remote, credentials) or environment(
            credentials.identity, credentials.known_hosts, route=credentials.route
        )
        refspecs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        git(["-C", mirror, "fetch", "--quiet", "--prune", "--no-auto-gc", url, *refspecs], env)
    git(["-C", mirror, "cat-file", "-e", f"{commit}^{{commit}}"])


def git(words: Sequence[str | Path], env: Mapping[str, str] | None = None, stdin: bytes | None = None) -> str:
    """Run the real git without anybody's configuration; raise StepFailed with what it said."""
    base = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull, "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TERMINAL_PROMPT": "0"}  # fmt: skip
    return run_program(["git", *words], timeout=_SECONDS, env={**base, **(env or {})}, stdin=stdin).text


def _openssh(stack: ExitStack, remote: Remote, credentials: Credentials) -> dict[str, str] | None:
    """Return the variables that make git use OpenSSH, which starts sooner than ours; None where there is none."""
    ssh = shutil.which("ssh")
    if ssh is None:
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labkit-git-")))
    for name, text in (("identity", credentials.identity), ("known_hosts", credentials.known_hosts)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    host, port = credentials.route
    alias = remote.host if remote.port == 22 else f"[{remote.host}]:{remote.port}"
    options = {
        "UserKnownHostsFile": folder / "known_hosts", "GlobalKnownHostsFile": os.devnull, "StrictHostKeyChecking":
        "yes", "IdentitiesOnly": "yes", "IdentityAgent": "none", "BatchMode": "yes", "UpdateHostKeys": "no",
        "HostName": host, "Port": port, "HostKeyAlias": alias, "ConnectTimeout": 15, "LogLevel": "ERROR",
    }  # fmt: skip
    words = [ssh, "-F", os.devnull, "-i", str(folder / "identity")]
    words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}
