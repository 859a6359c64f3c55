"""Server-side apply as Flux does it: in stages, each tried dry before anything of it is written."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.controllers.objects import annotations_of, labels_of, meta
from labkit.twin.kube import patching
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.kube.options import Target, WriteOptions
from labkit.twin.kube.resources import Resource
from labkit.twin.manifests import shown

_FIRST = (
    "CustomResourceDefinition", "Namespace", "ClusterClass", "RuntimeClass", "PriorityClass", "StorageClass",
    "VolumeSnapshotClass", "IngressClass", "GatewayClass", "ResourceQuota", "ServiceAccount", "Role", "ClusterRole",
    "RoleBinding", "ClusterRoleBinding", "ConfigMap", "Secret", "Service", "LimitRange", "Deployment", "StatefulSet",
    "CronJob", "PodDisruptionBudget",
)  # fmt: skip
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_PLACES = {kind: place for place, kind in enumerate(_FIRST)} | dict.fromkeys(_LAST, 1000)
_GROUP = "kustomize.toolkit.fluxcd.io"


class ApplyFailed(Exception):
    """What the API server refused, in Flux's words; `log` says what was applied before."""


@dataclass
class Applied:
    """What an apply did: `Kind/ns/name created` lines for the log, and the objects that are now managed."""

    changes: list[str] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)


class Applier:
    """Apply objects under one field manager.

    Args:
        api: the door of the API server.
        manager: the field manager.
    """

    def __init__(self, api: LocalApi, manager: str) -> None:
        self._api = api
        self._manager = manager
        self._same: dict[tuple[str, str, str], tuple[str, str]] = {}

    async def apply(self, objects: Sequence[Object], *, force: bool = False) -> Applied:
        """Apply in stages; raise ApplyFailed at the first stage that is refused."""
        done = Applied()
        for stage in _stages(objects):
            wanted = [(obj, self._resource(obj)) for obj in stage if not _is_left_alone(obj)]
            for obj, resource in wanted:
                await asyncio.sleep(0)
                self._try(obj, resource, done, force=force or _is_forced(obj))
            for obj, resource in wanted:
                await asyncio.sleep(0)
                self._write(obj, resource, done)
        return done

    def _resource(self, obj: Object) -> Resource:
        found = self._api.core.registry.of_kind(obj["apiVersion"], obj["kind"])
        if found is None:
            group, _, version = obj["apiVersion"].rpartition("/")
            known = f'"{group}/{version}"' if group else f'"{version}"'
            raise ApplyFailed(f'{shown(obj)} dry-run failed: no matches for kind "{obj["kind"]}" in version {known}')
        if not found.namespaced:
            meta(obj).pop("namespace", None)
        elif not meta(obj).get("namespace"):
            raise ApplyFailed(f"{shown(obj)} namespace not specified: the server could not find the requested resource")
        return found

    def _try(self, obj: Object, resource: Resource, done: Applied, *, force: bool) -> None:
        if self._is_same(obj, resource):
            return
        try:
            self._send(obj, resource, dry_run=True)
        except ApiError as error:
            immutable = error.reason == "Invalid" and "immutable" in str(error)
            if not (force and immutable):
                text = f"{shown(obj)} dry-run failed ({error.reason or 'Unknown'}): {error}"
                raise ApplyFailed("\n".join([text, *done.changes])) from error
            self._api.delete(resource.key, meta(obj)["name"], meta(obj).get("namespace", ""), grace=0)

    def _write(self, obj: Object, resource: Resource, done: Applied) -> None:
        name, namespace = meta(obj)["name"], meta(obj).get("namespace", "")
        done.objects.append(obj)
        if self._is_same(obj, resource):
            return
        old = self._api.get(resource.key, name, namespace)
        if old is not None and _says(obj, "ssa") == "IfNotPresent":
            return
        try:
            new = self._send(obj, resource)
        except ApiError as error:
            text = f"{shown(obj)} apply failed ({error.reason or 'Unknown'}): {error}"
            raise ApplyFailed("\n".join([text, *done.changes])) from error
        version = meta(new).get("resourceVersion", "")
        self._same[(resource.key, namespace, name)] = (_digest(obj), version)
        if old is None:
            done.changes.append(f"{shown(obj)} created")
        elif meta(old).get("resourceVersion") != version:
            done.changes.append(f"{shown(obj)} configured")

    def _is_same(self, obj: Object, resource: Resource) -> bool:
        """Tell whether nothing has changed on either side since it was applied."""
        name, namespace = meta(obj)["name"], meta(obj).get("namespace", "")
        digest, version = self._same.get((resource.key, namespace, name), ("", ""))
        live = self._api.get(resource.key, name, namespace) if digest else None
        return live is not None and meta(live).get("resourceVersion") == version and _digest(obj) == digest

    def _send(self, obj: Object, resource: Resource, *, dry_run: bool = False) -> Object:
        target = Target(resource, meta(obj).get("namespace", ""), meta(obj)["name"])
        options = WriteOptions(manager=self._manager, force=True, dry_run=dry_run)
        return patching.apply(self._api.core, target, copy.deepcopy(obj), options)[0].object


def owned(objects: Iterable[Object], labels: Mapping[str, str], notes: Mapping[str, str] | None = None) -> list[Object]:
    """Return copies of objects that carry labels (and annotations)."""
    found = []
    for obj in objects:
        new = copy.deepcopy(obj)
        about = new["metadata"]
        about["labels"] = {**(about.get("labels") or {}), **labels}
        if notes:
            about["annotations"] = {**(about.get("annotations") or {}), **notes}
        found.append(new)
    return found


def ordered(objects: Iterable[Object]) -> list[Object]:
    """Sort as Flux does: what others need first."""
    return sorted(objects, key=lambda obj: (_PLACES.get(obj["kind"], 500), obj["kind"], meta(obj).get("namespace", ""),
                                            meta(obj)["name"]))  # fmt: skip


def _stages(objects: Sequence[Object]) -> list[list[Object]]:
    stages: tuple[list[Object], list[Object], list[Object]] = ([], [], [])
    for obj in ordered(objects):
        if obj["kind"] in {"CustomResourceDefinition", "Namespace"}:
            stages[0].append(obj)
        else:
            stages[1 if obj["kind"].endswith("Class") else 2].append(obj)
    return [stage for stage in stages if stage]


def _says(obj: Object, word: str) -> Any:
    name = f"{_GROUP}/{word}"
    return annotations_of(obj).get(name) or labels_of(obj).get(name)


def _is_left_alone(obj: Object) -> bool:
    return bool(_says(obj, "reconcile") == "disabled" or _says(obj, "ssa") == "Ignore")


def _is_forced(obj: Object) -> bool:
    return bool(_says(obj, "force") == "enabled")


def _digest(obj: Object) -> str:
    return hashlib.sha256(json.dumps(obj, sort_keys=True).encode()).hexdigest()
