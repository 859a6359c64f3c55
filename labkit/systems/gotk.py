"""Flux's components: what a gotk-components.yaml holds, and where one comes from for a new repository."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from labkit.errors import InputError, Mistake, StepFailed
from labkit.facts.git import GitFacts
from labkit.process import run_program

_SECONDS = 60.0
_VERSION = re.compile(r"^# Flux Version: (v[0-9][0-9A-Za-z.+-]*)\s*$", re.MULTILINE)
_LABEL = "app.kubernetes.io/version"
_FLUX = ".toolkit.fluxcd.io"


@dataclass(frozen=True)
class Components:
    """What installs Flux: its version, the image of each controller, the versions of each definition."""

    version: str = ""
    controllers: dict[str, str] = field(default_factory=dict)
    crds: dict[str, tuple[str, ...]] = field(default_factory=dict)


def parse_objects(text: str) -> list[dict[str, Any]]:
    """Return every object of a YAML text, whole.

    Raises:
        StepFailed: it is no YAML.
    """
    try:
        found = list(yaml.load_all(text, Loader=yaml.CSafeLoader))  # the safe loader, in C
    except yaml.YAMLError as exc:
        raise StepFailed(f"Flux's components: expected YAML, got {' '.join(str(exc).split())[:200]}") from exc
    return [one for one in found if isinstance(one, dict) and one.get("kind")]


@lru_cache(maxsize=4)
def inspect_components(text: str) -> Components:
    """Say what a gotk-components.yaml installs; nothing for an empty text or one that is no YAML."""
    try:
        objects = parse_objects(text) if text else []
    except StepFailed:
        return Components()
    found = _VERSION.search(text)
    labels = (_label(one) for one in objects if one["kind"] == "Deployment")
    return Components(
        version=found[1] if found else next(filter(None, labels), ""),
        controllers=dict(sorted(_controllers(objects))),
        crds=dict(sorted(_definitions(objects))),
    )


def _label(one: Mapping[str, Any]) -> str:
    return str(((one.get("metadata") or {}).get("labels") or {}).get(_LABEL) or "")


def _controllers(objects: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for one in objects:
        if one["kind"] == "Deployment":
            containers = one["spec"]["template"]["spec"].get("containers") or [{}]
            yield str(one["metadata"]["name"]), str(containers[0].get("image") or "")


def _definitions(objects: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for one in objects:
        name = str(one["metadata"]["name"])
        if one["kind"] == "CustomResourceDefinition" and name.endswith(_FLUX):
            yield name, tuple(sorted(str(v["name"]) for v in one["spec"].get("versions") or () if v.get("served")))


def load_components(file: str, git: GitFacts) -> str:
    """Return the components for a repository that has none yet: of a file, else of `flux install --export`.

    An empty text when the repository has its own: those are what counts.

    Raises:
        InputError: there is no such file, or no flux that could be asked.
    """
    if git.flux_version:
        return ""
    if file:
        return _from_file(Path(file).expanduser())
    flux = shutil.which("flux")
    if flux is None:
        hint = "write one with `flux install --export`, or put flux on the PATH"
        raise InputError([Mistake("parameters", 0, 0, "components", "a file with Flux's components", "none", hint)])
    return run_program([flux, "install", "--export"], timeout=_SECONDS).text


def _from_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        got = getattr(exc, "strerror", None) or type(exc).__name__
        raise InputError([Mistake(str(path), 0, 0, "components", "a file that can be read", got)]) from exc
    if not inspect_components(text).controllers:
        raise InputError([Mistake(str(path), 0, 0, "components", "Flux's controllers as YAML", "none of them")])
    return text
