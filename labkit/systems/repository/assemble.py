"""Make objects with their places out of what kustomize wrote: substitution, origins, and what failed parts held."""

from __future__ import annotations

import base64
import binascii
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from labkit.facts.manifests import dig, maps, parse_manifests, walk_leaves
from labkit.facts.repository import Build, BuildProblem, Resource, Undefined
from labkit.systems.repository.kustomize import Made, Piece
from labkit.systems.repository.layout import Layout
from labkit.systems.repository.problems import locate
from labkit.systems.repository.substitute import DISABLED, substitute

Inputs = Mapping[str, str | None]


class Assembler:
    """Turns kustomize's output into a Build.

    Args:
        layout: the repository's folders and files.
        root: its absolute path.
    """

    def __init__(self, layout: Layout, root: str) -> None:
        self._layout = layout
        self._root = root
        self._index: dict[str, dict[tuple[str, str], Resource]] = {}
        self._inputs: dict[tuple[str, str], list[Resource]] = {}
        for file in layout.files.values():
            for resource in file.resources() if not file.is_template else ():
                if resource.kind in {"ConfigMap", "Secret"}:
                    self._inputs.setdefault((resource.kind, resource.name), []).append(resource)

    def assemble(self, source: Resource, folder: str, made: Made) -> Build:
        """Put together what a Kustomization makes."""
        inputs, all_known = self._variables(source)
        by = f"{source.namespace}/{source.name}"
        undefined: list[Undefined] = []
        resources: list[Resource] = []
        for piece in made.pieces:
            text = piece.text
            missing: frozenset[str] = frozenset()
            if inputs and "${" in text and not DISABLED.search(text):
                text, missing = substitute(text, inputs if all_known else _lenient(inputs, text))
            for tree in parse_manifests(text).trees:
                if isinstance(tree, dict):
                    resource = self._placed(tree, piece, by)
                    resources.append(resource)
                    undefined += [Undefined(name, *self._place_of(resource, name)) for name in sorted(missing)]
        problems = [locate(self._layout, self._root, f.entry, f.message) for f in made.failures]
        namespace = str(source.get("spec", "targetNamespace") or "")
        for failure in made.failures:
            resources += self._raw(failure.entry, by, namespace)
        whole, twice = _unique(resources)
        files = (path for failure in made.failures for path in self._files(failure.entry))
        broken = any((file := self._layout.files.get(path)) and (file.trouble or file.repeated) for path in files)
        return Build(
            source=source,
            path=folder,
            resources=tuple(_with_common(resource, source) for resource in whole),
            problems=tuple(dict.fromkeys([*problems, *twice])),
            undefined=tuple(undefined),
            is_complete=not broken,
        )

    def _placed(self, tree: dict[str, Any], piece: Piece, by: str) -> Resource:
        if piece.made or piece.file not in self._layout.files:
            return Resource(tree, piece.file, 1, None, by)
        name, kind = str(dig(tree, "metadata", "name")), str(tree.get("kind"))
        known = self._documents(piece.file)
        found = known.get((kind, name))
        if found is None:
            same = [resource for (of_kind, _), resource in known.items() if of_kind == kind]
            ending = [resource for resource in same if resource.name and resource.name in name]
            found = next(iter(ending or same or known.values()), None)
        if found is None:
            return Resource(tree, piece.file, 1, None, by)
        return Resource(tree, piece.file, found.line, found.origin, by)

    def _documents(self, path: str) -> dict[tuple[str, str], Resource]:
        if path not in self._index:
            found = self._layout.files[path].resources()
            self._index[path] = {(resource.kind, resource.name): resource for resource in found}
        return self._index[path]

    def _place_of(self, resource: Resource, name: str) -> tuple[str, int]:
        for steps, value in walk_leaves(resource.origin):
            if isinstance(value, str) and (at := value.find("${" + name)) >= 0:
                before = value.count("\n", 0, at)
                return resource.file, resource.line_at(*steps) + before + (1 if "\n" in value else 0)
        return resource.file, resource.line

    def _files(self, entry: str) -> Iterator[str]:
        return self._layout.manifests(entry) if self._layout.has_folder(entry) else iter((entry,))

    def _raw(self, entry: str, by: str, namespace: str) -> Iterator[Resource]:
        """Yield the objects of a part that could not be built, as they stand in its files."""
        for path in self._files(entry):
            file = self._layout.files.get(path)
            if file is None or path == self._layout.kustomization(posixpath.dirname(path)) or file.is_template:
                continue
            own = namespace or str(dig(self._layout.tree(posixpath.dirname(path)), "namespace") or "")
            for resource in file.resources():
                yield replace(resource, tree=_in_namespace(resource.tree, own), by=by)

    def _variables(self, source: Resource) -> tuple[dict[str, str | None], bool]:
        """Return the inputs of postBuild, and whether all of them are known by name."""
        inputs: dict[str, str | None] = {}
        all_known = True
        for ref in maps(source.get("spec", "postBuild", "substituteFrom")):
            found = self._inputs.get((str(ref.get("kind")), str(ref.get("name"))), [])
            if not found and ref.get("optional") is not True:
                all_known = False
            for values in map(_values, found):
                inputs |= {name: None if inputs.get(name, value) != value else value for name, value in values.items()}
        inline = source.get("spec", "postBuild", "substitute")
        if isinstance(inline, dict):
            inputs |= {name: _plain(value) for name, value in inline.items()}
        return inputs, all_known


