"""The values of a HelmRelease: ConfigMaps and Secrets in their order, then its own, merged as Helm merges."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Mapping
from typing import Any

import yaml

from labkit.twin import manifests
from labkit.twin.controllers.objects import namespace_of, spec_of
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi


class ValuesWrong(Exception):
    """The values cannot be put together, in the helm controller's words."""


def values_of(api: LocalApi, release: Object) -> dict[str, Any]:
    """Return the values of a HelmRelease; raise ValuesWrong."""
    found: dict[str, Any] = {}
    for source in spec_of(release).get("valuesFrom") or []:
        text = _text(api, source, namespace_of(release))
        if text is None:
            continue
        path = source.get("targetPath")
        found = merged(found, _at(path, text, literal=bool(source.get("literal"))) if path else _parsed(source, text))
    return merged(found, spec_of(release).get("values") or {})


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of values over another; null takes a value away."""
    new = {key: copy.deepcopy(value) for key, value in base.items()}
    for key, value in over.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, Mapping):
            new[key] = merged(new[key] if isinstance(new.get(key), Mapping) else {}, value)
        else:
            new[key] = copy.deepcopy(value)
    return new


def _text(api: LocalApi, source: Mapping[str, Any], namespace: str) -> str | None:
    kind, name, key = source["kind"], source["name"], source.get("valuesKey") or "values.yaml"
    resource = "secrets" if kind == "Secret" else "configmaps"
    obj, optional = api.get(resource, name, namespace), bool(source.get("optional"))
    if obj is None:
        if optional:
            return None
        why = f'{resource} "{name}" not found'
        raise ValuesWrong(f"could not resolve {kind} chart values reference '{namespace}/{name}' with key '{key}': "
                          f"{why}")  # fmt: skip
    value = (obj.get("data") or {}).get(key)
    if value is None:
        if optional:
            return None
        raise ValuesWrong(f"could not resolve {kind} chart values reference '{namespace}/{name}' with key '{key}': "
                          f"key not found: {key}")  # fmt: skip
    return base64.b64decode(value).decode() if kind == "Secret" else str(value)


def _parsed(source: Mapping[str, Any], text: str) -> dict[str, Any]:
    try:
        tree = manifests.load(text)
    except yaml.YAMLError as exc:
        why = " ".join(str(exc).split())
        raise ValuesWrong(f"unable to parse values from {source['kind']} '{source['name']}': {why}") from exc
    return tree if isinstance(tree, dict) else {}


def _at(path: str, text: str, *, literal: bool) -> dict[str, Any]:
    """Return a tree with one value at a path: dots, escaped by a backslash, and list indexes."""
    value: Any = text if literal else manifests.load(text) if re.fullmatch(r"true|false|null|-?\d+", text) else text
    for part in reversed(re.split(r"(?<!\\)\.", path)):
        name, _, index = part.replace("\\.", ".").partition("[")
        if index:
            value = [None] * int(index.rstrip("]")) + [value]
        value = {name: value}
    tree: dict[str, Any] = value
    return tree
