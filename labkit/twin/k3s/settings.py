"""What k3s makes of its flags, its environment, /etc/rancher/k3s/config.yaml and the drop-ins beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from labkit.twin.guests.files import Files
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.places import CONFIG

Values = dict[str, tuple[str, ...]]

_FLAGS = frozenset({
    "cluster-init", "cluster-reset", "debug", "disable-cloud-controller", "disable-helm-controller",
    "disable-kube-proxy", "disable-network-policy", "disable-scheduler", "docker", "embedded-registry",
    "etcd-disable-snapshots", "etcd-expose-metrics", "etcd-s3", "etcd-snapshot-compress", "flannel-external-ip",
    "flannel-ipv6-masq", "kine-tls", "prefer-bundled-bin", "protect-kernel-defaults", "rootless", "secrets-encryption",
    "selinux", "supervisor-metrics", "tls-san-security", "with-node-id",
})  # fmt: skip
_SHORT = {"-t": "token", "-s": "server", "-i": "node-ip", "-c": "config", "-d": "data-dir"}
_SAME = {"no-deploy": "disable", "etcd-snapshot-dir": "etcd-snapshot-dir"}
_SPLIT = frozenset({"disable", "tls-san", "node-ip", "cluster-cidr", "service-cidr", "cluster-dns"})
"""Flags whose value may be several with commas between."""
_ENVIRONMENT = {
    "K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_AGENT_TOKEN": "agent-token",
    "K3S_AGENT_TOKEN_FILE": "agent-token-file", "K3S_URL": "server", "K3S_CLUSTER_INIT": "cluster-init",
    "K3S_NODE_NAME": "node-name", "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode", "K3S_DATASTORE_ENDPOINT":
    "datastore-endpoint", "K3S_CONFIG_FILE": "config",
}  # fmt: skip
CRITICAL = {
    "agent-token": "", "cluster-cidr": "10.42.0.0/16", "cluster-dns": "10.43.0.10", "cluster-domain": "cluster.local",
    "disable-cloud-controller": "false", "disable-helm-controller": "false", "disable-network-policy": "false",
    "egress-selector-mode": "agent", "embedded-registry": "false", "flannel-backend": "vxlan",
    "flannel-external-ip": "false", "flannel-ipv6-masq": "false", "secrets-encryption": "false",
    "secrets-encryption-provider": "aescbc", "service-cidr": "10.43.0.0/16",
}  # fmt: skip
"""Settings that all servers must share, with their defaults; beside them whether servicelb is disabled."""


@dataclass(frozen=True)
class Settings:
    """All settings of one start, by the names of the flags; every value is a list of texts."""

    values: Mapping[str, tuple[str, ...]]

    def one(self, key: str, default: str = "") -> str:
        """Return a value that can be there once: the last one given."""
        found = self.values.get(key)
        return found[-1] if found else default

    def all(self, key: str) -> tuple[str, ...]:
        """Return a value that can be there several times."""
        found = self.values.get(key, ())
        if key not in _SPLIT:
            return found
        return tuple(part.strip() for text in found for part in text.split(",") if part.strip())

    def on(self, key: str) -> bool:
        """Tell whether a flag is set."""
        return self.one(key, "false").lower() in {"true", "1", "t", ""}

    @property
    def disabled(self) -> frozenset[str]:
        """The packaged components that are left out."""
        return frozenset(self.all("disable"))

    def critical(self) -> dict[str, str]:
        """Return what all servers of a cluster must share."""
        found = {key: ",".join(self.all(key)) or default for key, default in CRITICAL.items()}
        return found | {"disable=servicelb": str("servicelb" in self.disabled).lower()}


def read_settings(files: Files, arguments: Iterable[str], environment: Mapping[str, str]) -> Settings:
    """Read all sources: the environment counts least, then the file and its drop-ins, then flags.

    Raises:
        Fatal: a source cannot be read.
    """
    flags = _read_flags(list(arguments))
    values = {name: (environment[key],) for key, name in _ENVIRONMENT.items() if environment.get(key)}
    path = (flags.get("config") or values.get("config") or (CONFIG,))[-1]
    settings = Settings(values | _read_files(files, path) | flags)
    return Settings({**settings.values, **dict(_token_files(files, settings))})


def _token_files(files: Files, settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key in ("token", "agent-token"):
        path = settings.one(f"{key}-file")
        if path and not settings.one(key):
            if not files.exists(path):
                raise Fatal(f"open {path}: no such file or directory")
            yield key, (files.read(path).decode().strip(),)


def _read_flags(words: list[str]) -> Values:
    found: dict[str, list[str]] = {}
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if not word.startswith("-"):
            continue
        name, equals, value = word.partition("=")
        key = _SHORT.get(name, name.lstrip("-"))
        if not equals:
            takes = key not in _FLAGS and waiting and not waiting[-1].startswith("-")
            value = waiting.pop() if takes else "true"
        found.setdefault(_SAME.get(key, key), []).append(value)
    return {key: tuple(items) for key, items in found.items()}


def _read_files(files: Files, path: str) -> Values:
    found: dict[str, tuple[str, ...]] = {}
    for name in [path, *_drop_ins(files, f"{path}.d")]:
        if not files.exists(name):
            continue
        for key, value in _load(name, files.read(name).decode("utf-8", "replace")).items():
            texts = tuple(_text(item) for item in (value if isinstance(value, list) else [value]))
            if key.endswith("+"):
                found[key[:-1]] = found.get(key[:-1], ()) + texts
            else:
                found[key] = texts
    return found


def _drop_ins(files: Files, folder: str) -> list[str]:
    if not files.is_dir(folder):
        return []
    names = sorted(entry.name for entry in files.locate(folder).iterdir())
    return [f"{folder}/{name}" for name in names if name.endswith((".yaml", ".yml"))]


def _load(path: str, text: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise Fatal(f"failed to load {path}: yaml: {' '.join(str(exc).split())}") from exc
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Fatal(f"failed to load {path}: yaml: unmarshal errors: cannot unmarshal into a map of settings")
    return {str(key): value for key, value in document.items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def kubeconfig_mode(settings: Settings) -> int:
    """Return the mode of the kubeconfig: octal digits, so that an unquoted 0644 (which is 420) becomes odd."""
    text = settings.one("write-kubeconfig-mode")
    if not text:
        return 0o600
    if not re.fullmatch(r"[0-7]+", text):
        raise Fatal(f'failed to parse mode "{text}": strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text, 8) & 0o777
