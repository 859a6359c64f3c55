"""Ask the real sops whether a key opens each encrypted file and whether its MAC holds; what it shows is thrown away."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyrage

from labkit.errors import InputError, Mistake, SystemDown
from labkit.facts.repository import Decryption, SourceFile
from labkit.process import run_program
from labkit.secrets import sops_program

_SECONDS = 60.0
_RESULTS = {0: "ok", 24: "mac", 25: "other", 51: "mac", 52: "mac", 128: "key"}


def public_keys(age_key: str) -> tuple[str, ...]:
    """Return the recipients of the identities in the text of an age key file.

    Raises:
        InputError: when there is no identity in it.
    """
    lines = [line.strip() for line in age_key.splitlines()]
    keys = [line for line in lines if line.startswith("AGE-SECRET-KEY-")]
    try:
        found = tuple(str(pyrage.x25519.Identity.from_str(key).to_public()) for key in keys)
    except pyrage.IdentityError:
        found = ()
    if not found:
        raise InputError([Mistake("age key", 0, 0, "", "a line AGE-SECRET-KEY-1...", "none that age can read")])
    return found


def try_decryption(
    root: Path, files: Iterable[SourceFile], age_key: str, pool: ThreadPoolExecutor
) -> tuple[Decryption, ...]:
    """Decrypt every encrypted file with the real sops and that key only."""
    sealed = [file.path for file in files if file.recipients and not file.is_template]
    with tempfile.TemporaryDirectory(prefix="labkit-sops-") as home:
        env = {"PATH": os.environ.get("PATH", ""), "HOME": home, "SOPS_AGE_KEY": age_key}
        return tuple(pool.map(lambda path: _try(root, path, env), sealed))


def _try(root: Path, path: str, env: dict[str, str]) -> Decryption:
    kind = {"json": "json", "env": "dotenv", "ini": "ini"}.get(path.rpartition(".")[2], "yaml")
    argv: list[str | Path] = [sops_program(), "decrypt", "--input-type", kind, "--output-type", kind, root / path]
    done = run_program(argv, timeout=_SECONDS, env=env, allowed=range(256), error=SystemDown)
    said = " ".join(done.stderr.decode("utf-8", "replace").split())
    result = "mac" if "MAC mismatch" in said else _RESULTS.get(done.status, "other")
    return Decryption(path, result, "" if result == "ok" else said.replace(f"{root}/", "")[:300])
