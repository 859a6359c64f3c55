"""The SSH host keys of the lab's guests: a known_hosts file in the state folder, changed as a whole."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_guard = threading.Lock()


def known_hosts_file(state: Path) -> Path:
    """Return where the host keys are kept."""
    return state / "known_hosts"


def read_host_keys(path: Path, name: str) -> tuple[str, ...]:
    """Return the known keys of a host (`ssh-ed25519 AAAA...`); empty when it is not known."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    words = (line.split() for line in lines if line and not line.startswith("#"))
    return tuple(" ".join(word[1:3]) for word in words if len(word) >= 3 and name in word[0].split(","))


def store_host_keys(path: Path, names: Iterable[str], keys: Iterable[str]) -> None:
    """Make these the known keys of a host, in place of what was known under any of its names."""
    hosts = list(names)
    new = [f"{','.join(hosts)} {' '.join(key.split()[:2])}" for key in keys]
    _change(path, lambda lines: [*_without(lines, hosts), *new])


def forget_host(path: Path, names: Iterable[str]) -> None:
    """Remove the keys of a host, known under any of these names."""
    hosts = list(names)
    if path.exists():
        _change(path, lambda lines: _without(lines, hosts))


def _without(lines: list[str], hosts: list[str]) -> list[str]:
    return [line for line in lines if not set(line.split(" ")[0].split(",")) & set(hosts)]


def _change(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _guard:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        text = "".join(f"{line}\n" for line in sorted(change(lines)))
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".known_hosts-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
