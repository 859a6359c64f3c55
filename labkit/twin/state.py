"""The folder of a twin: files that are written whole or not at all, and that only their owner reads."""

from __future__ import annotations

import json
from pathlib import Path

TWIN = "twin.json"
CONNECT = "connect.json"
SECRETS = "secrets.json"
CONTROL_TOKEN = "control.token"  # noqa: S105  # a file's name
LOG = "twin.log"
AGE_KEY = "age.key"
"""The age key that it is given, until it has read it."""
MISTAKES = "mistakes.json"
"""Why it could not start with what it was given."""


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, mode 0600."""
    part = path.with_name(f".{path.name}.part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)


def write_json(path: Path, data: object) -> None:
    """Replace a JSON file in one step, mode 0600."""
    write_whole(path, json.dumps(data, indent=2) + "\n")


def make_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter, and return its whole path."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path.resolve()
