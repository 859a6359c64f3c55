"""Find the entry points of Flux in a repository and follow its Kustomizations, building each."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.facts.manifests import dig, maps, texts
from labkit.facts.repository import FLUX_GROUP, Build, BuildProblem, Cluster, Resource, SourceFile
from labkit.systems.repository.artifact import Artifact, Artifacts
from labkit.systems.repository.kustomize import Wish
from labkit.systems.repository.layout import Layout

_MOST_ROUNDS = 30
_OPERATOR = "fluxcd.controlplane.io"
_GENERATED = ("gotk-sync.yaml", "gotk-sync.yml")


def is_flux_kustomization(resource: Resource) -> bool:
    """Tell Flux's Kustomization from kustomize's own."""
    return resource.kind == "Kustomization" and resource.group == FLUX_GROUP


def folder_of(resource: Resource) -> str:
    """Return the folder that a Kustomization applies, from the root."""
    path = posixpath.normpath(str(resource.get("spec", "path") or ".").lstrip("/"))
    return "" if path == "." else path


def source_of(resource: Resource) -> tuple[str, str, str]:
    """Return kind, namespace and name of the source that a Kustomization refers to."""
    ref = resource.get("spec", "sourceRef")
    namespace = dig(ref, "namespace") or resource.namespace
    return str(dig(ref, "kind") or ""), str(namespace), str(dig(ref, "name") or "")


@dataclass(frozen=True)
class Entry:
    """Where Flux begins: Kustomizations that no other applies, and the source that they share."""

    name: str
    first: tuple[Resource, ...]
    sources: frozenset[tuple[str, str, str]] = frozenset()


def find_entries(layout: Layout) -> tuple[Entry, ...]:
    """Return the entries: Kustomizations that apply themselves, as bootstrap writes them, and Flux Operator's.

    When there are none (a chart may hold the entry among its values), the Kustomizations that no other applies
    together count as one.
    """
    usable = [file for file in layout.files.values() if not file.is_template]
    resources = [resource for file in usable for resource in file.resources()]
    known = [resource for resource in resources if is_flux_kustomization(resource)]
    roots = [resource for resource in known if _applies(resource, resource.file) and not _is_sample(layout, resource)]
    roots = [root for root in roots if not _applied_by_other(root, roots)]
    entries = [Entry(folder_of(root) or root.name, (root,), frozenset({source_of(root)})) for root in roots]
    entries += [_operator_entry(r) for r in resources if r.kind == "FluxInstance" and r.group == _OPERATOR]
    entries = [entry for entry in entries if entry.first]
    if not entries and (usual := [resource for resource in known if not _is_sample(layout, resource)]):
        entries = [_whole_entry(usual)]
    return tuple(entries)


def _whole_entry(known: Sequence[Resource]) -> Entry:
    """Make one entry of the Kustomizations that no other applies; the source that most refer to is this repository."""
    tops = [r for r in known if not any(_applies(other, r.file) for other in known if other is not r)]
    common = Counter(source_of(resource) for resource in known).most_common(1)
    return Entry("", tuple(tops or known), frozenset(source for source, _ in common))


def _is_sample(layout: Layout, resource: Resource) -> bool:
    return layout.files[resource.file].is_sample and not resource.file.endswith(_GENERATED)


def _applies(kustomization: Resource, path: str) -> bool:
    folder = folder_of(kustomization)
    return not folder or path.startswith(folder + "/")


def _applied_by_other(root: Resource, roots: Sequence[Resource]) -> bool:
    """Tell whether another root applies this one and is not applied by it; of two equals the generated one stays."""
    for other in roots:
        if other is root or not _applies(other, root.file):
            continue
        if not _applies(root, other.file):
            return True
        mine, theirs = ((not r.file.endswith(_GENERATED), r.file, r.line) for r in (root, other))
        if theirs < mine:
            return True
    return False


def _operator_entry(instance: Resource) -> Entry:
    sync = instance.get("spec", "sync")
    if not isinstance(sync, dict):
        return Entry(instance.name, ())
    kind, name = str(sync.get("kind") or "GitRepository"), str(sync.get("name") or instance.namespace)
    tree = {
        "apiVersion": f"{FLUX_GROUP}/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": instance.namespace},
        "spec": {"path": sync.get("path") or ".", "sourceRef": {"kind": kind, "name": name}, "timeout": "5m0s"},
    }
    root = Resource(tree, instance.file, instance.line)
    return Entry(folder_of(root) or name, (root,), frozenset({(kind, instance.namespace, name)}))


@dataclass
class _Growing:
    """A cluster while it is being followed."""

    entry: Entry
    builds: list[Build] = field(default_factory=list)
    waiting: list[Resource] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)


def build_clusters(artifacts: Artifacts, files: Iterable[SourceFile]) -> tuple[Cluster, ...]:
    """Follow all entries side by side, round by round: what one round builds names the next Kustomizations."""
    written = _sources(resource for file in files if not file.is_template for resource in file.resources())
    growing = [_Growing(entry, waiting=list(entry.first)) for entry in find_entries(artifacts.of(None).layout)]
    for _ in range(_MOST_ROUNDS):
        work = [(one, source) for one in growing for source in _fresh(one)]
        if not work:
            break
        views: dict[str | None, list[tuple[_Growing, Resource]]] = {}
        for one, source in work:
            views.setdefault(_ignore_of(one, source, written), []).append((one, source))
        for spec, some in views.items():
            for (one, _), build in zip(some, _build_round(artifacts.of(spec), some), strict=True):
                one.builds.append(build)
                one.waiting += [resource for resource in build.resources if is_flux_kustomization(resource)]
    return tuple(Cluster(one.entry.name, tuple(one.builds), one.entry.sources) for one in growing)


def _sources(resources: Iterable[Resource]) -> dict[tuple[str, str, str], Resource]:
    return {(one.kind, one.namespace, one.name): one for one in resources if one.kind == "GitRepository"}


def _ignore_of(one: _Growing, source: Resource, written: Mapping[tuple[str, str, str], Resource]) -> str | None:
    """Return `spec.ignore` of the GitRepository that a Kustomization builds from: as applied, else as it is written."""
    wanted = source_of(source)
    applied = _sources(resource for build in one.builds for resource in build.resources)
    found = applied.get(wanted) or written.get(wanted)
    spec = found.get("spec", "ignore") if found is not None else None
    return spec if isinstance(spec, str) else None


def _fresh(one: _Growing) -> list[Resource]:
    fresh: dict[tuple[str, str], Resource] = {}
    for resource in one.waiting:
        key = (resource.namespace, resource.name)
        if key not in one.seen:
            fresh.setdefault(key, resource)
    one.seen |= set(fresh)
    one.waiting.clear()
    return list(fresh.values())


def _build_round(artifact: Artifact, work: Sequence[tuple[_Growing, Resource]]) -> list[Build]:
    layout = artifact.layout
    local = [_is_local(one, source) and layout.has_folder(folder_of(source)) for one, source in work]
    remote = {
        folder: layout.is_remote(folder)
        for folder in {folder_of(s) for (_, s), here in zip(work, local, strict=True) if here}
    }
    wanted = [here and not remote[folder_of(source)] for (_, source), here in zip(work, local, strict=True)]
    wishes = [wish_of(layout, source) for (_, source), want in zip(work, wanted, strict=True) if want]
    made = iter(artifact.kustomize.build(wishes))
    builds = []
    for (one, source), want in zip(work, wanted, strict=True):
        if want:
            builds.append(artifact.assembler.assemble(source, folder_of(source), next(made)))
        else:
            builds.append(_unbuilt(layout, one, source, remote.get(folder_of(source))))
    return builds


def _unbuilt(layout: Layout, one: _Growing, source: Resource, remote: str | None) -> Build:
    folder = folder_of(source)
    if not _is_local(one, source):
        return Build(source, folder, is_foreign=True, is_complete=False)
    line = source.line_at("spec", "path")
    if remote is None:
        left_out = layout.is_ignored(folder)
        why = "is left out by .sourceignore or spec.ignore" if left_out else "does not exist in this repository"
        problem = BuildProblem(source.file, line, f"the path ./{folder} {why}", "path")
    else:
        file = layout.kustomization(folder) or source.file
        problem = BuildProblem(file, 1, f"it fetches {remote}, which is not here", "remote")
    return Build(source, folder, problems=(problem,), is_complete=False)


def _is_local(one: _Growing, source: Resource) -> bool:
    """Tell whether a Kustomization's source is this repository, as far as the objects seen so far say."""
    wanted = source_of(source)
    if not one.entry.sources or wanted in one.entry.sources:
        return True
    objects = [resource for build in one.builds for resource in build.resources]
    found = next((r for r in objects if (r.kind, r.namespace, r.name) == wanted), None)
    if found is None:
        return True  # a finding of its own; most likely a misspelt name of this repository's source
    mine = {str(r.get("spec", "url")) for r in objects if (r.kind, r.namespace, r.name) in one.entry.sources}
    return str(found.get("spec", "url")) in mine


def wish_of(layout: Layout, source: Resource) -> Wish:
    """Say what to build for a Kustomization: its entries, and what Flux writes into the kustomization."""
    folder, options = folder_of(source), dict[str, Any]()
    spec = source.get("spec")
    for key, name in (("targetNamespace", "namespace"), ("namePrefix", "namePrefix"), ("nameSuffix", "nameSuffix")):
        if isinstance(value := dig(spec, key), str) and value:
            options[name] = value
    patches = maps(dig(spec, "patches"))
    if patches:
        options["patches"] = patches
    if images := maps(dig(spec, "images")):
        options["images"] = images
    if components := texts(dig(spec, "components")):
        options["components"] = [posixpath.normpath(posixpath.join(folder, text)) for text in components]
    whole = bool(components) or any("target" not in patch for patch in patches)
    return Wish(layout.entries(folder), options, must_be_whole=whole)
