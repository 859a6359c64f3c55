"""Where Longhorn's objects are in the API, and its own REST service behind the API server. Pure but for `ask`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.longhorn import NAMESPACE
from labkit.systems.kubernetes import Cluster, KubeError

VERSION = "longhorn.io/v1beta2"
ROOT = f"/apis/{VERSION}/namespaces/{NAMESPACE}"
_REST = f"/api/v1/namespaces/{NAMESPACE}/services/longhorn-frontend:80/proxy/v1"


def own(plural: str, name: str = "") -> str:
    """Return the path of a kind of Longhorn, or of one object of it."""
    return f"{ROOT}/{plural}/{name}" if name else f"{ROOT}/{plural}"


def volume_act(cluster: Cluster, volume: str, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Have Longhorn's REST service act on a volume, such as `snapshotBackup`; return its answer.

    It goes through the API server's proxy for the service longhorn-frontend, so no port has to be forwarded. Only what
    is made this way gets all the labels that Longhorn's own interface gives.

    Raises:
        StepFailed: Longhorn refuses it; the message has its words.
    """
    path = f"{_REST}/volumes/{volume}"
    try:
        data = cluster.request("POST", path, query={"action": action}, body=dict(body), again=False)
    except KubeError as exc:
        raise StepFailed(
            f"volume {volume}: expected Longhorn to carry out {action}, got {exc.status}: {exc.said}",
            next_step="look at Longhorn's pods: kubectl -n longhorn-system get pods",
        ) from exc
    found: dict[str, Any] = json.loads(data) if data.strip() else {}
    return found
