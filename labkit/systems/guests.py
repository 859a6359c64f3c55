"""The guests over SSH: read all of them side by side, and give them what Longhorn needs.

A guest that does not answer is a fact, no error. Per guest: one login and a dozen plain commands, no shell script.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from labkit.errors import LabError, StepFailed
from labkit.facts.guests import Guest, GuestFacts, TokenForm, TokenState, VipManifest
from labkit.lab import Lab, Machine
from labkit.lab.k3sconfig import token_form, token_password
from labkit.lab.kubevip import parse_kube_vip
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.redaction import remember
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.k3s.kubeconfig import fingerprint
from labkit.systems.ssh import Shell

CONFIG = "/etc/rancher/k3s/config.yaml"
PROGRAM = "/usr/local/bin/k3s"
DATA = "/var/lib/rancher/k3s"
DATABASE = f"{DATA}/server/db/etcd"
SERVER_CA = f"{DATA}/server/tls/server-ca.crt"
AGENT_CA = f"{DATA}/agent/server-ca.crt"
TOKEN = f"{DATA}/server/token"
MANIFESTS = f"{DATA}/server/manifests"
KUBE_VIP = f"{MANIFESTS}/kube-vip.yaml"
RESTORE = "/var/lib/labkit/etcd-restore.json"
"""What restore-etcd notes on a server."""
_ASKED_FOR = ("open-iscsi", "nfs-common")
_MODULES_FILE = "/etc/modules-load.d/labkit.conf"
_SECRET_KEYS = frozenset({"token", "agent-token", "etcd-s3-access-key", "etcd-s3-secret-key", "datastore-endpoint",
                          "vpn-auth"})  # fmt: skip
_SIDE_BY_SIDE = 16
_INSTALL_DEADLINE = 600.0


def read_guests(lab: Lab, access: Access) -> GuestFacts:
    """Return what SSH shows of every machine of the lab, side by side."""
    token = lab_token(lab, access)
    with ThreadPoolExecutor(max_workers=min(_SIDE_BY_SIDE, len(lab.machines))) as pool:
        guests = tuple(pool.map(lambda machine: read_guest(lab, access, machine, token), lab.machines))
    form = TokenForm.MISSING if token is None else TokenForm(token_form(token))
    from labkit.systems.k3s.airgap import read_airgap  # noqa: PLC0415  # it imports this module

    return GuestFacts(guests=guests, token=form, airgap=read_airgap(lab, access), read_at=datetime.now(UTC))


def lab_token(lab: Lab, access: Access) -> str | None:
    """Return the cluster token of the lab, or None when its reference leads nowhere."""
    return None if access.secrets.check(lab.k3s.token) else access.secrets.resolve(lab.k3s.token)


def read_guest(lab: Lab, access: Access, machine: Machine, token: str | None) -> Guest:
    """Return what SSH shows of one machine."""
    nothing = Guest(name=machine.name, address=str(machine.address))
    try:
        with ssh.connect(lab, access, machine) as shell:
            return nothing.model_copy(update=_read(shell, token) | {"reachable": True, "host_key": "ok"})
    except ssh.HostKeyChanged as exc:
        return nothing.model_copy(update={"host_key": "wrong", "problem": exc.message})
    except LabError as exc:
        reason = exc.message.partition(": expected a login, got: ")[2]
        return nothing.model_copy(update={"problem": reason or exc.message})


def _read(shell: Shell, token: str | None) -> dict[str, Any]:
    before = time.time()
    clock = shell.read_clock()
    after = time.time()
    answers: dict[str, Any] = {name: parse(_say(shell, *words)) for name, words, parse in _QUESTIONS}
    return {
        "clock_offset": round(clock - (before + after) / 2, 3),
        "clock_error": round((after - before) / 2, 3),
        **answers,
        "addresses": tuple(answers["interfaces"]),
        **_read_k3s(shell, token),
    }


def _say(shell: Shell, *words: str, sudo: bool = False) -> str:
    """What a command wrote; empty when it failed and wrote nothing, or is not there."""
    done = shell.run(words, sudo=sudo, check=False, timeout=60.0)
    return "" if done.status == 127 else done.text


def _memory(text: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _number(text: str) -> int:
    words = text.split()
    return int(words[-1]) if words and words[-1].isdecimal() else 0


def _modules(text: str) -> tuple[str, ...]:
    loaded = {line.split()[0] for line in text.splitlines()[1:] if line.strip()}
    return tuple(sorted(loaded & {"iscsi_tcp", "nfs", "nfsv4", "dm_crypt", "br_netfilter", "overlay"}))


def _ports(text: str) -> tuple[int, ...]:
    """The ports of `ss -Hltn` that are open beyond loopback."""
    fields = (line.split() for line in text.splitlines())
    local = (words[3] for words in fields if len(words) > 3)
    pairs = (address.rpartition(":") for address in local)
    return tuple(sorted({int(port) for host, _, port in pairs if port.isdecimal() and not _is_loopback(host)}))


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "[::1]")) or host == "::1"


def _interfaces(text: str) -> dict[str, str]:
    """Who has each IPv4 address of `ip -j addr`, without loopback and those that k3s gives to itself."""
    try:
        cards = json.loads(text or "[]")
    except ValueError:
        return {}
    own = (card for card in cards if not re.match(r"lo$|cni|flannel|veth|kube-", str(card.get("ifname", ""))))
    pairs = ((card, info) for card in own for info in card.get("addr_info") or ())
    return {str(info["local"]): str(card["ifname"]) for card, info in pairs if info.get("family") == "inet"}


def _units(text: str) -> dict[str, str]:
    return dict(zip(("k3s", "k3s-agent"), text.split(), strict=False))


_QUESTIONS: tuple[tuple[str, tuple[str, ...], Callable[[str], object]], ...] = (
    ("arch", ("uname", "-m"), str.strip),
    ("memory", ("cat", "/proc/meminfo"), _memory),
    ("disk_free", ("df", "-B1", "--output=avail", "/"), _number),
    ("modules", ("lsmod",), _modules),
    ("ports", ("ss", "-Hltn"), _ports),
    ("interfaces", ("ip", "-j", "addr"), _interfaces),
    ("units", ("systemctl", "is-active", "k3s", "k3s-agent"), _units),
)


def _read_k3s(shell: Shell, token: str | None) -> dict[str, Any]:
    """What there is of k3s: one question for all files, then only those that are there."""
    wanted = (PROGRAM, CONFIG, DATABASE, SERVER_CA, AGENT_CA, TOKEN, KUBE_VIP, RESTORE)
    there = set(_say(shell, "ls", "-d", "--", *wanted, sudo=True).split())

    def read(path: str) -> str:
        return shell.read_file(path, sudo=True).decode("utf-8", "replace") if path in there else ""

    config, config_token = _parse_config(read(CONFIG)) if CONFIG in there else (None, "")
    return {
        "packages": _packages(shell),
        "version": _version(_say(shell, PROGRAM, "--version")) if PROGRAM in there else "",
        "config": config,
        "config_token": compare_tokens(config_token, token),
        "server_token": compare_tokens(read(TOKEN).strip(), token),
        "server_db": DATABASE in there,
        "cluster_ca": fingerprint(read(SERVER_CA) or read(AGENT_CA)),
        "kube_vip": VipManifest(**parse_kube_vip(read(KUBE_VIP))) if KUBE_VIP in there else None,
        "restoring": _restoring(read(RESTORE)),
    }


def _restoring(text: str) -> bool:
    """Whether a restore of etcd was begun on a server, or has stopped it, and has not come to its end."""
    try:
        note = json.loads(text or "{}")
    except ValueError:
        return False
    stage, role = str(note.get("stage")), str(note.get("role"))
    return role == "stopped" or (role == "restored" and stage != "finished")


def _packages(shell: Shell) -> dict[str, str] | None:
    done = shell.run(("dpkg-query", "-W", "-f", r"${Package}\t${db:Status-Status}\t${Version}\n", *_ASKED_FOR),
                     check=False)  # fmt: skip
    if done.status == 127:
        return None
    rows = (line.split("\t") for line in done.text.splitlines())
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def _version(text: str) -> str:
    match = re.search(r"v\d+\.\d+\.\d+\+k3s\d+", text)
    return match[0] if match else ""


def _parse_config(text: str) -> tuple[dict[str, Any], str]:
    """The settings without secrets, and the token; what is no YAML mapping counts as empty."""
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        document = None
    settings = document if isinstance(document, dict) else {}
    secret = str(settings.get("token") or "")
    plain = json.loads(json.dumps({k: v for k, v in settings.items() if k not in _SECRET_KEYS}, default=str))
    return plain, secret


def compare_tokens(seen: str, wanted: str | None) -> TokenState:
    """Say whether a token that was seen is the lab's, whatever form each has."""
    if not seen:
        return TokenState.NONE
    remember(seen)
    remember(token_password(seen))
    if wanted is None:
        return TokenState.UNKNOWN
    return TokenState.SAME if token_password(seen) == token_password(wanted) else TokenState.OTHER


