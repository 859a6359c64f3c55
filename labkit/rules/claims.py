"""The claims on Longhorn that a repository names, with all that a restored volume needs to fit them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.checks.repository.charts import releases
from labkit.checks.repository.storage import default_class, is_longhorn, members
from labkit.facts.backups import StoreFacts
from labkit.facts.longhorn import DRIVER, GROUP_LABEL, JOB_LABEL, Claim, LonghornFacts
from labkit.facts.manifests import maps, texts
from labkit.facts.repository import Cluster, Resource
from labkit.facts.restore import GitClaim

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|[kKMGTP]i?)?")
_UNITS = {None: 1.0, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
          "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}  # fmt: skip


def git_claims(cluster: Cluster) -> tuple[GitClaim, ...]:
    """Return the claims of a cluster's repository whose data is on Longhorn, those of StatefulSets' templates too."""
    known = _Known(cluster)
    found = [known.claim(one.resource, one.groups, one.jobs) for one in members(cluster)]
    for resource in cluster.resources:
        if resource.kind == "StatefulSet":
            found += known.templated(resource)
    unique = {one.id: one for one in found}
    return tuple(unique[name] for name in sorted(unique))


def living_claims(longhorn: LonghornFacts, names: Iterable[str]) -> tuple[GitClaim, ...]:
    """Return claims that only the cluster knows (a chart's, say), by `namespace/name`; those on Longhorn."""
    found = []
    for one in longhorn.claims:
        pv = longhorn.pv(one.volume)
        if f"{one.namespace}/{one.name}" in set(names) and pv is not None and pv.driver == DRIVER:
            found.append(_living(one))
    return tuple(found)


def stored_claims(store: StoreFacts, names: Iterable[str]) -> tuple[GitClaim, ...]:
    """Return claims that only the backup store knows any more, by `namespace/name`."""
    found: dict[str, GitClaim] = {}
    for one in store.volumes:
        if (name := f"{one.namespace}/{one.claim}") in set(names):
            found[name] = GitClaim(namespace=one.namespace, name=one.claim, requested=one.size,
                                   storage_class=one.storage_class or "longhorn")  # fmt: skip
    return tuple(found.values())


def _living(one: Claim) -> GitClaim:
    return GitClaim(
        namespace=one.namespace, name=one.name, storage_class=one.storage_class, requested=one.requested,
        access_modes=one.access_modes, kustomization=one.kustomization,
    )  # fmt: skip


class _Known:
    """What the repository says of classes and PersistentVolumes."""

    def __init__(self, cluster: Cluster) -> None:
        self._classes = {one.name: one for one in cluster.resources if one.kind == "StorageClass"}
        self._default = default_class(cluster, self._classes)
        self._pvs = {one.name: one for one in cluster.resources if one.kind == "PersistentVolume"}
        self._charts = tuple(releases(cluster, "longhorn"))

    def claim(self, resource: Resource, groups: Iterable[str], jobs: Iterable[str]) -> GitClaim:
        """Return a claim that stands in Git."""
        jobs, groups = set(jobs), set(groups)
        labels = {f"{JOB_LABEL}{name}": "enabled" for name in jobs}
        if groups != {"default"} or jobs:
            labels |= {f"{GROUP_LABEL}{name}": "enabled" for name in groups}
        pinned = str(resource.get("spec", "volumeName") or "")
        pv = self._pvs.get(pinned)
        return GitClaim(
            namespace=resource.namespace, name=resource.name, pinned=pinned,
            handle=str(pv.get("spec", "csi", "volumeHandle") or "") if pv is not None else "",
            job_labels=dict(sorted(labels.items())), place=f"{resource.file}:{resource.line}",
            kustomization=resource.by, **self._shape(resource.get("spec")),
        )  # fmt: skip

    def templated(self, resource: Resource) -> Iterator[GitClaim]:
        """Yield the claims that a StatefulSet makes from its templates: `<template>-<set>-<ordinal>`."""
        replicas = resource.get("spec", "replicas")
        first = resource.get("spec", "ordinals", "start") or 0
        for template in maps(resource.get("spec", "volumeClaimTemplates")):
            spec, name = template.get("spec") or {}, (template.get("metadata") or {}).get("name")
            if not is_longhorn(self._class_of(spec), self._classes):
                continue
            for ordinal in range(int(first), int(first) + (1 if replicas is None else int(replicas))):
                yield GitClaim(
                    namespace=resource.namespace, name=f"{name}-{resource.name}-{ordinal}",
                    place=f"{resource.file}:{resource.line}", kustomization=resource.by,
                    template=f"{resource.namespace}/{resource.name}", **self._shape(spec),
                )  # fmt: skip

    def _class_of(self, spec: Mapping[str, Any]) -> str:
        named = spec.get("storageClassName")
        return self._default if named is None else str(named)

    def _shape(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        name = self._class_of(spec)
        found = self._classes.get(name)
        return {
            "storage_class": name,
            "requested": parse_quantity(((spec.get("resources") or {}).get("requests") or {}).get("storage")),
            "access_modes": tuple(texts(spec.get("accessModes"))) or ("ReadWriteOnce",),
            "parameters": self._parameters(name),
            "mount_options": tuple(texts(found.get("mountOptions"))) if found is not None else (),
        }

    def _parameters(self, name: str) -> dict[str, str]:
        if (found := self._classes.get(name)) is not None:
            given = found.get("parameters")
            return {str(key): str(value) for key, value in given.items()} if isinstance(given, dict) else {}
        for chart in self._charts if name == "longhorn" else ():
            values = chart.resource.get("spec", "values", "persistence") or {}
            words = {"numberOfReplicas": "defaultClassReplicaCount", "fsType": "defaultFsType",
                     "dataLocality": "defaultDataLocality"}  # fmt: skip
            return {key: str(values[word]) for key, word in words.items() if values.get(word) is not None}
        return {}


def parse_quantity(text: object) -> int:
    """Read a quantity such as `10Gi` in bytes; 0 for what is none."""
    match = _QUANTITY.fullmatch(str(text or "").strip())
    return int(float(match[1]) * _UNITS[match[2]]) if match else 0
