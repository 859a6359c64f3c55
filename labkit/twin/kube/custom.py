"""Objects of custom kinds: read by the schema of their version, completed and checked by it."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube import schema
from labkit.twin.kube.builtin_shapes import shape_of
from labkit.twin.kube.decode import Decoder
from labkit.twin.kube.door import Object
from labkit.twin.kube.names import check_annotations, check_labels
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.status import Cause


def schema_of(resource: Resource) -> dict[str, Any]:
    """Return the schema of a custom resource's version."""
    spec = resource.version_spec or {}
    found: dict[str, Any] = spec.get("schema", {}).get("openAPIV3Schema", {})
    return found


def read(resource: Resource, body: Object) -> tuple[Object, list[str]]:
    """Return the pruned object and the paths of what was dropped."""
    decoder = Decoder(resource)
    meta = decoder.read(body.get("metadata") or {}, shape_of("V1ObjectMeta"))
    unknown = [f"metadata.{path}" for path in decoder.unknown]
    rest = {k: v for k, v in body.items() if k not in ("metadata", "apiVersion", "kind")}
    unknown += schema.prune(rest, schema_of(resource))
    return {"apiVersion": body.get("apiVersion"), "kind": resource.kind, "metadata": meta, **rest}, unknown


def complete(resource: Resource, obj: Object) -> None:
    """Fill in the schema's defaults in place."""
    found = schema_of(resource)
    properties = {k: v for k, v in found.get("properties", {}).items() if k not in ("metadata", "apiVersion", "kind")}
    schema.fill_defaults(obj, {**found, "properties": properties})


def check(resource: Resource, obj: Object) -> list[Cause]:
    """Return what is wrong with an object of a custom kind."""
    meta = obj["metadata"]
    causes = check_labels(meta.get("labels", {}), "metadata.labels")
    causes += check_annotations(meta.get("annotations", {}), "metadata.annotations")
    found = schema_of(resource)
    properties = {k: v for k, v in found.get("properties", {}).items() if k != "metadata"}
    needed = [key for key in found.get("required", ()) if key != "metadata"]
    return causes + schema.validate(obj, {**found, "properties": properties, "required": needed})
