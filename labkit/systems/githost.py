"""The Git server: its address, and the host keys by which it is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from labkit.errors import InputError, Mistake, SystemDown
from labkit.gitssh import SshError, matching_keys
from labkit.lab import Lab
from labkit.systems.access import Access

PINNED = "git_known_hosts"
"""A file in the state folder that stands above all others."""
_USERS = "~/.ssh/known_hosts"
_SCP = re.compile(r"([\w.-]+)@([\w.-]+):(?!//)(.+)")
_PUBLISHED = """
github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl
github.com ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKg\
wFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=
"""
"""Keys that their owner publishes, for those who have no known_hosts yet."""


@dataclass(frozen=True)
class GitHost:
    """Where a repository is served."""

    host: str
    port: int
    user: str
    path: str = ""
    """The repository's path there."""

    @property
    def name(self) -> str:
        """The host as known_hosts files write it."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


def git_host(url: str) -> GitHost:
    """Take the server out of a repository's URL.

    Raises:
        InputError: it is not reached over SSH.
    """
    if found := _SCP.fullmatch(url):
        return GitHost(found[2], 22, found[1], found[3])
    parts = urlsplit(url)
    if parts.scheme != "ssh" or not parts.hostname:
        hint = "Flux reads it with the deploy key, over SSH"
        raise InputError([Mistake("lab", 0, 0, "git.url", "an ssh:// URL, or git@host:path", repr(url), hint)])
    return GitHost(parts.hostname, parts.port or 22, parts.username or "git", parts.path)


def known_hosts(lab: Lab, access: Access) -> str:
    """Return the known_hosts lines of the lab's Git server, in the plain form that Flux reads.

    They come from the state folder, else from git.known_hosts of the lab file (a file, or the text itself), else
    from the user's own known_hosts, else from what the server's owner publishes.

    Raises:
        SystemDown: the server is known nowhere.
    """
    server = git_host(lab.git.url)
    for text in _sources(lab, access):
        try:
            if matching_keys(text, server.host, server.port):
                return plain_lines(text, server)
        except SshError as exc:
            raise InputError(
                [Mistake("lab", 0, 0, "git.known_hosts", "lines of a known_hosts file", str(exc))]
            ) from exc
    port = "" if server.port == 22 else f"-p {server.port} "
    raise SystemDown(
        f"Git server {server.name}: expected its host key to be known, got none",
        next_step=f"ssh-keyscan {port}{server.host}, compare the fingerprints with those that its owner publishes, "
        "and put the lines into a file that git.known_hosts of the lab file names",
    )


def plain_lines(text: str, server: GitHost) -> str:
    """Return the lines of a known_hosts text that are about a server, with its name in clear."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        marked = bool(words) and words[0].startswith("@")
        if len(words) < (4 if marked else 3) or words[0].startswith("#"):
            continue
        if matching_keys(line, server.host, server.port):
            lines.append(" ".join([server.name, *words[1:3]]))
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _sources(lab: Lab, access: Access) -> list[str]:
    pinned = access.state / PINNED
    if pinned.is_file():
        return [pinned.read_text(encoding="utf-8")]
    if lab.git.known_hosts:
        return [_given(lab.git.known_hosts, access)]
    users = access.path(_USERS)
    found = [users.read_text(encoding="utf-8", errors="replace")] if users.is_file() else []
    return [*found, _PUBLISHED]


def _given(value: str, access: Access) -> str:
    """A known_hosts text has a key behind its host names; anything else is the name of a file."""
    if re.search(r"\s(ssh-|ecdsa-|sk-)", value):
        return value
    path: Path = access.path(value)
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        got = exc.strerror or type(exc).__name__
        raise InputError([Mistake("lab", 0, 0, "git.known_hosts", f"a file that can be read: {path}", got)]) from exc
