"""OpenAPI documents: which resources take which query parameters, and the schemas of custom kinds.

This is what kubectl looks at before it sends: whether the server validates fields and knows dry-run.
"""

from __future__ import annotations

import hashlib
from typing import Any

from labkit.twin.kube.custom import schema_of
from labkit.twin.kube.door import Object
from labkit.twin.kube.registry import Registry
from labkit.twin.kube.resources import Resource

_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")
]
_PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
# An empty document in the encoding that clients ask for first: the field `swagger` with the value "2.0".
SWAGGER_PROTOBUF = b"\x0a\x032.0"
PROTOBUF_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def swagger() -> Object:
    """Return the document of version 2, which holds nothing: version 3 has it all."""
    return {"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": {}, "definitions": {}}


def index(registry: Registry) -> Object:
    """Return the documents of version 3 by path, with a hash that changes with the resources."""
    mark = hashlib.sha256(str(registry.generation).encode()).hexdigest()[:32].upper()
    found = {_path(group, version) for group, versions in registry.groups().items() for version in versions}
    return {"paths": {p: {"serverRelativeURL": f"/openapi/v3/{p}?hash={mark}"} for p in sorted(found)}}


def document(registry: Registry, path: str) -> Object | None:
    """Return the document of one group and version, such as `apis/apps/v1`; None when it is not served."""
    for group, versions in registry.groups().items():
        for version, resources in versions.items():
            if _path(group, version) == path:
                return _document(f"/{path}", resources)
    return None


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _document(root: str, resources: list[Resource]) -> Object:
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for resource in resources:
        if not resource.stored:
            continue
        where = f"{root}/namespaces/{{namespace}}" if resource.namespaced else root
        paths[f"{where}/{resource.plural}"] = {"post": _operation(resource, "post")}
        paths[f"{where}/{resource.plural}/{{name}}"] = {
            method: _operation(resource, method) for method in ("get", "put", "patch", "delete")
        }
        schemas[_schema_name(resource)] = _schema(resource)
    info = {"title": "Kubernetes", "version": "v1"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _operation(resource: Resource, method: str) -> Object:
    operation: Object = {
        "parameters": [] if method == "get" else _PARAMETERS,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": method,
        "x-kubernetes-group-version-kind": _kind(resource),
    }
    if method == "patch":
        operation["requestBody"] = {"content": {media: {"schema": {"type": "object"}} for media in _PATCHES}}
    return operation


def _kind(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _schema_name(resource: Resource) -> str:
    turned = ".".join(reversed(resource.group.split("."))) if resource.custom else f"io.k8s.api.{resource.group}"
    return f"{turned}.{resource.version}.{resource.kind}"


def _schema(resource: Resource) -> Object:
    own = schema_of(resource) if resource.custom else {"type": "object"}
    return {**own, "x-kubernetes-group-version-kind": [_kind(resource)]}
