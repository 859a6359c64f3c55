"""Manifests as kustomize writes them: YAML with the types that Go's YAML has, so that no text becomes a date."""

from __future__ import annotations

import re
from typing import Any

import yaml

from labkit.twin.kube.door import Object

_PARTS = re.compile(r"^---[^\n]*\n", re.MULTILINE)

_FLOAT = (
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|"
    r"[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
)


class _Loader(yaml.CSafeLoader):
    """Reads the plain scalars that Go's YAML resolves, and no more."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?(?:0|[1-9][0-9_]*)|[-+]?0o?[0-7_]+|[-+]?0x[0-9a-fA-F_]+)$", "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^(?:<<)$", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def split(text: str) -> list[str]:
    """Take a stream apart into its documents, without the empty ones."""
    return [part for part in _PARTS.split(text) if part.strip()]


def load(text: str) -> Any:
    """Read one document; raise yaml.YAMLError."""
    return yaml.load(text, _Loader)  # noqa: S506  # a safe loader


def load_all(text: str) -> list[Any]:
    """Read all documents that are not empty; raise yaml.YAMLError."""
    return [one for one in yaml.load_all(text, _Loader) if one is not None]


def dump(tree: Any) -> str:
    """Write a document so that it is read back as it was."""
    return yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


def shown(obj: Object) -> str:
    """Name an object as Flux does: `Kind/namespace/name`."""
    meta = obj.get("metadata") or {}
    return "/".join(part for part in (str(obj.get("kind")), meta.get("namespace"), str(meta.get("name"))) if part)
