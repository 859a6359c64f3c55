"""Decrypt with the real sops, as the kustomize controller does: by age keys, without looking at the MAC."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

from labkit.errors import StepFailed
from labkit.process import run_program
from labkit.redaction import remember
from labkit.secrets import sops_program

_SECONDS = 60.0
_KEPT = 256
_FORMATS = {".json": "json", ".env": "dotenv", ".ini": "ini", ".yaml": "yaml", ".yml": "yaml"}
_MARKS = (b"sops:", b'"sops"', b"sops_", b"[sops]")
_known: OrderedDict[str, bytes] = OrderedDict()


class NoKey(Exception):
    """Sops could not decrypt; the text is what Flux says then."""


def is_encrypted(tree: Any) -> bool:
    """Tell whether a manifest carries the metadata of sops."""
    return isinstance(tree, dict) and isinstance(tree.get("sops"), dict) and "mac" in tree["sops"]


def decrypt(tree: dict[str, Any], age_keys: str) -> dict[str, Any]:
    """Return a manifest in clear; raise NoKey."""
    text = json.dumps(tree).encode()
    found: dict[str, Any] = json.loads(_decrypted(text, "json", age_keys))
    return found


def decrypt_file(path: Path, age_keys: str) -> None:
    """Decrypt a file in its place when it is encrypted; raise NoKey."""
    data = path.read_bytes()
    if any(mark in data for mark in _MARKS):
        clear = _decrypted(data, _FORMATS.get(path.suffix, "binary"), age_keys)
        path.unlink()  # it may be a link to the stored artifact
        path.write_bytes(clear)


def _decrypted(data: bytes, kind: str, age_keys: str) -> bytes:
    name = hashlib.sha256(f"{kind}\0{age_keys}\0".encode() + data).hexdigest()
    if name not in _known:
        _known[name] = _run(data, kind, age_keys)
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return _known[name]


def _run(data: bytes, kind: str, age_keys: str) -> bytes:
    argv: list[str | Path] = [sops_program(), "decrypt", "--ignore-mac", "--input-type", kind, "--output-type", kind,
                              "/dev/stdin"]  # fmt: skip
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull, "SOPS_AGE_KEY": age_keys}
    for line in age_keys.splitlines():
        remember(line.strip())
    try:
        return run_program(argv, timeout=_SECONDS, env=env, stdin=data).stdout
    except StepFailed as exc:
        raise NoKey(_said(exc.message)) from exc


def _said(message: str) -> str:
    """Take from the words of the command what the controller says, which uses the same library."""
    words = " ".join(message.partition(" got ")[2].partition(": ")[2].split())
    if "data key" in words:
        groups = re.search(r"\d+ successful groups required, got \d+", words)
        return f"cannot get sops data key: Error getting data key: {groups[0] if groups else '0 successful groups'}"
    return words or "cannot decrypt"
