"""The one place for secrets: references are resolved here, late, and what was resolved is hidden everywhere.

A reference is a text `scheme:rest`: `env:NAME`, `file:path`, `sops:file#key.path`, `keyring:service/name`.
Every value that is resolved is remembered, and `redact` replaces it in every text that leaves the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from labkit.errors import InputError, Mistake
from labkit.process import run_program
from labkit.redaction import MASK, MIN_LENGTH, redact, remember

__all__ = ["MASK", "MIN_LENGTH", "SCHEMES", "Secrets", "redact", "remember"]

SCHEMES = ("env", "file", "sops", "keyring")
_SOPS_SECONDS = 30.0
_LARGEST = 1024 * 1024


class Secrets:
    """Resolve references to secrets.

    Args:
        overrides: whole references mapped to values. When given, nothing else is ever looked up: on the
            twin no real secret is read.
        base: the folder of the lab file, which relative paths start from.
    """

    def __init__(self, overrides: Mapping[str, str] | None = None, base: Path = Path()) -> None:
        self._overrides = None if overrides is None else dict(overrides)
        self._base = base

    def resolve(self, ref: str) -> str:
        """Return the secret that a reference names, remembered for redaction.

        Raises:
            InputError: when there is none; names the reference and where it was looked for.
        """
        return remember(self._read(ref))

    def resolve_other(self, ref: str) -> str:
        """Return the secret of a reference that does not stand in the lab file, such as an app's.

        A twin knows only the lab's secrets: there it is made up, the same each time.
        """
        _split(ref)
        if self._overrides is not None and ref not in self._overrides:
            return remember(hashlib.sha256(f"made up for {ref}".encode()).hexdigest())
        return self.resolve(ref)

    def check(self, ref: str) -> str | None:
        """Say in one line why a reference cannot be resolved, or return None when it can."""
        try:
            self._read(ref)
        except InputError as exc:
            return str(exc.mistakes[0])
        return None

    def store(self, ref: str, value: str) -> None:
        """Keep a new secret where a `file:` or `keyring:` reference points; one that is there is not replaced.

        Raises:
            InputError: there is one already, or the reference is of another kind.
        """
        scheme, rest = _split(ref)
        remember(value)
        if self.check(ref) is None:
            raise _missing(ref, "no secret yet", "one, which is not replaced", "")
        if self._overrides is not None:
            self._overrides[ref] = value
        elif scheme == "file":
            _to_file(ref, self._path(rest), value)
        elif scheme == "keyring":
            _to_keyring(ref, rest, value)
        else:
            raise _missing(ref, "a file: or keyring: reference to store into", f"{scheme}:", "set it yourself")

    def warn(self, ref: str) -> str | None:
        """Say what is careless about a reference that resolves: a file that others may read."""
        scheme, rest = _split(ref)
        if self._overrides is not None or scheme != "file":
            return None
        path = self._path(rest)
        if path.is_file() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            return f"{ref}: expected a file that only its owner may read, got mode {mode:04o}; chmod 600 {path}"
        return None

    def _read(self, ref: str) -> str:
        scheme, rest = _split(ref)
        if self._overrides is not None:
            if ref not in self._overrides:
                raise _missing(ref, "a value among the twin's own secrets", "none", "report this: a twin knows all")
            value = self._overrides[ref]
        elif scheme == "env":
            value = _from_env(ref, rest)
        elif scheme == "file":
            value = _from_file(ref, self._path(rest))
        elif scheme == "sops":
            value = self._from_sops(ref, rest)
        else:
            value = _from_keyring(ref, rest)
        if len(value) < MIN_LENGTH:
            size = f"{len(value)} characters" if value else "an empty text"
            raise _missing(ref, f"at least {MIN_LENGTH} characters, so that it can be hidden", size, "")
        return value

    def _path(self, text: str) -> Path:
        return self._base / os.path.expanduser(text)  # noqa: PTH111  # Path's own raises without a home

    def _from_sops(self, ref: str, rest: str) -> str:
        name, _, keys = rest.rpartition("#")
        path = self._path(name)
        if not path.is_file():
            raise _missing(ref, f"a file encrypted by sops at {path}", "no such file", "")
        try:
            done = run_program(
                [sops_program(), "--decrypt", "--extract", extract_path(keys), path],
                timeout=_SOPS_SECONDS,
                error=_SopsError,
            )
        except _SopsError as exc:
            hint = "is the age key in SOPS_AGE_KEY_FILE or ~/.config/sops/age/keys.txt, and the key in the file?"
            raise _missing(ref, f"sops to decrypt {keys} in {path}", exc.message, hint) from exc
        return _one_line(done.text)


class _SopsError(InputError):
    def __init__(self, message: str) -> None:
        super().__init__([Mistake("sops", 0, 0, "", "success", message)])
        self.message = " ".join(message.split())


def extract_path(keys: str) -> str:
    r"""Turn `a.b.0.tls\.crt` into what sops wants: `["a"]["b"][0]["tls.crt"]`."""
    parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", keys)]
    return "".join(f"[{part}]" if part.isdecimal() else f"[{json.dumps(part)}]" for part in parts)


def sops_program() -> Path:
    """Return the sops on PATH, else the one beside this Python."""
    found = shutil.which("sops")
    return Path(found) if found else Path(sys.executable).parent / "sops"


def _split(ref: str) -> tuple[str, str]:
    """Take a reference apart; a text that is none may be a secret itself and is never shown."""
    scheme, _, rest = ref.partition(":")
    if scheme not in SCHEMES or not rest:
        kinds = ", ".join(f"{name}:" for name in SCHEMES)
        got = f"a literal of {len(ref)} characters"
        raise InputError([Mistake("secret", 0, 0, "", f"a reference that begins with one of {kinds}", got)])
    return scheme, rest


def _from_env(ref: str, name: str) -> str:
    if name not in os.environ:
        raise _missing(ref, f"an environment variable {name}", "none", f"export {name}=... before the run")
    return os.environ[name]


def _from_file(ref: str, path: Path) -> str:
    expected = f"a file with the secret at {path}"
    try:
        if not path.is_file():
            raise _missing(ref, expected, "a directory" if path.is_dir() else "no such file", "")
        if path.stat().st_size > _LARGEST:
            raise _missing(ref, expected, f"a file of more than {_LARGEST} bytes", "")
        return _one_line(path.read_bytes().decode())
    except UnicodeDecodeError:
        # The error object holds the bytes of the secret: it must not travel along.
        raise _missing(ref, expected + " in UTF-8", "other bytes", "") from None
    except OSError as exc:
        raise _missing(ref, expected, exc.strerror or type(exc).__name__, "") from exc


def _to_file(ref: str, path: Path, value: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{value}\n")
    except OSError as exc:
        raise _missing(ref, f"a file that can be made at {path}", exc.strerror or type(exc).__name__, "") from exc


def _to_keyring(ref: str, rest: str, value: str) -> None:
    import keyring  # noqa: PLC0415  # slow to import, and rarely used
    import keyring.errors  # noqa: PLC0415

    service, _, name = rest.rpartition("/")
    try:
        keyring.set_password(service, name, value)
    except keyring.errors.KeyringError as exc:
        raise _missing(ref, "a keyring that takes it", " ".join(str(exc).split()), "") from exc


def _from_keyring(ref: str, rest: str) -> str:
    import keyring  # noqa: PLC0415  # slow to import, and rarely used
    import keyring.errors  # noqa: PLC0415

    service, _, name = rest.rpartition("/")
    try:
        value = keyring.get_password(service, name)
    except keyring.errors.KeyringError as exc:
        raise _missing(ref, "a keyring that can be opened", " ".join(str(exc).split()), "") from exc
    if value is None:
        raise _missing(ref, f"{name} under {service} in the keyring", "none", f"keyring set {service} {name}")
    return value


def _one_line(text: str) -> str:
    """Drop the newline at the end of a single line; a key of several lines needs its own."""
    stripped = text.removesuffix("\n").removesuffix("\r")
    return text if "\n" in stripped else stripped


def _missing(ref: str, expected: str, got: str, hint: str) -> InputError:
    return InputError([Mistake(f"secret {ref}", 0, 0, "", expected, got, hint)])
