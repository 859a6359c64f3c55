"""The inventory of a Kustomization: what it manages, and what is taken away when it no longer does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labkit.twin.controllers.objects import annotations_of, is_deleting, labels_of, meta
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.manifests import shown

_GROUP = "kustomize.toolkit.fluxcd.io"


def entry_of(obj: Object) -> dict[str, str]:
    """Return the entry of an object: `namespace_name_group_kind` and its version."""
    group, _, version = obj["apiVersion"].rpartition("/")
    name = str(meta(obj)["name"]).replace(":", "__")
    return {"id": f"{meta(obj).get('namespace', '')}_{name}_{group}_{obj['kind']}", "v": version}


def entries_of(objects: Iterable[Object]) -> list[dict[str, str]]:
    """Return the entries of objects, sorted, each once."""
    found = {entry["id"]: entry for entry in map(entry_of, objects)}
    return [found[key] for key in sorted(found)]


def find_entry(api: LocalApi, entry: Mapping[str, Any]) -> tuple[str, Object] | None:
    """Return the resource and the object that an entry leads to, None when it is gone."""
    namespace, rest = entry["id"].split("_", 1)
    name, group, kind = rest.rsplit("_", 2)
    version = f"{group}/{entry['v']}" if group else entry["v"]
    resource = api.core.registry.of_kind(version, kind)
    obj = api.get(resource.key, name.replace("__", ":"), namespace) if resource else None
    return (resource.key, obj) if resource and obj else None


def prune(api: LocalApi, entries: Iterable[Mapping[str, Any]], owner: Mapping[str, str]) -> list[str]:
    """Delete what entries lead to, save what is not the owner's or is protected; return `Kind/ns/name deleted`."""
    gone = []
    for entry in reversed(list(entries)):
        found = find_entry(api, entry)
        if found is None or is_deleting(found[1]) or not _may_go(found[1], owner):
            continue
        api.delete(found[0], meta(found[1])["name"], meta(found[1]).get("namespace", ""))
        gone.append(f"{shown(found[1])} deleted")
    return gone


def _may_go(obj: Object, owner: Mapping[str, str]) -> bool:
    labels, notes = labels_of(obj), {**labels_of(obj), **annotations_of(obj)}
    ours = all(labels.get(key) == value for key, value in owner.items())
    return ours and notes.get(f"{_GROUP}/prune") != "disabled" and notes.get(f"{_GROUP}/reconcile") != "disabled"
