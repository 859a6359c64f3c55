"""What the health report wants to know of the guests: one login and one command on each, side by side.

The command is a fixed line of shell: it prints a mark before each of its answers, and an answer that is not to be
had stays empty. A guest that does not answer is a fact, no error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from labkit.errors import LabError
from labkit.facts.guesthealth import FileSystem, GuestHealth, GuestHealthFacts, NodeCertificate, UnitState
from labkit.lab import Lab, Machine
from labkit.systems import ssh
from labkit.systems.access import Access
from labkit.systems.ssh import Shell

DATA = "/var/lib/rancher/k3s"
_SIDE_BY_SIDE = 32
_DEADLINE = 60.0
_MARK = "=#= "
_UNITS = "k3s k3s-agent qemu-guest-agent"
_SERVER = ("client-admin client-auth-proxy client-controller client-k3s-cloud-controller client-k3s-controller "
           "client-kube-apiserver client-kube-proxy client-scheduler client-supervisor serving-kube-apiserver "
           "etcd/client etcd/peer-server-client etcd/server-client "
           "kube-controller-manager/kube-controller-manager kube-scheduler/kube-scheduler")  # fmt: skip
_AGENT = "client-k3s-controller client-kube-proxy client-kubelet serving-kubelet"
_FILES = " ".join([*(f"{DATA}/server/tls/{name}.crt" for name in _SERVER.split()),
                   *(f"{DATA}/agent/{name}.crt" for name in _AGENT.split())])  # fmt: skip
_QUESTIONS = {
    "began": "date +%s.%N",
    "kernel": "uname -r",
    "uptime": "cat /proc/uptime",
    "memory": "cat /proc/meminfo",
    "space": "df -B1 --output=target,size,used,avail,itotal,iused / /var/lib/rancher /var/lib/longhorn",
    "options": "findmnt -no OPTIONS /",
    "failed": "systemctl list-units --state=failed --plain --no-legend --no-pager",
    "units": f"systemctl show -p Id,ActiveState,NRestarts {_UNITS}",
    "synchronized": "timedatectl show -p NTPSynchronized --value",
    "k3s": "/usr/local/bin/k3s --version",
    "reboot": "stat -c %Y /var/run/reboot-required",
    "reboot_for": "cat /var/run/reboot-required.pkgs",
    "certificates": f"head -v -c 8192 {_FILES}",
    "ended": "date +%s.%N",
}
COMMAND = "; ".join(f"echo '{_MARK}{name}'; {command} 2>/dev/null" for name, command in _QUESTIONS.items())


def read_guest_health(lab: Lab, access: Access) -> GuestHealthFacts:
    """Return what one command shows of every machine of the lab, side by side."""
    with ThreadPoolExecutor(max_workers=min(_SIDE_BY_SIDE, len(lab.machines))) as pool:
        guests = tuple(pool.map(lambda machine: read_one(lab, access, machine), lab.machines))
    return GuestHealthFacts(guests=guests, read_at=datetime.now(UTC))


def read_one(lab: Lab, access: Access, machine: Machine) -> GuestHealth:
    """Return what one machine shows."""
    nothing = GuestHealth(name=machine.name, address=str(machine.address))
    try:
        with ssh.connect(lab, access, machine) as shell:
            return nothing.model_copy(update=_ask(shell) | {"reachable": True, "host_key": "ok"})
    except ssh.HostKeyChanged as exc:
        return nothing.model_copy(update={"host_key": "wrong", "problem": exc.message})
    except LabError as exc:
        reason = exc.message.partition(": expected a login, got: ")[2]
        return nothing.model_copy(update={"problem": reason or exc.message})


def _ask(shell: Shell) -> dict[str, Any]:
    before = time.time()
    text = shell.run(("sh", "-c", COMMAND), sudo=True, timeout=_DEADLINE).text
    answers = split(text)
    return parse(answers) | _clock(answers, before, time.time())


def split(text: str) -> dict[str, str]:
    """Return the answers by the names of their questions."""
    parts = (part.partition("\n") for part in ("\n" + text).split("\n" + _MARK)[1:])
    return {name.strip(): answer for name, _, answer in parts}


def _clock(answers: Mapping[str, str], before: float, after: float) -> dict[str, Any]:
    """Compare clocks: the command began after `before` and ended before `after`, whatever it took itself."""
    try:
        began, ended = float(answers.get("began", "")), float(answers.get("ended", ""))
    except ValueError:
        return {}
    most, least = began - before, ended - after
    return {"clock_offset": round((most + least) / 2, 3), "clock_error": round(max(0.0, most - least) / 2, 3)}


def parse(answers: Mapping[str, str]) -> dict[str, Any]:
    """Read the answers of a guest; what is missing stays at its default."""
    return {name: value for name, (question, read) in _READERS.items()
            if (value := read(answers.get(question, ""))) is not None}  # fmt: skip


def _seconds(text: str) -> float | None:
    match = re.match(r"[\d.]+", text)
    return float(match[0]) if match else None


def _kilobytes(name: str) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
        return int(match[1]) * 1024 if match else None

    return read


def _file_systems(text: str) -> tuple[FileSystem, ...]:
    """Read the lines of `df`, a file system that holds several of the folders once."""
    found: dict[str, FileSystem] = {}
    for words in (line.split() for line in text.splitlines()[1:]):
        if len(words) == 6:
            numbers = [int(word) if word.isdecimal() else 0 for word in words[1:]]
            keys = ("total", "used", "free", "inodes", "inodes_used")
            found[words[0]] = FileSystem(target=words[0], **dict(zip(keys, numbers, strict=True)))
    return tuple(found.values())


def _failed(text: str) -> tuple[str, ...]:
    names = (line.replace("●", " ").split() for line in text.splitlines())
    return tuple(sorted(words[0].removesuffix(".service") for words in names if words))


def _units(text: str) -> dict[str, UnitState]:
    found = {}
    for block in text.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if name := values.get("Id", "").removesuffix(".service"):
            restarts = values.get("NRestarts", "0")
            found[name] = UnitState(state=values.get("ActiveState") or "inactive",
                                    restarts=int(restarts) if restarts.isdecimal() else 0)  # fmt: skip
    return found


def _version(text: str) -> str | None:
    match = re.search(r"v\d+\.\d+\.\d+\+k3s\d+", text)
    return match[0] if match else None


def _moment(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text.strip().isdecimal() else None


def _certificates(text: str) -> tuple[NodeCertificate, ...]:
    """Read what `head -v` printed: the first certificate of each file is the one that ends, its CA follows."""
    found = []
    for part in re.split(r"^==> ", text, flags=re.MULTILINE)[1:]:
        path, _, pem = part.partition(" <==\n")
        try:
            expires = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
        except ValueError:
            continue
        found.append(NodeCertificate(file=path.removeprefix(f"{DATA}/"), expires=expires))
    return tuple(found)


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "kernel": ("kernel", str.strip),
    "uptime": ("uptime", _seconds),
    "memory": ("memory", _kilobytes("MemTotal")),
    "memory_free": ("memory", _kilobytes("MemAvailable")),
    "file_systems": ("space", _file_systems),
    "read_only": ("options", lambda text: "ro" in text.strip().split(",")),
    "failed_units": ("failed", _failed),
    "units": ("units", _units),
    "synchronized": ("synchronized", lambda text: {"yes": True, "no": False}.get(text.strip())),
    "k3s_version": ("k3s", _version),
    "reboot_since": ("reboot", _moment),
    "reboot_for": ("reboot_for", lambda text: tuple(dict.fromkeys(text.split()))),
    "certificates": ("certificates", _certificates),
}
