"""Make the example repository: fill in values and secrets, encrypt with the real sops, commit with the real git."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from labkit.errors import Refused
from labkit.process import run_program
from labkit.redaction import remember
from labkit.secrets import sops_program
from labkit.twin.repository.components import components
from labkit.twin.repository.fill import Secrets
from labkit.twin.repository.values import DATA, LabValues, cluster_folder, replace, replacements

_PLAIN = ".plain.yaml"
_SECONDS = 60.0
_WIDTH = 2
_WHEN = "2026-01-01T00:00:00+00:00"
_AUTHOR = {
    "GIT_AUTHOR_NAME": "homelab", "GIT_AUTHOR_EMAIL": "homelab@example.net", "GIT_AUTHOR_DATE": _WHEN,
    "GIT_COMMITTER_NAME": "homelab", "GIT_COMMITTER_EMAIL": "homelab@example.net", "GIT_COMMITTER_DATE": _WHEN,
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip


def materialise(
    folder: Path, *, age_recipient: str, values: LabValues | None = None, seed: bytes = b"labkit", commit: bool = True
) -> Path:
    """Write the example repository into an empty folder and commit it.

    Args:
        folder: where it goes; made when absent.
        age_recipient: the public age key that the secrets are encrypted for.
        values: what depends on the lab; the seed's lab when None.
        seed: decides the secrets, which are remembered for redaction.
        commit: make it a Git repository with one commit, always by the same author at the same time.

    Returns:
        The folder.

    Raises:
        Refused: when the folder holds something already.
        StepFailed: when sops or git fails.
    """
    lab = values or LabValues()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Refused(f"example repository: expected an empty folder, got {folder} with files in it")
    secrets = Secrets(seed)
    _write(folder, _texts(lab), secrets, _sops_yaml(age_recipient))
    for value in secrets.values.values():
        remember(value)
    if commit:
        _commit(folder, lab.git_branch)
    return folder


def _texts(lab: LabValues) -> dict[str, str]:
    """All files by their path, with the lab's values and the marks of secrets still in them."""
    table = replacements(lab)
    old, new = cluster_folder(LabValues()), cluster_folder(lab)
    found = {}
    for file in sorted(path for path in DATA.rglob("*") if path.is_file()):
        name = file.relative_to(DATA).as_posix()
        if name.startswith(old + "/"):
            name = new + name.removeprefix(old)
        found[name] = replace(file.read_text(encoding="utf-8"), table)
    found[f"{new}/flux-system/gotk-components.yaml"] = components()
    return found


def _sops_yaml(recipient: str) -> str:
    return f"""creation_rules:
  - path_regex: kubernetes/.*secret.*\\.yaml$
    encrypted_regex: ^(data|stringData)$
    age: {recipient}
"""


def _write(folder: Path, texts: Mapping[str, str], secrets: Secrets, sops: str) -> None:
    (folder / ".sops.yaml").write_text(sops, encoding="utf-8")
    clear = {_target(name): _expand(text, secrets) for name, text in texts.items() if name.endswith(_PLAIN)}
    ready = {name: secrets.fill(text) for name, text in texts.items() if not name.endswith(_PLAIN)}
    with ThreadPoolExecutor(_WIDTH) as pool:
        encrypted = pool.map(lambda item: _encrypt(folder, *item), clear.items())
        ready |= dict(zip(clear, encrypted, strict=True))
    for name, text in ready.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _target(name: str) -> str:
    return name.removesuffix(_PLAIN) + ".yaml"


def _expand(text: str, secrets: Secrets) -> str:
    """Fill in the values of a secret; done on the parsed tree, since a value may have several lines."""
    yaml = YAML()
    tree: dict[str, Any] = yaml.load(text)
    data = tree["stringData"]
    for key, mark in data.items():
        value = secrets.fill(mark)
        data[key] = LiteralScalarString(value) if "\n" in value else value
    out = StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def _encrypt(folder: Path, name: str, text: str) -> str:
    kinds = ("--input-type", "yaml", "--output-type", "yaml")
    argv: list[str | Path] = [sops_program(), "encrypt", "--filename-override", name, *kinds, "/dev/stdin"]
    return run_program(argv, timeout=_SECONDS, cwd=folder, stdin=text.encode()).text


def _commit(folder: Path, branch: str) -> None:
    env = {**os.environ, **_AUTHOR}
    for words in (
        ("init", "--quiet", f"--initial-branch={branch}"),
        ("add", "--all"),
        ("commit", "--quiet", "--no-gpg-sign", "--message", "The homelab's cluster"),
    ):
        run_program(["git", *words], timeout=_SECONDS, cwd=folder, env=env)
