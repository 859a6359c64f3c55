"""Encrypt and decrypt with the real sops; texts and keys go by standard input and environment only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labkit.errors import LabError, StepFailed
from labkit.process import run_program
from labkit.redaction import remember
from labkit.secrets import sops_program

_SECONDS = 60.0
_KINDS = ("--input-type", "yaml", "--output-type", "yaml")


class SopsError(StepFailed):
    """Report what sops refused."""


def encrypt(root: Path, path: str, text: str) -> str:
    """Return a YAML text encrypted as the repository's own .sops.yaml says for a path.

    Args:
        root: the repository's folder.
        path: where the file will be, from the root: it decides which rule holds.
        text: the clear text; its values should be remembered for redaction.

    Raises:
        SopsError: no rule matches, or sops refuses the text.
    """
    argv: list[str | Path] = [sops_program(), "encrypt", "--filename-override", path, *_KINDS, "/dev/stdin"]
    try:
        return _run(argv, root, {}, text.encode()).decode()
    except SopsError as exc:
        if "no matching creation rules" in exc.message or "config file not found" in exc.message:
            raise SopsError(
                f"sops: expected a rule of .sops.yaml that matches {path}, got none",
                next_step="add a creation rule for that path to .sops.yaml, with your age recipient, and commit it",
            ) from exc
        raise


def encrypt_for(recipients: Sequence[str], text: str) -> str:
    """Return Secrets as YAML, their values encrypted for age recipients, whatever a .sops.yaml says.

    Raises:
        SopsError: sops refuses a recipient or the text.
    """
    chosen = ("--age", ",".join(recipients), "--encrypted-regex", "^(data|stringData)$")
    argv: list[str | Path] = [sops_program(), "encrypt", *chosen, *_KINDS, "/dev/stdin"]
    with tempfile.TemporaryDirectory(prefix="labkit-sops-") as folder:
        return _run(argv, Path(folder), {}, text.encode()).decode()


def decrypt(root: Path, path: str, age_key: str) -> str:
    """Return the clear text of an encrypted file, with that age key and no other.

    Raises:
        SopsError: the key does not open it, or its MAC does not match.
    """
    argv: list[str | Path] = [sops_program(), "decrypt", *_KINDS, root / path]
    try:
        return _run(argv, root, {"SOPS_AGE_KEY": remember(age_key)}, b"").decode()
    except SopsError as exc:
        raise SopsError(
            f"{path}: expected sops to decrypt it with the lab's age key, got: {_words(exc)}",
            next_step="look at git.age_key in the lab file; `labkit check repo --age-key ...` tries every file",
        ) from exc


def _run(argv: list[str | Path], root: Path, keys: dict[str, str], stdin: bytes) -> bytes:
    # An empty home: no key or setting of the person who runs this may change the result.
    with tempfile.TemporaryDirectory(prefix="labkit-sops-") as home:
        env = {"PATH": os.environ.get("PATH", ""), "HOME": home, **keys}
        return run_program(argv, timeout=_SECONDS, cwd=root, env=env, stdin=stdin, error=SopsError).stdout


def _words(exc: LabError) -> str:
    return " ".join(exc.message.rpartition(": ")[2].split()) or exc.message
