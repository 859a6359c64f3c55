"""The content of etcd as a file: all objects of a cluster, and its certificates sealed with the token.

As in a real snapshot, whole blocks of 512 bytes are followed by their SHA-256, and the key of the sealed certificates
ends with the beginning of the token's hash. A compressed one is a zip archive with the one file in it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import zipfile
import zlib
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.pki import Pki
from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.deletion import CRDS
from labkit.twin.kube.door import Clock

OTHER_TOKEN = "bootstrap data already found and encrypted with different token"  # noqa: S105  # a message
_PREFIX = "Error: preparing server: start managed database: "
_MISSING = f"{_PREFIX}snapshot missing hash but --skip-hash-check=false"
_BLOCK, _SUM = 512, hashlib.sha256().digest_size
_ROUNDS, _SALT = 4096, 8
Content = dict[str, Any]


def seal(pki: Pki, password: str) -> str:
    """Encrypt the CAs of a cluster with its token: without that a copy of the data is worthless."""
    salt, nonce = os.urandom(_SALT), os.urandom(12)
    sealed = AESGCM(_key(password, salt)).encrypt(nonce, json.dumps(pki.plain()).encode(), None)
    return base64.b64encode(salt + nonce + sealed).decode()


def unseal(text: str, password: str) -> Pki:
    """Decrypt the CAs of a cluster; raise Fatal when the token is another one."""
    data = base64.b64decode(text)
    salt, nonce, sealed = data[:_SALT], data[_SALT : _SALT + 12], data[_SALT + 12 :]
    try:
        plain = AESGCM(_key(password, salt)).decrypt(nonce, sealed, None)
    except InvalidTag as exc:
        raise Fatal(OTHER_TOKEN) from exc
    return Pki(**json.loads(plain))


def token_hash(password: str) -> str:
    """Return the beginning of a token's hash, as annotations of snapshots have it."""
    return hashlib.sha256(password.encode()).hexdigest()[:12]


def dump_core(core: Core) -> Content:
    """Return all objects of a cluster as plain data."""
    objects = {
        key: [record.object for record in shelf.select()] for key, shelf in core.store.shelves.items() if shelf.records
    }
    return {"revision": core.store.revision, "objects": objects}


def load_core(content: Content, clock: Clock, *, seed: int, service_cidr: str) -> Core:
    """Make the objects of a cluster from what `dump_core` gave; they keep their uids and dates."""
    core = new_core(clock, seed=seed, service_cidr=service_cidr)
    for key, shelf in list(core.store.shelves.items()):
        for record in list(shelf.select()):
            core.store.remove(key, record)
    core.store.revision = max(core.store.revision, int(content["revision"]))
    objects: dict[str, list[Any]] = content["objects"]
    for key in sorted(objects, key=lambda key: key != CRDS):
        for item in objects[key]:
            core.store.put(key, clone(item))
    return core


def write_snapshot(content: Content, *, password: str, compress: str = "") -> bytes:
    """Return a snapshot as the bytes of its file.

    Args:
        content: what `Cluster.content` gave.
        password: the token, whose hash stands in the name of the key of the certificates.
        compress: the name of the file in a zip archive; not compressed when empty.
    """
    key = {"key": f"/bootstrap/{token_hash(password)}"}
    data = json.dumps({**key, **content}, separators=(",", ":")).encode()
    data += b" " * (-len(data) % _BLOCK)
    data += hashlib.sha256(data).digest()
    if not compress:
        return data
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(compress, data)
    return packed.getvalue()


def read_snapshot(data: bytes) -> Content:
    """Read the bytes of a snapshot's file; raise Fatal when they are none, or damaged."""
    data = _unpack(data) if data[:2] == b"PK" else data
    if len(data) % _BLOCK != _SUM:
        raise Fatal(_MISSING)
    body, there = data[:-_SUM], data[-_SUM:]
    if (made := hashlib.sha256(body).digest()) != there:
        raise Fatal(f"{_PREFIX}expected sha256 {_numbers(there)}, got {_numbers(made)}")
    try:
        content = json.loads(body)
    except ValueError as exc:
        raise Fatal(f"{_PREFIX}invalid database") from exc
    if not isinstance(content, dict) or not {"revision", "objects", "bootstrap"} <= set(content):
        raise Fatal(f"{_PREFIX}invalid database")
    return content


def _unpack(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.read(archive.namelist()[0])
    except (zipfile.BadZipFile, zlib.error, IndexError, OSError, EOFError) as exc:
        raise Fatal(f"{_PREFIX}zip: not a valid zip file") from exc


def _numbers(digest: bytes) -> str:
    """Write bytes as Go prints them."""
    return f"[{' '.join(map(str, digest))}]"


def _key(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha1", password.encode(), salt, _ROUNDS, 32)
