"""A secret for every reference of the lab file: real keys where a key is wanted, made from the seed."""

from __future__ import annotations

import base64
import textwrap

import pyrage
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHPublicKeyTypes

from labkit.lab.models import Lab
from labkit.lab.references import walk_references
from labkit.twin.seed import Seed

_SSH_KEYS = ("guests.ssh_key", "git.deploy_key")
_TOKENS = ("proxmox.token.secret", "proxmox.read_token.secret")


def make_secrets(lab: Lab, seed: Seed, age_key: str = "") -> dict[str, str]:
    """Return a value for every reference text; one that stands in two places has one value.

    Args:
        lab: the lab.
        seed: what most of them are made from.
        age_key: the owner's own, in place of one that is made.
    """
    found = {lab.git.age_key: age_key} if age_key else {}
    for where, text in walk_references(lab):
        if text not in found:
            found[text] = _value(where, text, seed)
    return found


def _value(where: str, text: str, seed: Seed) -> str:
    if where in _SSH_KEYS:
        return ssh_private_key(seed.bytes("secret", text))
    if where == "git.age_key":
        return _age_key(text)
    if where == "nas.api_key":
        return f"1-{seed.hex('secret', text, length=64)}"
    if where in _TOKENS:
        return seed.uuid("secret", text)
    return seed.hex("secret", text)


def _age_key(text: str) -> str:
    identity = pyrage.x25519.Identity.generate()
    if not text.startswith("file:"):
        return str(identity)
    return f"# made by the twin\n# public key: {identity.to_public()}\n{identity}\n"


def ssh_private_key(secret: bytes) -> str:
    """Return an ed25519 private key in OpenSSH's format, made from 32 bytes; the same text every time."""
    private = Ed25519PrivateKey.from_private_bytes(secret)
    public = _public_line(private.public_key()).split()[1]
    blob = base64.b64decode(public)
    raw = private.public_key().public_bytes_raw()
    # cryptography's own writer has random check bytes, so the few fields are put together here.
    inner = secret[:4] * 2 + blob + _field(secret + raw) + _field(b"")
    inner += bytes(range(1, 1 + -len(inner) % 8))
    nothing = _field(b"none") + _field(b"none") + _field(b"")
    whole = b"openssh-key-v1\0" + nothing + (1).to_bytes(4, "big") + _field(blob) + _field(inner)
    text = "\n".join(textwrap.wrap(base64.b64encode(whole).decode(), 70))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n"


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _public_line(key: SSHPublicKeyTypes) -> str:
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def ssh_public_key(private: str, comment: str = "") -> str:
    """Return the public half of an OpenSSH private key as one line."""
    key = serialization.load_ssh_private_key(private.encode(), password=None)
    return f"{_public_line(key.public_key())} {comment}".strip()
