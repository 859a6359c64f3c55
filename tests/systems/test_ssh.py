"""The shell against a real SSH server."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from labkit.errors import InputError, StepFailed, SystemDown
from labkit.lab import Lab, Machine, load_lab
from labkit.lab.models import resolve_machine
from labkit.redaction import remember
from labkit.secrets import Secrets
from labkit.systems import loop, ssh
from labkit.systems.access import Access, Clock
from labkit.systems.known_hosts import known_hosts_file, store_host_keys

ROOT = Path(__file__).parents[2]
USER_KEY = asyncssh.generate_private_key("ssh-ed25519")
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


def text_of(key: asyncssh.SSHKey) -> str:
    return key.export_private_key("openssh").decode()


async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run what is asked for on this machine; sudo is left out."""
    line = (process.command or "").removeprefix("sudo -n -- ").replace("-o root -g root ", "")
    if line == "hang":
        await asyncio.sleep(60)
    stdin = await process.stdin.read()
    done = await asyncio.to_thread(
        subprocess.run, ["/bin/sh", "-c", line], input=stdin, capture_output=True, check=False
    )
    process.stdout.write(done.stdout)
    process.stderr.write(done.stderr)
    process.exit(done.returncode)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    async def start() -> asyncssh.SSHAcceptor:
        public = USER_KEY.convert_to_public().export_public_key().decode()
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[HOST_KEY], process_factory=serve, encoding=None, sftp_factory=True,
            authorized_client_keys=asyncssh.import_authorized_keys(public),
        )  # fmt: skip

    server = loop.call(start(), timeout=10)
    yield server.get_port()
    server.close()


@pytest.fixture
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


@pytest.fixture
def machine(lab: Lab) -> Machine:
    return resolve_machine(lab, "k3s-master-01")


def reach(lab: Lab, tmp_path: Path, port: int, *, key: str = "", host_key: asyncssh.SSHKey = HOST_KEY) -> Access:
    public = host_key.convert_to_public().export_public_key().decode()
    store_host_keys(known_hosts_file(tmp_path), ("k3s-master-01", "192.168.5.20"), (public,))
    return Access(
        on="twin",
        secrets=Secrets({lab.guests.ssh_key: key or text_of(USER_KEY)}, tmp_path),
        state=tmp_path,
        clock=Clock(0.01),
        connect={"192.168.5.20:22": f"127.0.0.1:{port}"},
    )


@pytest.fixture
def shell(lab: Lab, machine: Machine, tmp_path: Path, port: int) -> Iterator[ssh.Shell]:
    with ssh.connect(lab, reach(lab, tmp_path, port), machine) as one:
        yield one


def test_words_stay_words(shell: ssh.Shell) -> None:
    odd = "a b; $HOME 'c' \"d\"\n*"
    assert shell.run(["printf", "%s", odd]).text == odd


def test_stdin_status_and_errors(shell: ssh.Shell) -> None:
    assert shell.run(["cat"], stdin=b"\x00bytes").stdout == b"\x00bytes"
    assert shell.run(["false"], check=False).status == 1
    with pytest.raises(StepFailed, match=r"k3s-master-01: ls /none: expected exit status 0, got 2: .*/none"):
        shell.run(["ls", "/none"])


def test_secrets_do_not_reach_messages(shell: ssh.Shell) -> None:
    secret = remember("correct-horse-battery")
    with pytest.raises(StepFailed) as caught:
        shell.run(["sh", "-c", "cat >&2; exit 3"], stdin=secret.encode())
    assert secret not in str(caught.value)


def test_a_command_that_does_not_end(shell: ssh.Shell) -> None:
    with pytest.raises(StepFailed, match=r"hang: expected an end within 0\.2 s"):
        shell.run(["hang"], timeout=0.2)
    assert shell.run(["echo", "still here"]).text == "still here\n"


@pytest.mark.parametrize("sudo", [True, False])
def test_files(shell: ssh.Shell, tmp_path: Path, sudo: bool) -> None:
    path = tmp_path / "some file"
    for content in (b"first\n", b"", b"\x00\xff" * 70_000):
        shell.write_file(str(path), content, mode=0o640, sudo=sudo)
        assert shell.read_file(str(path), sudo=sudo) == content
        assert path.stat().st_mode & 0o777 == 0o640
    assert shell.is_file(str(path))
    assert not shell.is_file(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".labkit")] == []
    with pytest.raises(StepFailed):
        shell.read_file(str(tmp_path / "none"))
    with pytest.raises(StepFailed):
        shell.write_file(str(tmp_path / "none/file"), b"", sudo=sudo)


def test_clock(shell: ssh.Shell) -> None:
    assert shell.read_clock() > 1.7e9


def test_another_host_key(lab: Lab, machine: Machine, tmp_path: Path, port: int) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(ssh.HostKeyChanged, match="expected the known host key") as caught:
        ssh.connect(lab, reach(lab, tmp_path, port, host_key=other), machine)
    assert "known_hosts" in caught.value.next_step


def test_a_key_that_is_not_let_in(lab: Lab, machine: Machine, tmp_path: Path, port: int) -> None:
    other = text_of(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(SystemDown, match=r"ubuntu@192\.168\.5\.20.*guests\.ssh_key"):
        ssh.connect(lab, reach(lab, tmp_path, port, key=other), machine)


def test_nobody_there(lab: Lab, machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(SystemDown, match="expected a login, got: connection refused"):
        ssh.connect(lab, reach(lab, tmp_path, 1), machine)


def test_a_connection_that_breaks_reads_as_such(shell: ssh.Shell) -> None:
    shell.close()
    with pytest.raises(SystemDown, match=r"^SSH .*: expected the connection to hold, got: .* during `echo hi`"):
        shell.run(("echo", "hi"))


@pytest.mark.parametrize(
    ("key", "got"),
    [
        ("no key at all", "something else"),
        (USER_KEY.export_private_key("pkcs8-pem", passphrase="sesame").decode(), "one with a passphrase"),
    ],
)
def test_what_is_no_usable_key(lab: Lab, tmp_path: Path, key: str, got: str) -> None:
    with pytest.raises(InputError, match=got):
        ssh.public_key(lab, reach(lab, tmp_path, 1, key=key))


def test_public_key(lab: Lab, tmp_path: Path) -> None:
    words = ssh.public_key(lab, reach(lab, tmp_path, 1)).split()
    assert words[0] == "ssh-ed25519"
    assert words[2] == "labkit@homelab"
