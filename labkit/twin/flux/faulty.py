"""Faults that come through Git: somebody else's commits that break a Kustomization or a secret."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyrage
import yaml

from labkit.facts.kept import KEPT
from labkit.process import run_program
from labkit.secrets import sops_program
from labkit.twin import manifests
from labkit.twin.flux.build import FILES

_SECONDS = 60.0
_KIND = "kustomize.toolkit.fluxcd.io"
_ABSENT = "not-there.yaml"
Changes = Mapping[str, bytes | None]


def path_of(files: Mapping[str, bytes], name: str) -> str | None:
    """Return the folder that a Kustomization of that name builds; None when the repository has none."""
    for file, text in files.items():
        if not file.endswith((".yaml", ".yml")) or name.encode() not in text or _KIND.encode() not in text:
            continue
        for tree in _trees(text):
            about = tree.get("metadata") or {}
            if (
                tree.get("kind") == "Kustomization"
                and about.get("name") == name
                and "sourceRef" in tree.get("spec", {})
            ):
                return str(tree["spec"].get("path") or "").removeprefix("./").strip("/")
    return None


def kustomizations(files: Mapping[str, bytes]) -> set[str]:
    """Return the names of all Kustomizations of Flux."""
    return {str(name) for one in _of_kind(files, "Kustomization") if "sourceRef" in one.get("spec", {})
            and (name := (one.get("metadata") or {}).get("name"))}  # fmt: skip


def charts(files: Mapping[str, bytes]) -> set[str]:
    """Return the names of all HelmReleases and of their charts."""
    found: set[str] = set()
    for one in _of_kind(files, "HelmRelease"):
        spec = one.get("spec") or {}
        chart = ((spec.get("chart") or {}).get("spec") or {}).get("chart")
        names = ((one.get("metadata") or {}).get("name"), spec.get("releaseName"), chart)
        found |= {str(name) for name in names if name}
    return found


def _of_kind(files: Mapping[str, bytes], kind: str) -> Iterator[dict[str, Any]]:
    for file, text in files.items():
        if file.endswith((".yaml", ".yml")) and f"kind: {kind}".encode() in text:
            yield from (tree for tree in _trees(text) if tree.get("kind") == kind)


def break_kustomization(files: Mapping[str, bytes], name: str) -> Changes:
    """Name a resource that is not there; nothing when there is no Kustomization of that name."""
    folder = path_of(files, name)
    if folder is None:
        return {}
    for file in (f"{folder}/{one}".lstrip("/") for one in FILES):
        if file in files:
            tree = manifests.load(files[file].decode()) or {}
            tree["resources"] = [*(tree.get("resources") or []), _ABSENT]
            return {file: manifests.dump(tree).encode()}
    tree = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [_ABSENT]}
    return {f"{folder}/zz-broken/kustomization.yaml".lstrip("/"): manifests.dump(tree).encode()}


def encrypted(files: Mapping[str, bytes]) -> list[str]:
    """Return the YAML files that sops has encrypted."""
    return [file for file, text in files.items() if file.endswith((".yaml", ".yml")) and b"\nsops:" in text]


def encrypt_anew(files: Mapping[str, bytes], age_key: str) -> Changes:
    """Encrypt the first secret that the key opens for another key instead."""
    for file in encrypted(files):
        if file == KEPT:
            continue  # Flux does not apply it
        clear = decrypted(files[file], age_key)
        if clear is not None:
            other = str(pyrage.x25519.Identity.generate().to_public())
            rule = next((tree["sops"].get("encrypted_regex") for tree in _trees(files[file]) if "sops" in tree), None)
            return {file: encrypt_for(other, clear, rule)}
    return {}


def unreadable(files: Mapping[str, bytes], age_key: str) -> list[str]:
    """Return the encrypted files that a key does not open."""
    found = encrypted(files)
    with ThreadPoolExecutor(2) as pool:
        opened = list(pool.map(lambda file: decrypted(files[file], age_key) is not None, found))
    return [file for file, is_open in zip(found, opened, strict=True) if not is_open]


def decrypted(text: bytes, age_key: str) -> bytes | None:
    """Return a file in clear; None when the key does not open it."""
    words = ["decrypt", "--ignore-mac", "--input-type", "yaml", "--output-type", "yaml", "/dev/stdin"]
    argv: list[str | Path] = [sops_program(), *words]
    with tempfile.TemporaryDirectory(prefix="labkit-sops-") as home:
        env = {"PATH": "/usr/bin:/bin", "HOME": home, "SOPS_AGE_KEY": age_key}
        done = run_program(argv, timeout=_SECONDS, env=env, stdin=text, allowed=range(256))
    return done.stdout if done.status == 0 else None


def encrypt_for(recipient: str, text: bytes, rule: str | None) -> bytes:
    """Return a YAML text encrypted for an age recipient; `rule` says which keys."""
    words: list[str | Path] = [sops_program(), "encrypt", "--age", recipient]
    words += ["--encrypted-regex", rule] if rule else []
    words += ["--input-type", "yaml", "--output-type", "yaml", "/dev/stdin"]
    with tempfile.TemporaryDirectory(prefix="labkit-sops-") as home:
        env = {"PATH": "/usr/bin:/bin", "HOME": home}
        return run_program(words, timeout=_SECONDS, env=env, stdin=text, cwd=Path(home)).stdout


def _trees(text: bytes) -> list[dict[str, Any]]:
    try:
        found = manifests.load_all(text.decode("utf-8", "replace"))
    except yaml.YAMLError:
        return []
    return [one for one in found if isinstance(one, dict)]
