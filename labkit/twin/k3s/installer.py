"""Acts out the install script: reads its environment, downloads, writes its files, starts the unit."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
from urllib.parse import quote

from labkit.twin.guests.commands.registry import Run, script
from labkit.twin.guests.result import Result
from labkit.twin.guests.ssh import drop_connections
from labkit.twin.guests.units import UnitError
from labkit.twin.k3s import places
from labkit.twin.k3s.host import Host
from labkit.twin.k3s.hosts import host_of
from labkit.twin.k3s.places import UNITS, Role
from labkit.twin.k3s.script import MARKER, binary, stub, unit_text

STABLE = "v1.33.4+k3s1"
"""What the channel `stable` names."""
_RELEASES = "https://github.com/k3s-io/k3s/releases/download"
_LINKS = ("kubectl", "crictl", "ctr")
_KEPT = re.compile(r"K3S_|CONTAINERD_|(HTTPS?|NO|ALL)_PROXY$|(https?|no|all)_proxy$")


class _InstallError(Exception):
    """The text behind [ERROR]."""


@script(MARKER)
async def act(run: Run) -> Result:
    """Run the installer on a guest."""
    host = host_of(run.guest)
    if host is None:
        return Result(1, b"", b"[ERROR]  Download failed\n")
    installer = Installer(host, run.args, run.env)
    try:
        await installer.run()
    except _InstallError as exc:
        return Result(1, installer.said(), installer.complained() + f"[ERROR]  {exc}\n".encode())
    except UnitError:
        name = f"{UNITS[installer.role]}.service"
        text = (f"Job for {name} failed because the control process exited with error code.\n"
                f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.\n')  # fmt: skip
        return Result(1, installer.said(), text.encode())
    except OSError as exc:
        return Result(1, installer.said(), f"sh: {exc.filename}: {exc.strerror}\n".encode())
    return Result(0, installer.said(), installer.complained())


class Installer:
    """One run of the install script."""

    def __init__(self, host: Host, arguments: list[str], environment: dict[str, str]) -> None:
        self._host = host
        self._guest = host.guest
        self._env = environment
        self._lines: list[str] = []
        self._warnings: list[str] = []
        words = [*shlex.split(environment.get("INSTALL_K3S_EXEC", "")), *arguments]
        named = bool(words) and words[0] in {"server", "agent"}
        self.role: Role = "agent" if (words[0] == "agent" if named else environment.get("K3S_URL")) else "server"
        self._named = named
        self._arguments = words[1:] if named else words

    def said(self) -> bytes:
        """Return what it wrote to standard output."""
        return "".join(f"[INFO]  {line}\n" for line in self._lines).encode()

    def complained(self) -> bytes:
        """Return what it wrote to standard error."""
        return "".join(f"[WARN]  {line}\n" for line in self._warnings).encode()

    async def run(self) -> None:
        """Do all that the script does; raise _InstallError, UnitError or OSError."""
        self._check()
        before = self._hashes()
        await self._bring_binary()
        self._make_links()
        if self._host.system.world.faults.strike("ssh-drops", self._guest.name):
            await self._be_cut_off()
        self._make_scripts()
        self._write_unit()
        self._host.follow_units()
        unit = self._host.service(self.role).unit
        if self._set("INSTALL_K3S_SKIP_ENABLE"):
            return
        self._lines.append(f"systemd: Enabling {UNITS[self.role]} unit")
        unit.enabled = True
        if self._set("INSTALL_K3S_SKIP_START"):
            return
        if before and before == self._hashes() and not self._set("INSTALL_K3S_FORCE_RESTART"):
            self._lines.append("No change detected so skipping service start")
            return
        self._lines.append(f"systemd: Starting {UNITS[self.role]}")
        await self._guest.units.stop(unit)
        await self._guest.units.start(unit)

    def _set(self, name: str) -> bool:
        return self._env.get(name, "").lower() == "true"

    def _check(self) -> None:
        url = self._env.get("K3S_URL", "")
        if url and not url.startswith("https://"):
            raise _InstallError(f"Only https:// URLs are supported for K3S_URL (have {url})")
        has_token = any(self._env.get(name) for name in ("K3S_TOKEN", "K3S_TOKEN_FILE", "K3S_CLUSTER_SECRET"))
        if self.role == "agent" and not self._named and not has_token:
            raise _InstallError("Defaulted k3s exec command to 'agent' because K3S_URL is defined, but K3S_TOKEN, "
                          "K3S_TOKEN_FILE or K3S_CLUSTER_SECRET is not defined.")  # fmt: skip

    async def _bring_binary(self) -> None:
        skipped = self._env.get("INSTALL_K3S_SKIP_DOWNLOAD", "")
        if skipped in {"true", "binary"}:
            files = self._guest.files
            if not files.exists(places.BINARY) or not files.mode(files.locate(places.BINARY)) & 0o111:
                raise _InstallError(f"Executable k3s binary not found at {places.BINARY}")
            return
        version = self._env.get("INSTALL_K3S_VERSION") or STABLE
        self._lines.append(f"Using {version} as release")
        folder = f"{_RELEASES}/{quote(version)}"
        self._lines.append(f"Downloading hash {folder}/sha256sum-amd64.txt")
        system = self._host.system
        if system.world.faults.strike("installer-download-fails") or not re.fullmatch(
            r"v\d+\.\d+\.\d+(-rc\d+)?\+k3s\d+", version
        ):
            raise _InstallError("Download failed")
        content = binary(version)
        if self._guest.files.exists(places.BINARY) and self._guest.files.read(places.BINARY) == content:
            self._lines.append("Skipping binary downloaded, installed k3s matches hash")
            return
        self._lines.append(f"Downloading binary {folder}/k3s")
        await system.world.clock.sleep(system.pace.k3s_download)
        if self._guest.files.is_full():
            self._warnings.append("curl: (23) Failure writing output to destination")
            raise _InstallError("Download failed")
        self._lines += ["Verifying binary download", f"Installing k3s to {places.BINARY}"]
        self._guest.files.write(places.BINARY, content, mode=0o755)

    def _make_links(self) -> None:
        for name in _LINKS:
            path = f"/usr/local/bin/{name}"
            if self._guest.files.exists(path):
                self._lines.append(f"Skipping {path} symlink to k3s, already exists")
            else:
                self._lines.append(f"Creating {path} symlink to k3s")
                self._guest.files.link("k3s", path)

    def _make_scripts(self) -> None:
        uninstall = "k3s-uninstall.sh" if self.role == "server" else "k3s-agent-uninstall.sh"
        for name, what in (("k3s-killall.sh", "killall"), (uninstall, "uninstall")):
            self._lines.append(f"Creating {what} script /usr/local/bin/{name}")
            self._guest.files.write(f"/usr/local/bin/{name}", stub(name).encode(), mode=0o755)

    async def _be_cut_off(self) -> None:
        """Lose the connection that this runs on: the script gets no further."""
        drop_connections(self._guest)
        task = asyncio.current_task()
        if task is not None:
            task.cancel()
        await asyncio.sleep(0)

    def _write_unit(self) -> None:
        name, files = UNITS[self.role], self._guest.files
        place = f"/etc/systemd/system/{name}.service"
        pairs = [f"{key}={shlex.quote(value)}" for key, value in sorted(self._env.items()) if _KEPT.match(key)]
        self._lines.append(f"env: Creating environment file {place}.env")
        files.write(f"{place}.env", "".join(f"{pair}\n" for pair in pairs).encode(), mode=0o600)
        self._lines.append(f"systemd: Creating service file {place}")
        files.write(place, unit_text(self.role, self._arguments).encode())

    def _hashes(self) -> list[str]:
        """Return the hashes of binary, unit and environment, of those that are there."""
        place, files = f"/etc/systemd/system/{UNITS[self.role]}.service", self._guest.files
        there = [path for path in (places.BINARY, place, f"{place}.env") if files.exists(path)]
        return [hashlib.sha256(files.read(path)).hexdigest() for path in there]
