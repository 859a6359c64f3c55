"""The file of a snapshot of etcd: is it whole, with which token was it made, which k3s ran then. Pure.

A snapshot is whole blocks of 512 bytes with their SHA-256 behind them; k3s compresses it into a zip archive with one
member. The cluster's certificates lie in it under `/bootstrap/<the first 12 digits of the token's SHA-256>`, sealed
with the token: nothing comes back without it.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from dataclasses import dataclass

from labkit.facts.guests import TokenState
from labkit.lab.k3sconfig import token_password

_BLOCK, _SUM = 512, 32
_KEY = re.compile(rb"/bootstrap/([0-9a-f]{12})(?![0-9a-f])")
# A Node has the version of its kubelet: in protobuf field 7 with its length before it, in JSON by name.
_VERSION = re.compile(rb'(?::[\x0a-\x14]|"kubeletVersion":")(v1\.\d+\.\d+\+k3s\d+)')


@dataclass(frozen=True)
class Contents:
    """What the bytes of a snapshot say.

    Attributes:
        problem: why it cannot be restored; empty when it is whole.
        hashes: the beginnings of the hashes of the tokens that its certificates are sealed with.
        version: the newest k3s that its nodes ran; empty when none is in it.
    """

    problem: str = ""
    hashes: tuple[str, ...] = ()
    version: str = ""


def examine(data: bytes) -> Contents:
    """Look at the bytes of a snapshot's file."""
    if data[:2] == b"PK":
        try:
            data = _unpack(data)
        except (zipfile.BadZipFile, zlib.error, IndexError, EOFError, OSError):
            return Contents(problem="its zip archive is damaged")
    if not data:
        return Contents(problem="it is empty")
    if len(data) % _BLOCK != _SUM:
        return Contents(problem=f"it has no checksum behind it ({len(data)} bytes): it is cut off, or no snapshot")
    if hashlib.sha256(memoryview(data)[:-_SUM]).digest() != data[-_SUM:]:
        return Contents(problem="its content does not have the checksum that stands behind it: it is damaged")
    hashes = sorted({match.decode() for match in _KEY.findall(data)})
    versions = sorted({match.decode() for match in _VERSION.findall(data)}, key=_numbers)
    return Contents("", tuple(hashes), versions[-1] if versions else "")


def compare_hash(hashes: tuple[str, ...], token: str | None) -> TokenState:
    """Say whether a token is one of those that a snapshot was made with."""
    if token is None or not hashes:
        return TokenState.UNKNOWN
    return TokenState.SAME if token_hash(token) in hashes else TokenState.OTHER


def token_hash(token: str) -> str:
    """Return the beginning of a token's hash, as k3s writes it."""
    return hashlib.sha256(token_password(token).encode()).hexdigest()[:12]


def _unpack(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(archive.namelist()[0])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
