"""The four patch types on top of updates."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube import status
from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.managed import Owner, apply_fields
from labkit.twin.kube.options import WriteOptions
from labkit.twin.kube.patch import PatchError, json_patch, merge_patch
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.store import Record
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


def patch(
    core: Core,
    resource: Resource,
    namespace: str,
    name: str,
    body: Any,
    kind: str,
    options: WriteOptions,
    subresource: str = "",
) -> Record:
    """Patch an object or its status.

    Args:
        body: the patch, decoded.
        kind: the patch's media type, one of those in this module but apply.
    """
    old = core.get(resource, namespace, name)
    current = {**old.object, "apiVersion": resource.group_version, "kind": resource.kind}
    result = patched(resource, current, body, kind)
    return core.update(resource, namespace, name, clone(result), options, subresource)


def apply(
    core: Core,
    resource: Resource,
    namespace: str,
    name: str,
    body: Object,
    options: WriteOptions,
    subresource: str = "",
) -> tuple[Record, bool]:
    """Apply a configuration under a field manager.

    Returns:
        The object and whether it was created.

    Raises:
        ApiError: conflicts with other managers (409), and everything that an update raises.
    """
    if body.get("metadata", {}).get("managedFields"):
        raise status.bad_request("metadata.managedFields must be nil")
    applied = core.read(resource, body, options)
    applied["metadata"].setdefault("name", name)
    if applied["metadata"]["name"] != name:
        raise status.bad_request(
            f"the name of the object ({applied['metadata']['name']}) does not match the name on the URL ({name})"
        )
    old = core.store.get(resource.key, namespace if resource.namespaced else "", name)
    if old is None and subresource:
        raise status.not_found(resource.plural, resource.group, name)
    owner = Owner(options.manager, "Apply", subresource, resource.group_version)
    new, claims = apply_fields(
        old.object if old else None,
        applied,
        resource.shape,
        owner,
        core.now(),
        force=options.force,
        ignored=_ignored(resource, subresource),
    )
    new = clone(new)
    if old is None:
        return core.insert(resource, namespace, new, options, claims), True
    core.place(resource, namespace, new["metadata"])
    return core.replace(resource, old, new, options, subresource, claims), False


def _ignored(resource: Resource, subresource: str) -> tuple[str, ...]:
    if subresource == "status":
        return ("spec",)
    return ("status",) if resource.status else ()