def _lenient(inputs: Inputs, text: str) -> Inputs:
    """Count every variable of a text as known by name, since some input is not in the repository."""
    return dict.fromkeys(_names(text)) | dict(inputs)


def _names(text: str) -> Iterable[str]:
    return (part.partition("}")[0].split(":")[0] for part in text.split("${")[1:])


def _values(resource: Resource) -> dict[str, str | None]:
    data = resource.get("data")
    found: dict[str, str | None] = {}
    for name, value in data.items() if isinstance(data, dict) else ():
        found[name] = None if resource.is_encrypted else _decoded(value) if resource.kind == "Secret" else _plain(value)
    clear = resource.get("stringData")
    for name, value in clear.items() if isinstance(clear, dict) else ():
        found[name] = None if resource.is_encrypted else _plain(value)
    return found


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _decoded(value: Any) -> str | None:
    try:
        return base64.b64decode(str(value), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def _in_namespace(tree: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    metadata = tree.get("metadata")
    if not namespace or not isinstance(metadata, dict):
        return tree
    return {**tree, "metadata": {**metadata, "namespace": namespace}}


def _with_common(resource: Resource, source: Resource) -> Resource:
    """Add the labels and annotations that a Kustomization puts on all its objects."""
    common = source.get("spec", "commonMetadata")
    metadata = resource.tree.get("metadata")
    if not isinstance(common, dict) or not isinstance(metadata, dict):
        return resource
    merged = dict(metadata)
    for key in ("labels", "annotations"):
        if isinstance(common.get(key), dict):
            own = merged.get(key)
            merged[key] = {**(own if isinstance(own, dict) else {}), **common[key]}
    return replace(resource, tree={**resource.tree, "metadata": merged})


def _unique(resources: Iterable[Resource]) -> tuple[list[Resource], list[BuildProblem]]:
    """Drop objects that stand twice: parts that were built apart cannot see each other."""
    seen: dict[tuple[str, str, str, str], Resource] = {}
    problems = []
    for resource in resources:
        metadata_namespace = str(dig(resource.tree, "metadata", "namespace") or "")
        key = (resource.api_version, resource.kind, metadata_namespace, resource.name)
        if (other := seen.setdefault(key, resource)) is not resource:
            first = f"{other.file}:{other.line}"
            problems.append(BuildProblem(resource.file, resource.line, f"{resource.label} is already made by {first}"))
    return list(seen.values()), problems
