"""Helm's own records: one Secret for each revision of a release, as `helm history` reads them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi

_KIND = "helm.sh/release.v1"


@dataclass
class Revision:
    """One revision of a release: its chart, its values, its objects, and what became of it."""

    name: str
    namespace: str
    number: int
    status: str
    chart: str
    version: str
    app_version: str
    first: str
    last: str
    description: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    objects: list[Object] = field(default_factory=list)

    @property
    def secret(self) -> str:
        """The name of its Secret."""
        return f"sh.helm.release.v1.{self.name}.v{self.number}"


def save(api: LocalApi, revision: Revision, modified: int) -> None:
    """Write a revision to its Secret."""
    content = {
        "name": revision.name, "namespace": revision.namespace, "version": revision.number,
        "info": {"status": revision.status, "first_deployed": revision.first, "last_deployed": revision.last,
                 "description": revision.description},
        "chart": {"metadata": {"name": revision.chart, "version": revision.version,
                               "appVersion": revision.app_version}},
        "config": dict(revision.config), "manifest": json.dumps(revision.objects),
    }  # fmt: skip
    packed = base64.b64encode(gzip.compress(json.dumps(content).encode(), mtime=0))
    labels = {"owner": "helm", "name": revision.name, "status": revision.status, "version": str(revision.number),
              "modifiedAt": str(modified)}  # fmt: skip
    body = {
        "apiVersion": "v1", "kind": "Secret", "type": _KIND,
        "metadata": {"name": revision.secret, "namespace": revision.namespace, "labels": labels},
        "data": {"release": base64.b64encode(packed).decode()},
    }  # fmt: skip
    old = api.get("secrets", revision.secret, revision.namespace)
    if old is None:
        api.create("secrets", body)
    else:
        api.update("secrets", {**old, "metadata": {**old["metadata"], "labels": labels}, "data": body["data"]})


def load(api: LocalApi, namespace: str, name: str) -> list[Revision]:
    """Return the revisions of a release, the newest first."""
    secrets = api.list("secrets", namespace, {"owner": "helm", "name": name})
    return sorted((_read(one) for one in secrets), key=lambda one: -one.number)


def _read(secret: Object) -> Revision:
    packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
    tree = json.loads(gzip.decompress(packed))
    about, info = tree["chart"]["metadata"], tree["info"]
    return Revision(
        tree["name"], tree["namespace"], tree["version"], info["status"], about["name"], about["version"],
        about["appVersion"], info["first_deployed"], info["last_deployed"], info.get("description", ""),
        tree.get("config") or {}, json.loads(tree["manifest"]),
    )  # fmt: skip


def trim(api: LocalApi, namespace: str, name: str, most: int) -> None:
    """Delete the oldest revisions beyond a number; 0 keeps all."""
    for old in load(api, namespace, name)[most:] if most else []:
        api.delete("secrets", old.secret, namespace)


def remove(api: LocalApi, namespace: str, name: str) -> None:
    """Delete all revisions."""
    for old in load(api, namespace, name):
        api.delete("secrets", old.secret, namespace)
