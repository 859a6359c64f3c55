"""Build what a Kustomization applies: generate, decrypt, the real kustomize, decrypt, substitute."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labkit.errors import StepFailed
from labkit.process import run_program
from labkit.twin import manifests
from labkit.twin.flux.decrypt import NoKey, decrypt, decrypt_file, is_encrypted
from labkit.twin.flux.substitute import NotSet, substitute
from labkit.twin.kube.door import Object

FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_SECONDS = 120.0
_SHOWN = "/tmp"  # noqa: S108  # where the controller shows its files, not where ours are
_DISABLED = "kustomize.toolkit.fluxcd.io/substitute"
_NO_DECRYPTION = "kustomize.toolkit.fluxcd.io/decrypt"


class BuildFailed(Exception):
    """What keeps a Kustomization from being built, in Flux's words; `reason` is that of the condition."""

    def __init__(self, message: str, reason: str = "BuildFailed") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Wish:
    """What to build: the stored files, the Kustomization's spec, its keys and its variables.

    `age_keys` is None without `decryption`, `values` None without `postBuild`.
    """

    root: Path
    spec: Mapping[str, Any]
    age_keys: str | None = None
    values: Mapping[str, str] | None = None
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


def build(wish: Wish) -> list[Object]:
    """Return the objects in the order in which kustomize writes them; raise BuildFailed."""
    path = str(wish.spec.get("path") or "").removeprefix("./").strip("/")
    if not (wish.root / path).is_dir() or not (wish.root / path).resolve().is_relative_to(wish.root.resolve()):
        stat = f"stat {_SHOWN}/kustomization-{abs(hash(path)) % 10**10}/{path}: no such file or directory"
        raise BuildFailed(f"kustomization path not found: {stat}", "ArtifactFailed")
    with tempfile.TemporaryDirectory(prefix="kustomization-", dir=wish.scratch) as name:
        work = Path(name) / "root"
        shutil.copytree(wish.root, work, copy_function=os.link, symlinks=True)
        generate(work, work / path, wish.spec)
        if wish.age_keys is not None:
            _decrypt_sources(work / path, wish.age_keys, set())
        output = kustomize(work / path)
    return list(_finished(output, wish))


def generate(root: Path, folder: Path, spec: Mapping[str, Any]) -> None:
    """Write the kustomization.yaml that Flux builds: a new one when there is none, with what the spec adds."""
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None:
        tree: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
                                "resources": sorted(_resources(root, folder, folder))}  # fmt: skip
        found = folder / FILES[0]
    else:
        tree = _kustomization(found, root)
    added = _with(tree, spec)
    if not found.exists() or added != tree:
        found.unlink(missing_ok=True)  # it is a link to the stored artifact
        found.write_text(manifests.dump(added), encoding="utf-8")


def _resources(root: Path, folder: Path, base: Path) -> Iterator[str]:
    """Yield what a generated kustomization lists: folders with one of their own, and manifests."""
    for entry in sorted(folder.iterdir()):
        name = entry.relative_to(base).as_posix()
        if entry.is_dir() and any((entry / one).is_file() for one in FILES):
            yield name
        elif entry.is_dir():
            yield from _resources(root, entry, base)
        elif entry.suffix in {".yaml", ".yml"}:
            shown = f"{_SHOWN}/kustomization/{entry.relative_to(root).as_posix()}"
            try:
                trees = manifests.load_all(entry.read_text(encoding="utf-8", errors="replace"))
            except yaml.YAMLError as exc:
                why = " ".join(str(exc).split())
                raise BuildFailed(f"failed to decode Kubernetes YAML from {shown}: {why}") from exc
            if any(not isinstance(one, dict) or "kind" not in one for one in trees):
                raise BuildFailed(f"failed to decode Kubernetes YAML from {shown}: missing Resource metadata")
            yield name


def _kustomization(path: Path, root: Path) -> dict[str, Any]:
    try:
        tree = manifests.load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        why = " ".join(str(exc).split())
        raise BuildFailed(f"failed to parse {path.relative_to(root).as_posix()}: {why}") from exc
    return tree if isinstance(tree, dict) else {}


