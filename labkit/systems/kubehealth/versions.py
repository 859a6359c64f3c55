"""Versions of the API that are on their way out: asked for by somebody, or objects are still stored in them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.facts.kubehealth import DeprecatedUse, OldVersion

_METRIC = re.compile(rb"^apiserver_requested_deprecated_apis\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def parse_metrics(data: bytes) -> tuple[DeprecatedUse, ...]:
    """Read the API server's metrics: the versions that somebody asked for although they will be removed."""
    found = []
    for labels, value in _METRIC.findall(data):
        if float(value) > 0:
            said = dict(_LABEL.findall(labels.decode("utf-8", "replace")))
            found.append(DeprecatedUse(group=said.get("group", ""), version=said.get("version", ""),
                                       resource=said.get("resource", ""),
                                       removed=said.get("removed_release", "")))  # fmt: skip
    return tuple(sorted(set(found), key=lambda one: (one.group, one.resource, one.version)))


def parse_definitions(items: Iterable[Mapping[str, Any]]) -> tuple[OldVersion, ...]:
    """Read CustomResourceDefinitions: those of which objects may be stored in a version that is about to go."""
    found = []
    for item in items:
        versions = {str(one["name"]): one for one in (item.get("spec") or {}).get("versions") or ()}
        newest = next((name for name, one in versions.items() if one.get("storage")), "")
        stored = (item.get("status") or {}).get("storedVersions") or ()
        old = tuple(str(name) for name in stored if name != newest and _goes(versions.get(str(name))))
        if old:
            found.append(OldVersion(definition=str(item["metadata"]["name"]), versions=old, newest=newest))
    return tuple(found)


def _goes(version: Mapping[str, Any] | None) -> bool:
    return version is None or not version.get("served") or bool(version.get("deprecated"))
