"""What is in the API, of the kinds that a person would miss: names and dates, each kind by one call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from labkit.facts.etcd import ObjectRow
from labkit.systems.kubernetes import Cluster, KubeError

EVIDENCE = ("kube-system", "labkit-etcd-restore")
"""The ConfigMap that tells of the last restore."""
_KINDS: Mapping[str, str] = {
    "Namespace": "/api/v1/namespaces",
    "PersistentVolume": "/api/v1/persistentvolumes",
    "PersistentVolumeClaim": "/api/v1/persistentvolumeclaims",
    "Secret": "/api/v1/secrets",
    "ConfigMap": "/api/v1/configmaps",
    "Service": "/api/v1/services",
    "Deployment": "/apis/apps/v1/deployments",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "CronJob": "/apis/batch/v1/cronjobs",
    "Ingress": "/apis/networking.k8s.io/v1/ingresses",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "IngressRoute": "/apis/traefik.io/v1alpha1/ingressroutes",
    "Certificate": "/apis/cert-manager.io/v1/certificates",
    "GitRepository": "/apis/source.toolkit.fluxcd.io/v1/gitrepositories",
    "Kustomization": "/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations",
    "HelmRelease": "/apis/helm.toolkit.fluxcd.io/v2/helmreleases",
    "Volume": "/apis/longhorn.io/v1beta2/volumes",
    "RecurringJob": "/apis/longhorn.io/v1beta2/recurringjobs",
}
_OWN = re.compile(r"\.node-password\.k3s$|^sh\.helm\.release\.|^kube-root-ca\.crt$")
"""Names of what comes and goes with something else."""
_SIDE_BY_SIDE = 6


def read_objects(cluster: Cluster) -> tuple[ObjectRow, ...]:
    """Return the objects of the kinds above, in order of kind and name."""
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
        lists = pool.map(lambda kind: _read_kind(cluster, kind), _KINDS)
        return tuple(row for rows in lists for row in rows)


def _read_kind(cluster: Cluster, kind: str) -> list[ObjectRow]:
    try:
        table = cluster.table(_KINDS[kind])
    except KubeError as exc:
        if exc.status == 404:  # the kind is not there
            return []
        raise
    rows = [_row(kind, row.metadata) for row in table.rows if not _OWN.search(str(row.metadata.get("name")))]
    return sorted((row for row in rows if (row.namespace, row.name) != EVIDENCE), key=lambda row: row.key)


def _row(kind: str, meta: Mapping[str, Any]) -> ObjectRow:
    return ObjectRow(
        kind=kind,
        namespace=str(meta.get("namespace") or ""),
        name=str(meta["name"]),
        uid=str(meta.get("uid") or ""),
        created=datetime.fromisoformat(str(meta["creationTimestamp"])),
    )
