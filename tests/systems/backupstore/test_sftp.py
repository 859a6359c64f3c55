"""The reader over a real SFTP server: host keys verified, nothing written."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import asyncssh
import pytest

from labkit.errors import InputError, SystemDown
from labkit.systems.backupstore.catalog import read_catalog
from labkit.systems.backupstore.extract import extract_backup
from labkit.systems.backupstore.sftp import SftpPlace, SftpStore, parse_sftp_url
from labkit.systems.backupstore.verify import verify_volume


class ReadOnly(asyncssh.SFTPServer):
    """Serves a folder and notes every call that would write."""

    writes: ClassVar[list[str]] = []

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & ~asyncssh.FXF_READ:
            self.writes.append(f"open {path!r} {pflags}")
        return super().open(path, pflags, attrs)

    def mkdir(self, path: bytes, _attrs: asyncssh.SFTPAttrs) -> None:
        self.writes.append(f"mkdir {path!r}")

    def remove(self, path: bytes) -> None:
        self.writes.append(f"remove {path!r}")


@dataclass
class Nas:
    port: int
    known_hosts: Path
    key: Path
    server: asyncssh.SSHAcceptor
    loop: asyncio.AbstractEventLoop

    def connect(self, path: str = "/", **more: Path) -> SftpStore:
        options = {"known_hosts": self.known_hosts, "key": self.key} | more
        return SftpStore(SftpPlace("127.0.0.1", self.port, "backup", path), **options)


@pytest.fixture
def nas(chain, tmp_path: Path) -> Iterator[Nas]:
    host, user = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    user.write_private_key(tmp_path / "id")
    user.write_public_key(tmp_path / "authorized")
    ReadOnly.writes.clear()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host],
            authorized_client_keys=str(tmp_path / "authorized"),
            sftp_factory=lambda channel: ReadOnly(channel, chroot=str(chain.root)),
        )

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(20)
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.get_port()} {host.export_public_key().decode()}")
    yield Nas(server.get_port(), known, tmp_path / "id", server, loop)

    async def end() -> None:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # connections that just ended

    asyncio.run_coroutine_threadsafe(end(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_a_store_reads_over_sftp_and_nothing_is_written(chain, nas: Nas, tmp_path: Path) -> None:
    store = nas.connect()
    try:
        (entry,) = read_catalog(store).volumes
        report = verify_volume(store, entry)
        assert (report.restorable, report.damages) == (("backup-1", "backup-2", "backup-3"), ())
        done = extract_backup(store, entry, "backup-3", tmp_path / "i.raw")
        assert done.sha256 == hashlib.sha256(chain.images["vol-data", "backup-3"]).hexdigest()
    finally:
        store.close()
    assert ReadOnly.writes == []


def test_damage_over_sftp_has_the_same_names(chain, nas: Nas) -> None:
    files = sorted(chain.writer.folder("vol-data").glob("blocks/*/*/*.blk"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-20])
    (chain.writer.folder("vol-data") / "volume.cfg").unlink()
    chain.writer.lock("vol-data", "lock-00000000000000aa", 2, chain.clock)
    store = nas.connect("/backupstore/")
    try:
        (remote,) = read_catalog(store).volumes
        local = chain.entry("vol-data")
        assert (remote.damages, remote.locks) == (local.damages, local.locks)
        assert verify_volume(store, remote).damages == verify_volume(chain.store, local).damages
    finally:
        store.close()


@pytest.mark.parametrize("path", ["/nothing", "/backupstore/volumes"])
def test_a_path_without_a_store_is_named(nas: Nas, path: str) -> None:
    with pytest.raises(InputError, match="backupstore/volumes"):
        nas.connect(path)


def test_another_host_key_is_refused(nas: Nas, tmp_path: Path) -> None:
    other = tmp_path / "other"
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    other.write_text(f"[127.0.0.1]:{nas.port} {key}")
    with pytest.raises(SystemDown, match="expected a host key that known_hosts lists"):
        nas.connect(known_hosts=other)


def test_an_unknown_host_is_refused(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("")
    with pytest.raises(SystemDown, match="host key"):
        nas.connect(known_hosts=tmp_path / "none")


def test_another_user_key_is_refused(nas: Nas, tmp_path: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "stranger")
    with pytest.raises(SystemDown, match="expected to be let in"):
        nas.connect(key=tmp_path / "stranger")


def test_a_host_that_does_not_answer_is_down(nas: Nas) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SystemDown, match=f"sftp://backup@127.0.0.1:{port}/: expected a connection"):
        SftpStore(SftpPlace("127.0.0.1", port, "backup", "/"), known_hosts=nas.known_hosts, key=nas.key)


def test_a_connection_that_ends_is_no_damage(chain, nas: Nas) -> None:
    store = nas.connect()
    try:
        (entry,) = read_catalog(store).volumes
        assert store._connection is not None
        store._loop.call_soon_threadsafe(store._connection.abort)
        with pytest.raises(SystemDown):
            verify_volume(store, entry)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sftp://me@nas/mnt/tank", SftpPlace("nas", 22, "me", "/mnt/tank")),
        ("sftp://me@nas:2222/a%20b", SftpPlace("nas", 2222, "me", "/a b")),
        ("sftp://[::1]/x", SftpPlace("::1", 22, "", "/x")),
    ],
)
def test_urls(url: str, place: SftpPlace) -> None:
    assert parse_sftp_url(url) == place


@pytest.mark.parametrize(
    "url", ["sftp://nas", "sftp:///x", "sftp://nas:x/y", "sftp://nas:99999/y", "ftp://nas/x", "sftp://nas/x?y"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InputError, match="port"):
        parse_sftp_url(url)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        parse_sftp_url("sftp://me:hunter22@nas/x")
    assert "hunter22" not in str(caught.value)
