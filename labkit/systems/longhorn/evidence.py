"""Evidence of drills and recoveries, kept in the cluster: one ConfigMap, an entry for each claim."""

from __future__ import annotations

from labkit.facts.evidence import CONFIG_MAP, Evidence
from labkit.facts.longhorn import NAMESPACE
from labkit.systems.kubernetes import Cluster, KubeError

_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


def keep(cluster: Cluster, evidence: Evidence) -> None:
    """File the evidence of one claim in place of what is there of it; that of other claims stays."""
    data = {evidence.key: evidence.model_dump_json()}
    try:
        cluster.patch(f"{_MAPS}/{CONFIG_MAP}", {"data": data})
    except KubeError as exc:
        if exc.status != 404:
            raise
        _create(cluster, data)


def _create(cluster: Cluster, data: dict[str, str]) -> None:
    metadata = {"name": CONFIG_MAP, "labels": {"app.kubernetes.io/managed-by": "labkit"}}
    try:
        cluster.post(_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    except KubeError as exc:
        if exc.status != 409:  # another drill was quicker
            raise
        cluster.patch(f"{_MAPS}/{CONFIG_MAP}", {"data": data})
