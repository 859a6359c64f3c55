"""The Git host over SSH: the real git as a client of it, with OpenSSH's ssh and with our own."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labkit import gitssh
from labkit.errors import StepFailed
from labkit.gitssh import SshError
from labkit.twin.git import Bare, GitServer, Person, serve_copy
from labkit.twin.git.client import Credentials, fetch, git, known_hosts_line, list_refs, parse_url
from labkit.twin.secrets import ssh_private_key, ssh_public_key

URL = "ssh://git@git.lab/somebody/homelab.git"
KEY, OTHER, HOST = (ssh_private_key(bytes([n]) * 32) for n in (1, 2, 3))


@dataclass
class Host:
    """A running Git host and what a client needs."""

    server: GitServer
    bare: Bare
    port: int
    known: str = ""
    client: dict[str, str] = field(default_factory=dict)

    def credentials(self, key: str = KEY, known: str | None = None, port: int = 0) -> Credentials:
        return Credentials(key, self.known if known is None else known, ("127.0.0.1", port or self.port))

    async def git(self, *words: Any, key: str = KEY) -> str:
        env = gitssh.environment(key, self.known, route=("127.0.0.1", self.port))
        return await asyncio.to_thread(git, list(words), env)


@pytest.fixture
def hosting(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    @asynccontextmanager
    async def start() -> AsyncIterator[Host]:
        folder = tmp_path / "served.git"
        git(["init", "--quiet", "--bare", "--initial-branch=main", folder])
        bare = Bare(folder, "main")
        bare.commit({"README.md": b"hello\n", "apps/a.yaml": b"a: 1\n"}, "Begin")
        server = GitServer(
            folder, "/somebody/homelab.git", keys=[ssh_public_key(KEY)], host_key=HOST, log=tmp_path / "git.log"
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.start(listener)
            remote = parse_url(URL)
            assert remote is not None
            known = known_hosts_line(remote, server.public_host_key)
            try:
                yield Host(server, bare, listener.getsockname()[1], known)
            finally:
                await server.stop()

    yield start
    gc.collect()  # coroutines that asyncssh left behind must not be finalized while Python parses a module


def test_a_clone_and_a_push_by_the_real_git(hosting, tmp_path: Path) -> None:
    async def story() -> None:
        async with hosting() as host:
            clone = tmp_path / "clone"
            await host.git("clone", "--quiet", URL, clone)
            assert (clone / "apps" / "a.yaml").read_text() == "a: 1\n"
            (clone / "new.yaml").write_text("b: 2\n")
            identity = ("-c", "user.name=me", "-c", "user.email=me@example.net")
            await host.git("-C", clone, "add", "new.yaml")
            await host.git("-C", clone, *identity, "commit", "--quiet", "-m", "Add")
            await host.git("-C", clone, "push", "--quiet", "origin", "main")
            assert host.bare.files()["new.yaml"] == b"b: 2\n"
            assert (host.server.reads, host.server.pushes) == (1, 1)

    asyncio.run(story())


def test_somebody_who_pushes_first_has_a_push_refused(hosting, tmp_path: Path) -> None:
    async def story() -> None:
        async with hosting() as host:
            clone = tmp_path / "clone"
            await host.git("clone", "--quiet", URL, clone)

            async def first() -> None:
                await asyncio.to_thread(Person(host.bare).note)

            host.server.before_push = first
            identity = ("-c", "user.name=me", "-c", "user.email=me@example.net")
            await host.git("-C", clone, *identity, "commit", "--quiet", "--allow-empty", "-m", "Mine")
            with pytest.raises(StepFailed, match=r"\[rejected\].*fetch first"):
                await host.git("-C", clone, "push", "origin", "main")
            assert b"switch" in host.bare.files()["NOTES.md"]

    asyncio.run(story())


@pytest.mark.parametrize("openssh", [True, False])
def test_refs_are_listed_and_only_what_moved_is_fetched(hosting, tmp_path: Path, monkeypatch, openssh: bool) -> None:
    if openssh and shutil.which("ssh") is None:
        pytest.skip("there is no OpenSSH on this machine")
    if not openssh:
        found = shutil.which
        monkeypatch.setattr(shutil, "which", lambda name: None if name == "ssh" else found(name))

    async def story() -> None:
        async with hosting() as host:
            remote, mirror = parse_url(URL), tmp_path / "mirror.git"
            assert remote is not None
            git(["-C", host.bare.folder, "tag", "v1", "main"])
            refs = await list_refs(remote, host.credentials())
            assert refs["refs/heads/main"] == refs["refs/tags/v1"] == host.bare.head()
            await asyncio.to_thread(fetch, mirror, URL, refs["refs/heads/main"], remote, host.credentials())
            new = host.bare.commit({"apps/a.yaml": None}, "Remove")
            assert (await list_refs(remote, host.credentials()))["refs/heads/main"] == new
            await asyncio.to_thread(fetch, mirror, URL, new, remote, host.credentials())
            assert git(["-C", mirror, "ls-tree", "-r", "--name-only", new]).split() == ["README.md"]

    asyncio.run(story())


def test_wrong_keys_hosts_and_paths_are_told_apart(hosting, tmp_path: Path) -> None:
    async def story() -> None:
        async with hosting() as host:
            remote, other = parse_url(URL), parse_url(URL.replace("homelab", "elsewhere"))
            assert remote is not None
            assert other is not None
            changed = known_hosts_line(remote, ssh_public_key(OTHER))
            for credentials, problem in (
                (host.credentials(OTHER), "denied"),
                (host.credentials(known=""), "unknown-host"),
                (host.credentials(known=changed), "changed-host"),
                (host.credentials("no key"), "input"),
            ):
                with pytest.raises(SshError) as caught:
                    await list_refs(remote, credentials)
                assert caught.value.problem == problem
            with pytest.raises(StepFailed, match="Repository not found"):
                await list_refs(other, host.credentials())
            await host.server.stop()
            with pytest.raises(SshError) as caught:
                await list_refs(remote, host.credentials())
            assert caught.value.problem == "unreachable"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("ssh://git@github.com/o/r.git", ("git", "github.com", 22, "/o/r.git")),
        ("ssh://forge.lan:2222/r", ("git", "forge.lan", 2222, "/r")),
        ("git@github.com:o/r.git", ("git", "github.com", 22, "o/r.git")),
        ("https://github.com/o/r", None),
    ],
)
def test_urls(url: str, parts: tuple[str, str, int, str] | None) -> None:
    remote = parse_url(url)
    assert (remote and (remote.user, remote.host, remote.port, remote.path)) == parts


def test_a_repository_is_copied_with_the_wanted_branch(tmp_path: Path) -> None:
    work = tmp_path / "work"
    git(["init", "--quiet", "--bare", "--initial-branch=trunk", work])
    first = Bare(work, "trunk").commit({"a": b"1"}, "One")
    second = Bare(work, "next").commit({"b": b"2"}, "Two")
    here = serve_copy(str(work), tmp_path / "one.git", "master")
    there = serve_copy(str(work), tmp_path / "two.git", "master", wanted="next")
    assert (here.head(), there.head()) == (first, second)
    assert set(there.files()) == {"b"}
    with pytest.raises(StepFailed):
        serve_copy(str(work), tmp_path / "three.git", "master", wanted="absent")


def test_a_person_takes_changes_back(tmp_path: Path) -> None:
    git(["init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "r.git"])
    bare = Bare(tmp_path / "r.git", "main")
    bare.commit({"a": b"1", "b": b"2"}, "Begin")
    person = Person(bare)
    person.follow({"x": lambda files: {"a": files["a"] + b"!", "c": b"3", "b": None}})
    person.follow({"x": lambda _files: {"a": b"not again"}})
    assert bare.files() == {"a": b"1!", "c": b"3"}
    person.follow({})
    person.follow({})
    assert bare.files() == {"a": b"1", "b": b"2"}