def _with(tree: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(tree)
    if spec.get("targetNamespace"):
        new["namespace"] = spec["targetNamespace"]
    for field_name in ("namePrefix", "nameSuffix"):
        if spec.get(field_name):
            new[field_name] = spec[field_name]
    for field_name in ("patches", "components"):
        if spec.get(field_name):
            new[field_name] = [*(tree.get(field_name) or []), *spec[field_name]]
    if spec.get("images"):
        names = {image["name"] for image in spec["images"]}
        kept = [image for image in tree.get("images") or [] if image.get("name") not in names]
        new["images"] = [*kept, *spec["images"]]
    return new


def _decrypt_sources(folder: Path, age_keys: str, seen: set[Path]) -> None:
    """Decrypt the files that secret generators read, here and in the folders that are included."""
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None or folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    tree = _kustomization(found, folder)
    for generator in tree.get("secretGenerator") or []:
        sources = [*(generator.get("files") or []), *(generator.get("envs") or [])]
        sources += [generator["env"]] if generator.get("env") else []
        for source in sources:
            file = folder / str(source).rpartition("=")[2]
            if file.is_file():
                _decrypt_source(file, age_keys)
    for entry in [*(tree.get("resources") or []), *(tree.get("components") or [])]:
        if (folder / str(entry)).is_dir():
            _decrypt_sources(folder / str(entry), age_keys, seen)


def _decrypt_source(file: Path, age_keys: str) -> None:
    try:
        decrypt_file(file, age_keys)
    except NoKey as exc:
        raise BuildFailed(f"error decrypting sources: failed to decrypt '{file.name}': {exc}") from exc


def kustomize(folder: Path) -> str:
    """Run `kubectl kustomize` on a folder; raise BuildFailed with its words."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull, "KUBECONFIG": os.devnull,
           "GOMAXPROCS": "2"}  # fmt: skip
    argv: list[str | Path] = [_kubectl(), "kustomize", "--load-restrictor=LoadRestrictionsNone", folder]
    try:
        return run_program(argv, timeout=_SECONDS, env=env).text
    except StepFailed as exc:
        said = exc.message.partition(" got ")[2].partition(": ")[2] or exc.message
        shown = re.sub(r"\S*?/(kustomization-[^/\s']+)/root", rf"{_SHOWN}/\1", said.removeprefix("error: "))
        raise BuildFailed(f"kustomize build failed: {shown.strip()}") from exc


def _kubectl() -> Path:
    beside = Path(sys.executable).parent / "kubectl"
    return beside if beside.exists() else Path(shutil.which("kubectl") or "kubectl")


def _finished(output: str, wish: Wish) -> Iterator[Object]:
    """Decrypt and substitute each document; values that are no objects are refused."""
    for text in manifests.split(output):
        part, tree = text, manifests.load(text)
        name = ((tree or {}).get("metadata") or {}).get("name", "") if isinstance(tree, dict) else ""
        if not name or not tree.get("kind") or not tree.get("apiVersion"):
            raise BuildFailed(f"failed to decode Kubernetes apiVersion, kind and name from: {text[:200]}")
        notes = {**(tree["metadata"].get("annotations") or {}), **(tree["metadata"].get("labels") or {})}
        if wish.age_keys is not None and is_encrypted(tree) and notes.get(_NO_DECRYPTION) != "disabled":
            tree = _clear(tree, wish.age_keys)
            part = manifests.dump(tree)
        if wish.values is not None and notes.get(_DISABLED) != "disabled" and "${" in part:
            tree = _substituted(part, name, wish.values)
        yield tree


def _clear(tree: Object, age_keys: str) -> Object:
    try:
        return decrypt(tree, age_keys)
    except NoKey as exc:
        meta = tree["metadata"]
        where = f"'{meta.get('namespace', '')}/{meta['name']}' {tree['kind']} data"
        raise BuildFailed(
            f"decryption failed for '{meta['name']}': failed to decrypt and format {where}: {exc}"
        ) from exc


def _substituted(text: str, name: str, values: Mapping[str, str]) -> Object:
    try:
        tree: Object = manifests.load(substitute(text, values))
    except NotSet as exc:
        why = f'variable substitution failed: variable not set (strict mode): "{exc}"'
        raise BuildFailed(f"post build failed for '{name}': {why}") from exc
    except yaml.YAMLError as exc:
        raise BuildFailed(f"post build failed for '{name}': {' '.join(str(exc).split())}") from exc
    return tree
