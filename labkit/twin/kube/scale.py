"""The scale subresource: a view of the replicas of a scalable object."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.door import Object
from labkit.twin.kube.options import Target, WriteOptions
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.selectors import selector_text
from labkit.twin.kube.status import no_such_resource
from labkit.twin.kube.store import Record

IDENTITY = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(resource: Resource, record: Record) -> Object:
    """Return the Scale of an object."""
    if resource.scale is None:
        raise no_such_resource()
    obj = record.object
    spec, state = _dig(obj, resource.scale.spec), _dig(obj, resource.scale.status)
    selector = _dig(obj, resource.scale.selector) if resource.scale.selector else None
    text = selector_text(selector) if isinstance(selector, dict) else selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: record.meta[key] for key in IDENTITY if key in record.meta},
        "spec": {"replicas": spec} if spec else {},
        "status": {"replicas": state or 0} | ({"selector": text} if text else {}),
    }


def set_scale(core: Core, target: Target, scale: Object, options: WriteOptions) -> Record:
    """Write the replicas of a Scale into its object."""
    resource = target.resource
    if resource.scale is None:
        raise no_such_resource()
    old = core.get(resource, target.namespace, target.name)
    new = clone(old.object)
    new["metadata"].pop("managedFields", None)
    if version := scale.get("metadata", {}).get("resourceVersion"):
        new["metadata"]["resourceVersion"] = version
    place = new
    *parents, last = resource.scale.spec.strip(".").split(".")
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = int((scale.get("spec") or {}).get("replicas") or 0)
    main = Target(resource, target.namespace, target.name)
    return core.replace(main, old, new, options)


def _dig(obj: Any, path: str) -> Any:
    for key in path.strip(".").split("."):
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj
