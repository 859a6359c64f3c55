"""SSH to the lab's guests: asyncssh behind a plain face, with verified host keys."""

from __future__ import annotations

import functools
import os
import shlex
import uuid
from collections.abc import Sequence
from pathlib import PurePosixPath
from types import TracebackType
from typing import Self

import asyncssh

from labkit.errors import InputError, LabError, Mistake, StepFailed, SystemDown
from labkit.lab import Lab, Machine
from labkit.process import Output
from labkit.redaction import redact
from labkit.systems import loop
from labkit.systems.access import Access
from labkit.systems.known_hosts import known_hosts_file, read_host_keys

PORT = 22
CONNECT_DEADLINE = 15.0  # lab seconds until a guest on the LAN has let us in
COMMAND_DEADLINE = 120.0
_SLOWEST = 1e6  # bytes a second that an upload makes at least
# Both are in every OpenSSH of the last ten years; AES first, for it costs a third less time here.
_CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")


class HostKeyChanged(SystemDown):
    """Report a guest whose SSH host key is not the one that is known."""


class Shell:
    """A login on one guest; a context manager. Commands may run side by side from many threads.

    Attributes:
        name: the guest, for messages.
    """

    def __init__(self, name: str, connection: asyncssh.SSHClientConnection, access: Access) -> None:
        self.name = name
        self._connection = connection
        self._access = access

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the login."""
        self._connection.abort()

    def run(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        timeout: float = COMMAND_DEADLINE,
        stdin: bytes | None = None,
        check: bool = True,
    ) -> Output:
        """Run a program on the guest to its end.

        Args:
            argv: the program and its arguments; never a shell line. Secrets go by `stdin`, never here.
            sudo: run it as root.
            timeout: lab seconds after which it is given up.
            stdin: bytes for standard input.
            check: raise when the exit status is not 0.

        Raises:
            StepFailed: the exit status was not 0, or it took too long. The text is redacted.
            SystemDown: the connection broke.
        """
        words = ["sudo", "-n", "--", *argv] if sudo else list(argv)
        line = shlex.join(words)
        shown = f"{self.name}: {redact(line)}"
        self._access.tally.add(self.name, PORT)
        try:
            done = loop.call(
                self._connection.run(
                    line,
                    input=stdin or None,
                    stdin=asyncssh.PIPE if stdin else asyncssh.DEVNULL,  # an empty input would stay open
                    encoding=None,
                    check=False,
                ),
                timeout=self._access.clock.real(timeout),
            )
        except TimeoutError as exc:
            raise StepFailed(
                f"{shown}: expected an end within {timeout:g} s, got none",
                next_step=f"log in to {self.name} and look what it is doing, then run again",
            ) from exc
        except (asyncssh.Error, OSError) as exc:
            raise self._broken(str(exc) or type(exc).__name__, line) from exc
        if done.exit_status is None:  # the channel closed without one
            raise self._broken("it was closed", line)
        status = done.exit_status
        output = Output(status, _bytes(done.stdout), _bytes(done.stderr))
        if check and status != 0:
            said = redact((output.stderr or output.stdout).decode("utf-8", "replace").strip()[-2000:])
            raise StepFailed(f"{shown}: expected exit status 0, got {status}: {said or 'no output'}")
        return output

    def _broken(self, got: str, line: str) -> SystemDown:
        return SystemDown(
            f"SSH {self.name}: expected the connection to hold, got: {got}; it broke during `{redact(line)}`",
            next_step=f"look whether {self.name} is up and its network holds, then run again",
        )

    def read_file(self, path: str, *, sudo: bool = False) -> bytes:
        """Return the content of a file on the guest.

        Raises:
            StepFailed: it cannot be read.
        """
        return self.run(("cat", "--", path), sudo=sudo).stdout

    def is_file(self, path: str, *, sudo: bool = False) -> bool:
        """Whether there is a file of that name on the guest."""
        return self.run(("test", "-f", path), sudo=sudo, check=False).status == 0

    def write_file(
        self, path: str, content: bytes, *, mode: int = 0o644, owner: str = "root:root", sudo: bool = True
    ) -> None:
        """Write a file on the guest: it appears whole, with its mode and owner, or not at all.

        Args:
            path: absolute; its folder must exist.
            content: the bytes; they travel by SFTP and never stand in a command.
            mode: permission bits.
            owner: `user:group`, with `sudo` only.
            sudo: whether root puts it in place; else it belongs to the user who logs in.

        Raises:
            StepFailed: it cannot be written.
        """
        target = PurePosixPath(path)
        mark = f".labkit-{uuid.uuid4().hex[:12]}"
        upload = f"/tmp/{mark}" if sudo else str(target.with_name(mark))  # noqa: S108  # unguessable, mode 0600
        self._upload(upload, content, 0o600 if sudo else mode)
        try:
            if sudo:
                user, _, group = owner.partition(":")
                beside = str(target.with_name(mark))
                place = ("install", "-m", f"{mode:04o}", "-o", user, "-g", group or user, upload, beside)
                self.run(place, sudo=True)
                self.run(("mv", "-f", "--", beside, path), sudo=True)
            else:
                self.run(("mv", "-f", "--", upload, path))
        finally:
            if sudo:
                self.run(("rm", "-f", "--", upload), check=False)

    def read_clock(self) -> float:
        """Return the guest's time: seconds since 1970."""
        return float(self.run(("date", "+%s.%N"), timeout=30.0).text.strip())

    def _upload(self, path: str, content: bytes, mode: int) -> None:
        async def put() -> None:
            async with self._connection.start_sftp_client() as sftp:
                async with sftp.open(path, "wb", asyncssh.SFTPAttrs(permissions=mode)) as file:
                    await file.write(content)
                await sftp.chmod(path, mode)

        try:
            loop.call(put(), timeout=self._access.clock.real(COMMAND_DEADLINE) + len(content) / _SLOWEST)
        except (asyncssh.Error, OSError) as exc:
            raise StepFailed(
                f"{self.name}: expected {path} to be written by SFTP, got: {exc or type(exc).__name__}",
                next_step=f"look at the free room of {self.name} (df -h), then run again",
            ) from exc


