"""The four patch types on top of updates."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube import status
from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.managed import LAST_APPLIED, Owner, apply_fields
from labkit.twin.kube.options import Target, WriteOptions
from labkit.twin.kube.patch import PatchError, json_patch, merge_patch
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.store import Record, dump
from labkit.twin.kube.strategic import strategic_merge

JSON, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
APPLY_CBOR = "application/apply-patch+cbor"


def accepted_types(resource: Resource) -> tuple[str, ...]:
    """Return the media types of patches that a resource takes."""
    return (JSON, MERGE, APPLY) if resource.custom else (JSON, MERGE, STRATEGIC, APPLY)


def patched(resource: Resource, target: Object, patch: Any, kind: str) -> Object:
    """Return an object with a patch laid over it.

    Raises:
        ApiError: the patch cannot be applied (422).
    """
    try:
        if kind == JSON:
            result = json_patch(target, patch)
        elif kind == STRATEGIC:
            result = strategic_merge(target, patch, resource.shape)
        else:
            result = merge_patch(target, patch)
    except PatchError as exc:
        raise _rejected(str(exc)) from exc
    if not isinstance(result, dict):
        raise _rejected("the patched value is no object")
    return result


def _rejected(why: str) -> ApiError:
    text = f"the server rejected our request due to an error in our request: {why}"
    return status.failure(422, "Invalid", text, {})


def patch(core: Core, target: Target, body: Any, kind: str, options: WriteOptions) -> Record:
    """Patch an object or its status with a decoded patch of one of the media types of this module but apply."""
    resource = target.resource
    old = core.get(resource, target.namespace, target.name)
    current = {**old.object, "apiVersion": resource.group_version, "kind": resource.kind}
    # What the patch shares with the stored object must be copied: the server may change what it is given.
    return core.update(target, clone(patched(resource, current, body, kind)), options)


def apply(core: Core, target: Target, body: Object, options: WriteOptions) -> tuple[Record, bool]:
    """Apply a configuration under a field manager.

    Returns:
        The object and whether it was created.

    Raises:
        ApiError: conflicts with other managers (409), and everything that an update raises.
    """
    resource = target.resource
    if body.get("metadata", {}).get("managedFields"):
        raise status.bad_request("metadata.managedFields must be nil")
    applied = core.read(resource, body, options)
    core.check_sent_name(target, applied.setdefault("metadata", {}))
    old = core.store.get(resource.key, target.namespace if resource.namespaced else "", target.name)
    if old is None and target.subresource:
        raise status.not_found(resource.plural, resource.group, target.name)
    new, claims = apply_fields(
        old.object if old else None,
        applied,
        resource.shape,
        Owner(options.manager, "Apply", target.subresource, resource.group_version),
        time=core.now(),
        force=options.force,
        ignored=_ignored(resource, target.subresource),
    )
    new = clone(new)
    if old is None:
        return core.insert(target, new, options, claims), True
    if options.manager == "kubectl" and LAST_APPLIED in new["metadata"].get("annotations", {}):
        new["metadata"]["annotations"][LAST_APPLIED] = f"{dump(body).decode()}\n"
    return core.replace(target, old, new, options, claims), False


def _ignored(resource: Resource, subresource: str) -> tuple[str, ...]:
    if subresource == "status":
        return ("spec",)
    return ("status",) if resource.status else ()
