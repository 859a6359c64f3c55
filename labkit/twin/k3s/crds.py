"""The resources that k3s itself defines."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Object

SNAPSHOT_FILES = "etcdsnapshotfiles.k3s.cattle.io"
_TEXT, _BOOL = {"type": "string"}, {"type": "boolean"}
_ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def k3s_crds() -> list[Object]:
    """Return the CRDs that every cluster of k3s has."""
    return [
        _crd("k3s.cattle.io", "ETCDSnapshotFile", _snapshot_file(), _snapshot_columns(), scope="Cluster", status=True),
        _crd("k3s.cattle.io", "Addon", _spec(source=_TEXT, checksum=_TEXT),
             [_column("Source", ".spec.source"), _column("Checksum", ".spec.checksum")]),
        _crd("helm.cattle.io", "HelmChart", {"spec": _ANY, "status": _ANY},
             [_column("Chart", ".spec.chart"), _column("Version", ".spec.version")], status=True),
        _crd("helm.cattle.io", "HelmChartConfig", _spec(valuesContent=_TEXT, failurePolicy=_TEXT), []),
    ]  # fmt: skip


def _spec(**fields: Any) -> Object:
    return {"spec": {"type": "object", "properties": fields}}


def _snapshot_file() -> Object:
    store = {"type": "object", "properties": {
        "bucket": _TEXT, "endpoint": _TEXT, "endpointCA": _TEXT, "insecure": _BOOL, "prefix": _TEXT, "region": _TEXT,
        "skipSSLVerify": _BOOL, "bucketLookup": _TEXT,
    }}  # fmt: skip
    spec = {
        "type": "object",
        "required": ["location", "nodeName", "snapshotName"],
        "properties": {
            "location": _TEXT, "nodeName": _TEXT, "snapshotName": _TEXT, "s3": store,
            "metadata": {"type": "object", "additionalProperties": _TEXT},
        },
    }  # fmt: skip
    error = {"type": "object", "properties": {"message": _TEXT, "time": {**_TEXT, "format": "date-time"}}}
    size = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    status = {
        "type": "object",
        "properties": {
            "creationTime": {**_TEXT, "format": "date-time"}, "readyToUse": _BOOL, "size": size, "error": error,
        },
    }  # fmt: skip
    return {"spec": spec, "status": status}


def _snapshot_columns() -> list[Object]:
    return [
        _column("SnapshotName", ".spec.snapshotName"), _column("Node", ".spec.nodeName"),
        _column("Location", ".spec.location"), _column("Size", ".status.size"),
        _column("CreationTime", ".status.creationTime"),
    ]  # fmt: skip


def _column(name: str, path: str) -> Object:
    return {"name": name, "jsonPath": path, "type": "string"}


def _crd(
    group: str, kind: str, fields: Object, columns: list[Object], *, scope: str = "Namespaced", status: bool = False
) -> Object:
    singular = kind.lower()
    schema = {
        "type": "object",
        "properties": {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}, **fields},
    }
    version: Object = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": columns,
    }  # fmt: skip
    if status:
        version["subresources"] = {"status": {}}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": f"{singular}s", "singular": singular}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{group}"},
        "spec": {"group": group, "names": names, "scope": scope, "versions": [version]},
    }
