"""Put k3s on a machine: its settings, its installer, its binary, and start it. Each part may be done again.

The unit is started by us, not by the installer: that would wait for ever for a server that does not answer, and it
does not start anything when it finds the binary of the same version there already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue

from labkit.errors import StepFailed
from labkit.lab import Lab, Machine
from labkit.lab.k3sconfig import render_config
from labkit.systems.access import Access, Step
from labkit.systems.guests import CONFIG, PROGRAM
from labkit.systems.k3s.airgap import SCRIPT, carry
from labkit.systems.k3s.diagnose import unit_name
from labkit.systems.ssh import Shell

SCRIPT_URL = "https://get.k3s.io"
_FOLDER = "/var/lib/labkit"
_DEADLINE = 900.0  # lab seconds: a slow line needs some minutes for the binary


def write_config(lab: Lab, access: Access, shell: Shell, config: Mapping[str, JsonValue]) -> None:
    """Write config.yaml with the lab's token, readable by root alone."""
    text = render_config(config, access.secrets.resolve(lab.k3s.token))
    shell.run(("install", "-d", "-m", "0755", "/etc/rancher/k3s"), sudo=True)
    shell.write_file(CONFIG, text.encode(), mode=0o600)


def install(
    lab: Lab, access: Access, shell: Shell, machine: Machine, *, version: str, step: Step, enable: bool = True
) -> None:
    """Install a version of k3s without starting it; `enable` is whether the next boot would start it.

    Raises:
        StepFailed: the installer or its download failed, or another version is there afterwards.
        InputError: a file is missing in `k3s.airgap_dir`.
    """
    shell.run(("install", "-d", "-m", "0700", _FOLDER), sudo=True)
    settings = [f"INSTALL_K3S_VERSION={version}", "INSTALL_K3S_SKIP_START=true"]
    if not enable:
        settings.append("INSTALL_K3S_SKIP_ENABLE=true")
    if lab.k3s.install == "airgap":
        carry(lab, access, shell, step)
        settings.append("INSTALL_K3S_SKIP_DOWNLOAD=true")
    else:
        step.say("fetches the installer")
        fetch = ("curl", "-sfL", "--retry", "3", "--max-time", "120", "-o", SCRIPT, SCRIPT_URL)
        done = shell.run(fetch, sudo=True, check=False, timeout=_DEADLINE)
        if done.status != 0:
            raise StepFailed(
                f"{machine.name}: expected the installer from {SCRIPT_URL}, got exit status {done.status} of curl",
                next_step="look at the guest's DNS and its way to the internet, or use k3s.install: airgap",
            )
    step.say(f"installs {version}")
    shell.run(("env", *settings, "sh", SCRIPT, machine.role), sudo=True, timeout=_DEADLINE)
    seen = installed_version(shell)
    if seen != version:
        where = f"put the files of {version} into {lab.k3s.airgap_dir}, then run again"
        look = "look at the output of the installer on the guest, then run again"
        raise StepFailed(f"{machine.name}: expected k3s {version} to be installed, got {seen or 'none'}",
                         next_step=where if lab.k3s.install == "airgap" else look)  # fmt: skip


def is_installed(shell: Shell, machine: Machine, version: str) -> bool:
    """Whether `install` has nothing left to do: that version is there, and a unit that takes no flags and settings."""
    place = f"/etc/systemd/system/{unit_name(machine)}.service"
    done = shell.run(("cat", "--", place, f"{place}.env"), sudo=True, check=False)
    return done.status == 0 and _is_plain(done.text, machine.role) and installed_version(shell) == version


def _is_plain(unit: str, role: str) -> bool:
    """Whether a unit, with its environment, starts k3s with what config.yaml says and nothing else."""
    command = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.MULTILINE)
    words = command[1].replace("\\\n", " ").split() if command else []
    return words == [PROGRAM, role] and not re.search(r"^(K3S|CONTAINERD)_", unit, re.MULTILINE)


def installed_version(shell: Shell) -> str:
    """Return the version of the binary on a machine; empty without one."""
    match = re.search(r"v\d+\.\d+\.\d+\+k3s\d+", shell.run((PROGRAM, "--version"), check=False).text)
    return match[0] if match else ""


def start(shell: Shell, machine: Machine) -> float:
    """Start or restart k3s without waiting for it; return the time by the guest's clock before."""
    began = shell.read_clock()
    unit = unit_name(machine)
    shell.run(("systemctl", "enable", unit), sudo=True)
    shell.run(("systemctl", "reset-failed", unit), sudo=True, check=False)
    shell.run(("systemctl", "restart", "--no-block", unit), sudo=True, timeout=300.0)
    return began
