"""The files that apps keep on their volumes: an identity, first data, and one more file with each write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labkit.twin.seed import Seed

IDENTITY = "state/app.json"  # sorts behind the data, so that the first block stays as it is
_FIRST, _MORE = 2_300_000, 150_000
_SPARE = 32768
"""What of a volume the archive itself may need."""


def first_tree(seed: Seed, instance: str, size: int, **told: str) -> dict[str, bytes]:
    """Return what an app begins with on an empty volume.

    Args:
        seed: what the bytes come from.
        instance: the identity that the app gives to itself.
        size: of the volume, in bytes.
        told: what stands in the identity beside that: app, namespace, claim.
    """
    data = _noise(seed, _FIRST, instance, 0)
    return {IDENTITY: _json({**told, "instance": instance, "writes": 0}),
            "data/000000.bin": data[: max(0, min(_FIRST, size - _SPARE))]}  # fmt: skip


def written_on(seed: Seed, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of an app after one more write; without an identity there is none that writes."""
    if IDENTITY not in files:
        return dict(files)
    told = identity(files)
    told["writes"] += 1
    more = _noise(seed, _MORE, told["instance"], told["writes"])
    return {**files, IDENTITY: _json(told), f"data/{told['writes']:06}.bin": more}


def identity(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what stands in the identity; {} without one."""
    found: dict[str, Any] = json.loads(files.get(IDENTITY, b"{}"))
    return found


def _noise(seed: Seed, length: int, *words: object) -> bytes:
    """Return bytes that do not compress, the same for the same words: a seed's stream, repeated in other order."""
    block = b"".join(seed.bytes("noise", *words, number) for number in range(2048))
    parts = []
    for number in range(-(-length // len(block))):
        turn = number * 37 % len(block)
        parts.append(block[turn:] + block[:turn])
    return b"".join(parts)[:length]


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()
