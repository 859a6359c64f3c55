"""Flux's two secrets: as the lab's references give them, as the cluster has them, and the same hash for both."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncssh

from labkit.errors import InputError, Mistake
from labkit.facts.flux import NAMESPACE, SecretSeen
from labkit.gitssh import SshError, matching_keys
from labkit.lab import Lab
from labkit.redaction import remember
from labkit.systems.access import Access
from labkit.systems.githost import GitHost, git_host, known_hosts
from labkit.systems.repository.decrypt import public_keys

DEPLOY, AGE = "flux-system", "sops-age"
"""What the two are called when Git does not say otherwise."""
AGE_FILE = "age.agekey"
_SECOND = "labkit.agekey"


@dataclass(frozen=True)
class Wanted:
    """The values of both secrets, in clear; never leaves the systems."""

    identity: str
    public: str
    known_hosts: str
    age: str
    server: GitHost

    def deploy(self) -> dict[str, str]:
        """The data of the Secret that source-controller reads with."""
        return {"identity": self.identity, "identity.pub": self.public, "known_hosts": self.known_hosts}


def wanted_values(lab: Lab, access: Access) -> Wanted:
    """Resolve the deploy key and the age key, and the host keys of the Git server.

    Raises:
        InputError: a reference leads to none, or to something else.
        SystemDown: the Git server's host key is not known.
    """
    text = access.secrets.resolve(lab.git.deploy_key)
    identity = text if text.endswith("\n") else f"{text}\n"
    try:
        key = asyncssh.import_private_key(identity)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        expected = "a private key without a passphrase"
        raise InputError([Mistake(lab.git.deploy_key, 0, 0, "git.deploy_key", expected, "something else")]) from None
    public = key.convert_to_public().export_public_key("openssh").decode().split()
    age = access.secrets.resolve(lab.git.age_key)
    public_keys(age)
    return Wanted(identity, f"{public[0]} {public[1]}\n", known_hosts(lab, access), age, git_host(lab.git.url))


def wanted_seen(wanted: Wanted) -> tuple[SecretSeen, SecretSeen]:
    """Return both secrets as hashes: of the public halves, so that the form of a key does not matter."""
    deploy = {"identity": _hash(wanted.public), "identity.pub": _hash(wanted.public)}
    deploy["known_hosts"] = _hash_hosts(wanted.known_hosts, wanted.server)
    return SecretSeen(name=DEPLOY, keys=deploy), SecretSeen(name=AGE, keys={AGE_FILE: _hash_age(wanted.age)})


def seen_secret(item: Mapping[str, Any], wanted: Wanted) -> SecretSeen:
    """Return a Secret of the cluster as hashes that can be compared with those of `wanted_seen`."""
    name, data = str(item["metadata"]["name"]), {k: _clear(v) for k, v in (item.get("data") or {}).items()}
    keys = {key: _hash_of(key, value, wanted) for key, value in sorted(data.items())}
    return SecretSeen(name=name, type=str(item.get("type") or "Opaque"), keys=keys)


def _hash_of(key: str, value: str, wanted: Wanted) -> str:
    if key == "identity":
        return _hash(_public_half(value))
    if key == "identity.pub":
        return _hash(" ".join(value.split()[:2]) + "\n")
    if key == "known_hosts":
        mine, theirs = _hosts(wanted.known_hosts, wanted.server), _hosts(value, wanted.server)
        fits = bool(theirs) and theirs <= mine
        return _hash_hosts(wanted.known_hosts, wanted.server) if fits else _hash(value)
    if key.endswith(".agekey"):
        return _hash_age(wanted.age) if _recipients(wanted.age) <= _recipients(value) else _hash_age(value)
    return _hash(value)


def age_file(item: Mapping[str, Any] | None) -> str:
    """Return under which key the age key goes into a Secret: one that is there is never replaced."""
    return _SECOND if item is not None and AGE_FILE in (item.get("data") or {}) else AGE_FILE


def render_secret(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a Secret of Flux's namespace; its values are remembered for redaction."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    for key, value in data.items():
        if key != "known_hosts" and not key.endswith(".pub"):
            remember(value)
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "namespace": NAMESPACE}, "data": data,
    }  # fmt: skip


def _clear(value: object) -> str:
    try:
        return base64.b64decode(str(value or "")).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _public_half(private: str) -> str:
    try:
        public = asyncssh.import_private_key(private).convert_to_public().export_public_key("openssh").decode()
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        return ""
    return " ".join(public.split()[:2]) + "\n"


def _hosts(text: str, server: GitHost) -> frozenset[str]:
    try:
        return frozenset(matching_keys(text, server.host, server.port))
    except SshError:
        return frozenset()


def _hash_hosts(text: str, server: GitHost) -> str:
    return _hash("\n".join(sorted(_hosts(text, server))))


def _recipients(text: str) -> frozenset[str]:
    try:
        return frozenset(public_keys(text))
    except InputError:
        return frozenset()


def _hash_age(text: str) -> str:
    return _hash("\n".join(sorted(_recipients(text))) or "no age key")
