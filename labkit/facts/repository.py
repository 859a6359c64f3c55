"""What a GitOps repository holds: its files, and what Flux would make of them. Plain data with places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labkit.facts.manifests import Steps, Trouble, dig, line_at

FLUX_GROUP = "kustomize.toolkit.fluxcd.io"
SAMPLE = re.compile(
    r"(^|[/._-])(samples?|examples?|templates?|tmpl|dist|docs?|archived?|tests?|testdata|fixtures)([/._-]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Resource:
    """One Kubernetes object: its tree, and the file and document that it came from.

    `tree` is what Flux would apply (built and substituted), `origin` the document in Git, or None when a
    kustomization made the object; then `file` is that kustomization.
    """

    tree: Mapping[str, Any]
    file: str
    line: int
    origin: Mapping[str, Any] | None = None
    by: str = ""
    """The Flux Kustomization that applies it, `namespace/name`; empty when none does."""

    @property
    def api_version(self) -> str:
        """`apps/v1`."""
        return _text(self.tree.get("apiVersion"))

    @property
    def group(self) -> str:
        """`apps`, empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """`Deployment`."""
        return _text(self.tree.get("kind"))

    @property
    def name(self) -> str:
        """Its metadata.name."""
        return _text(dig(self.tree, "metadata", "name"))

    @property
    def namespace(self) -> str:
        """Its metadata.namespace, `default` when there is none."""
        return _text(dig(self.tree, "metadata", "namespace")) or "default"

    @property
    def label(self) -> str:
        """`Deployment default/karakeep`, for people; without a namespace when it carries none."""
        namespace = _text(dig(self.tree, "metadata", "namespace"))
        return f"{self.kind} {namespace}/{self.name}" if namespace else f"{self.kind} {self.name}"

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations that are texts."""
        return _strings(dig(self.tree, "metadata", "annotations"))

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels that are texts."""
        return _strings(dig(self.tree, "metadata", "labels"))

    @property
    def is_encrypted(self) -> bool:
        """Tell whether it is a document that sops wrote."""
        return is_encrypted(self.tree)

    def get(self, *steps: str | int) -> Any:
        """Return what a path leads to in the tree, or None."""
        return dig(self.tree, *steps)

    def line_at(self, *steps: str | int) -> int:
        """Return the line in the file where a path stands, or the nearest one before it."""
        return line_at(self.origin, steps, self.line) if self.origin is not None else self.line


def is_encrypted(tree: Any) -> bool:
    """Tell whether a document carries sops' own block."""
    return isinstance(dig(tree, "sops"), dict) and bool(dig(tree, "sops", "mac") or dig(tree, "sops", "lastmodified"))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the repository: the objects in it, or why there are none.

    Attributes:
        path: from the root of the repository, with slashes.
        documents: every document that is a mapping, with its first line.
        trouble: where it stops to be YAML.
        is_template: it holds template marks (Helm, Jinja) or lies in a Helm chart: it is no manifest.
        kind: `yaml`, or for an encrypted file of another kind its ending.
        recipients: the age recipients named in it; empty when it is not encrypted.
    """

    path: str
    documents: tuple[tuple[int, Any], ...] = ()
    trouble: Trouble | None = None
    repeated: tuple[Trouble, ...] = ()
    is_template: bool = False
    kind: str = "yaml"
    recipients: tuple[str, ...] = ()
    recipients_line: int = 0

    @property
    def is_sample(self) -> bool:
        """Tell whether its name says that it is an example, a template or a document."""
        return SAMPLE.search(self.path) is not None

    def resources(self) -> Iterator[Resource]:
        """Yield its Kubernetes objects."""
        for line, tree in self.documents:
            if isinstance(tree.get("apiVersion"), str) and isinstance(tree.get("kind"), str):
                yield Resource(tree, self.path, line, tree)


@dataclass(frozen=True, slots=True)
class CreationRule:
    """One rule of .sops.yaml: which paths, for which age recipients; `others` when it names other kinds of keys."""

    line: int
    path_regex: str
    recipients: frozenset[str]
    encrypted_regex: str = ""
    others: bool = False


@dataclass(frozen=True, slots=True)
class Decryption:
    """What the real sops said to an encrypted file: `ok`, `key`, `mac` or `other`, and its words."""

    path: str
    result: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class BuildProblem:
    """Why Flux could not build a Kustomization, at the file that is the cause."""

    file: str
    line: int
    message: str
    kind: str = "build"
    """`build`, `path` (it does not exist), `remote` (it needs another repository, and was not built)."""


@dataclass(frozen=True, slots=True)
class Undefined:
    """A `${NAME}` without a default that no input of postBuild defines."""

    name: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Build:
    """One Flux Kustomization and what it makes.

    `source` is the Kustomization object. `is_foreign` says that its source is another repository, so that nothing
    is known of its objects; `is_complete` that all its objects are known.
    """

    source: Resource
    path: str
    resources: tuple[Resource, ...] = ()
    problems: tuple[BuildProblem, ...] = ()
    undefined: tuple[Undefined, ...] = ()
    is_foreign: bool = False
    is_complete: bool = True

    @property
    def name(self) -> str:
        """`flux-system/apps`."""
        return f"{self.source.namespace}/{self.source.name}"


@dataclass(frozen=True, eq=False)
class Cluster:
    """One entry point of Flux and all Kustomizations that follow from it; each is equal to itself only."""

    name: str
    builds: tuple[Build, ...]
    implied_sources: frozenset[tuple[str, str, str]] = frozenset()
    """Sources (kind, namespace, name) that the entry itself brings along, with no object in Git."""

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        """Every object that Flux would apply."""
        return tuple(resource for build in self.builds for resource in build.resources)

    @cached_property
    def is_complete(self) -> bool:
        """Tell whether all objects are known, so that one that is not seen does not exist."""
        return all(build.is_complete and not build.is_foreign for build in self.builds)


@dataclass(frozen=True)
class RepositoryFacts:
    """A repository as it was read: all its files, the clusters that Flux would build from it, and sops' answers."""

    root: str
    files: tuple[SourceFile, ...]
    clusters: tuple[Cluster, ...] = ()
    sops_rules: tuple[CreationRule, ...] | None = None
    """None when there is no .sops.yaml, or when it is no YAML."""
    decryptions: tuple[Decryption, ...] = ()
    key_recipients: tuple[str, ...] = ()
    """The public halves of the age key that was given."""
    ignored: frozenset[str] = frozenset()
    """The files that Flux leaves out: by .sourceignore, by `spec.ignore`, or by itself."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many files were read, parsed, built, for the summary."""

    @cached_property
    def by_path(self) -> Mapping[str, SourceFile]:
        """The files by their path."""
        return {file.path: file for file in self.files}

    @cached_property
    def applied_files(self) -> frozenset[str]:
        """The files that some cluster applies an object from."""
        return frozenset(resource.file for cluster in self.clusters for resource in cluster.resources)


def steps_text(steps: Steps) -> str:
    """Write a path as people do: `spec.values.db[0].password`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _strings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: _text(item) for key, item in value.items() if isinstance(item, (str, bool, int, float))}