def connect(lab: Lab, access: Access, machine: Machine) -> Shell:
    """Log in to a VM; a host key that is not known yet is read through the Proxmox guest agent before.

    Raises:
        HostKeyChanged: the guest showed another host key than the known one.
        SystemDown: it cannot be reached, or refuses the login.
    """
    known = known_hosts_file(access.state)
    if not read_host_keys(known, machine.name):
        from labkit.systems.proxmox.hostkeys import learn_host_key  # noqa: PLC0415  # it imports this module

        learn_host_key(lab, access, machine)
    return log_in(
        access,
        host=str(machine.address),
        user=lab.guests.user,
        key=private_key(lab, access),
        host_keys=read_host_keys(known, machine.name),
        name=machine.name,
    )


def log_in(
    access: Access,
    *,
    host: str,
    user: str,
    key: asyncssh.SSHKey,
    host_keys: Sequence[str],
    name: str = "",
    port: int = PORT,
) -> Shell:
    """Log in with a key to a host whose host keys are known; `name` is for messages."""
    where = f"{name or host} ({user}@{host})"
    there, number = access.route(host, port)
    trusted = [asyncssh.import_public_key(text) for text in host_keys]
    limit = access.clock.real(CONNECT_DEADLINE, least=4.0)

    async def login() -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            there, number, username=user, client_keys=[key], agent_path=None, config=None,
            known_hosts=(trusted, [], []), connect_timeout=limit, login_timeout=limit,
            preferred_auth="publickey", keepalive_interval=30, encryption_algs=_CIPHERS,
        )  # fmt: skip

    try:
        connection = loop.call(login(), timeout=limit + 5)
    except asyncssh.HostKeyNotVerifiable as exc:
        raise HostKeyChanged(
            f"SSH {where}: expected the known host key, got another one",
            next_step=f"if the VM was made anew or its disk restored, remove {name or host} from "
            f"{known_hosts_file(access.state)}: the key is then read through the guest agent",
        ) from exc
    except asyncssh.PermissionDenied as exc:
        raise SystemDown(
            f"SSH {where}: expected to be let in with the key of guests.ssh_key, got: {exc}",
            next_step="look at ~/.ssh/authorized_keys there, or run provision-vms: it puts the key into cloud-init",
        ) from exc
    except (asyncssh.Error, OSError, TimeoutError) as exc:
        raise SystemDown(
            f"SSH {where}: expected a login, got: {_reason(exc)}",
            next_step="look whether the VM runs and has that address, and whether port 22 is open",
        ) from exc
    return Shell(name or host, connection, access)


def _reason(exc: Exception) -> str:
    """Say in plain words why there was no login."""
    if isinstance(exc, TimeoutError):
        return "no answer"
    if isinstance(exc, OSError) and exc.errno:
        return os.strerror(exc.errno).lower()
    return str(exc) or type(exc).__name__


def private_key(lab: Lab, access: Access) -> asyncssh.SSHKey:
    """Return the key that logs in to the guests.

    Raises:
        InputError: what the reference leads to is no private key in OpenSSH format, or has a passphrase.
    """
    return _import_key(access.secrets.resolve(lab.guests.ssh_key), lab.guests.ssh_key)


@functools.lru_cache(maxsize=8)
def _import_key(text: str, reference: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(text if text.endswith("\n") else text + "\n")
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as exc:
        locked = "passphrase" in str(exc).lower() or "encryption" in str(exc).lower()
        raise _bad_key(reference, "one with a passphrase" if locked else "something else") from exc


def _bad_key(reference: str, got: str) -> LabError:
    expected = "an OpenSSH private key without a passphrase"
    hint = "make one for labkit: ssh-keygen -t ed25519 -N '' -f FILE"
    return InputError([Mistake(reference, 0, 0, "guests.ssh_key", expected, got, hint)])


def public_key(lab: Lab, access: Access) -> str:
    """Return the public half of the key that logs in to the guests, as one line."""
    key = private_key(lab, access).convert_to_public()
    words = key.export_public_key("openssh").decode().split()
    return f"{words[0]} {words[1]} labkit@{lab.name}"


def _bytes(data: str | bytes | None) -> bytes:
    return data.encode() if isinstance(data, str) else data or b""