def apply_guest(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Install the packages, load the kernel modules and fetch the k3s that a change of `plan_k3s` names.

    Raises:
        StepFailed: a package, a module or k3s is still not there.
    """
    packages = _words(change.after.get("packages"))
    modules = _words(change.after.get("modules"))
    version = str(change.after.get("k3s") or "")
    machine = resolve_machine(lab, change.target)
    with ssh.connect(lab, access, machine) as shell:
        if packages:
            step.say(f"installs {', '.join(packages)}")
            _install(shell, packages)
        if modules:
            step.say(f"loads {', '.join(modules)}")
            _load(shell, modules)
        left = _left(shell, packages, modules)
        if version and not left:
            from labkit.systems.k3s.install import install  # noqa: PLC0415  # it imports this module

            install(lab, access, shell, machine, version=version, step=step, enable=False)
    if left:
        raise StepFailed(f"guest {change.target}: expected {', '.join(left)} after installing it, got none",
                         next_step=f"log in to {change.target} and install it by hand")  # fmt: skip
    return f"{', '.join([*packages, *modules, *([f'k3s {version}'] if version else [])])} there"


def _left(shell: Shell, packages: Sequence[str], modules: Sequence[str]) -> list[str]:
    """Which packages and modules are still not there."""
    missing = [name for name in packages if name not in (_packages(shell) or {})] if packages else []
    return missing + ([name for name in modules if name not in _modules(_say(shell, "lsmod"))] if modules else [])


def _words(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def _install(shell: Shell, packages: Sequence[str]) -> None:
    """Install packages; cloud-init and unattended upgrades may hold the lock for a while."""
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300")
    shell.run((*apt, "update"), sudo=True, timeout=_INSTALL_DEADLINE)
    shell.run((*apt, "install", "--no-install-recommends", *packages), sudo=True, timeout=_INSTALL_DEADLINE)


def _load(shell: Shell, modules: Sequence[str]) -> None:
    shell.run(("modprobe", "-a", "--", *modules), sudo=True)
    text = "# Kept by labkit: what Longhorn needs.\n" + "".join(f"{name}\n" for name in modules)
    shell.run(("tee", _MODULES_FILE), sudo=True, stdin=text.encode())
