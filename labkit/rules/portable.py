"""A lab file that works inside a pod: secrets from one Secret, certificates and kubeconfig from mounted files. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.lab import Lab
from labkit.lab.loader import dump_lab
from labkit.lab.references import walk_references

CONFIG = "/etc/labkit/config"
SECRETS = "/etc/labkit/secrets"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
KUBECONFIG = "kubeconfig"
_FILES = (("proxmox", "tls", "ca"), ("nas", "tls", "ca"), ("git", "known_hosts"))
"""Files of a lab that are no secrets, and go along; what stands under known_hosts may be no file but a text."""


@dataclass(frozen=True)
class SecretKey:
    """One key of the Secret: where the lab file has it from, and whether it is a variable or a file there."""

    key: str
    reference: str
    where: str
    variable: bool


@dataclass(frozen=True)
class PortableLab:
    """A lab for a pod.

    Attributes:
        text: of the lab file.
        keys: what its Secret must hold.
        texts: of the files that go along, by their names in the pod.
    """

    text: str
    keys: tuple[SecretKey, ...]
    texts: Mapping[str, str] = field(default_factory=dict)


def files_of(lab: Lab) -> tuple[tuple[str, str], ...]:
    """Return the files of a lab that are no secrets and go along: their places in the lab file, and their paths."""
    tree = lab.model_dump(mode="json")
    return tuple((".".join(place), str(path)) for place in _FILES if (path := _look(tree, place)))


def make_portable(lab: Lab, files: Mapping[str, str], *, reads_only: bool, inside: bool) -> PortableLab:
    """Return the lab for a pod.

    Args:
        lab: as the lab file has it.
        files: the texts of files that go along, by their paths on this machine.
        reads_only: whether the runbook writes nothing: then it gets no token that writes where one reads.
        inside: whether the pod runs in this lab's own cluster, and its service account opens the API.
    """
    tree: dict[str, Any] = lab.model_dump(mode="json")
    keys: dict[str, SecretKey] = {}
    for where, reference in walk_references(lab):
        if reads_only and where == "proxmox.token.secret" and lab.proxmox.read_token is not None:
            continue
        keys.setdefault(reference, _key(reference, where))
    texts: dict[str, str] = {}
    for place in _FILES:
        name = "-".join(place)
        if (text := files.get(str(_look(tree, place)))) is not None:
            texts[name] = text
            _put(tree, place, f"{CONFIG}/{name}")
    if inside:
        tree["k3s"]["kubeconfig"] = f"{CONFIG}/{KUBECONFIG}"
    else:
        tree["k3s"]["kubeconfig"] = f"{SECRETS}/{KUBECONFIG}"
        said = f"a kubeconfig with a context {lab.name}, for a service account that only reads"
        keys[KUBECONFIG] = SecretKey(KUBECONFIG, said, "k3s.kubeconfig", variable=False)
    mapped = {one.reference: f"file:{SECRETS}/{one.key}" for one in keys.values() if not one.variable}
    moved = Lab.model_validate(_moved(tree, mapped))
    return PortableLab(dump_lab(moved), tuple(keys.values()), texts)


def kubeconfig(lab: str) -> dict[str, Any]:
    """Return a kubeconfig that names the pod's own service account: there is no secret in it."""
    cluster = {"server": "https://kubernetes.default.svc", "certificate-authority": f"{ACCOUNT}/ca.crt"}
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": lab,
        "clusters": [{"name": lab, "cluster": cluster}],
        "users": [{"name": lab, "user": {"tokenFile": f"{ACCOUNT}/token"}}],
        "contexts": [{"name": lab, "context": {"cluster": lab, "user": lab}}],
    }  # fmt: skip


def _key(reference: str, where: str) -> SecretKey:
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        return SecretKey(rest, reference, where, variable=True)
    return SecretKey(re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-"), reference, where, variable=False)


def _moved(value: Any, mapped: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item, mapped) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, mapped) for item in value]
    return mapped.get(value, value) if isinstance(value, str) else value


def _look(tree: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    found: Any = tree
    for part in place:
        found = (found or {}).get(part)
    return found


def _put(tree: dict[str, Any], place: tuple[str, ...], value: str) -> None:
    for part in place[:-1]:
        tree = tree[part]
    tree[place[-1]] = value
