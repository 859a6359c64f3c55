"""Read Flux: each list once, side by side; pods only where something is not ready."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from labkit.facts.flux import NAMESPACE, FluxFacts, FluxObject, SecretSeen, Workload
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.flux.parse import event_time, parse_object, parse_workload
from labkit.systems.flux.secrets import Wanted, seen_secret, wanted_seen, wanted_values
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.systems.objects import list_objects

_SOURCE, _KUSTOMIZE, _HELM = (f"/apis/{name}.toolkit.fluxcd.io" for name in ("source", "kustomize", "helm"))
LISTS: Mapping[str, tuple[str, ...]] = {
    "GitRepository": (f"{_SOURCE}/v1/gitrepositories", f"{_SOURCE}/v1beta2/gitrepositories"),
    "OCIRepository": (f"{_SOURCE}/v1/ocirepositories", f"{_SOURCE}/v1beta2/ocirepositories"),
    "HelmRepository": (f"{_SOURCE}/v1/helmrepositories", f"{_SOURCE}/v1beta2/helmrepositories"),
    "HelmChart": (f"{_SOURCE}/v1/helmcharts", f"{_SOURCE}/v1beta2/helmcharts"),
    "Kustomization": (f"{_KUSTOMIZE}/v1/kustomizations", f"{_KUSTOMIZE}/v1beta2/kustomizations"),
    "HelmRelease": (f"{_HELM}/v2/helmreleases", f"{_HELM}/v2beta2/helmreleases", f"{_HELM}/v2beta1/helmreleases"),
}
"""Where each kind is listed, the newest version first."""
_APPS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_META = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_WIDTH = 8
_SETTLE = 10.0


def read_flux(lab: Lab, access: Access) -> FluxFacts:
    """Return what is there of Flux.

    Raises:
        SystemDown: the cluster does not answer, or the Git server's host key is not known.
        InputError: the deploy key or the age key cannot be used.
    """
    wanted = wanted_values(lab, access)
    cluster = open_cluster(lab, access)
    with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
        objects = pool.submit(_settled_objects, cluster, access)
        workloads = pool.submit(read_workloads, cluster)
        space = pool.submit(cluster.find, f"/api/v1/namespaces/{NAMESPACE}")
        secrets = pool.submit(_secrets, cluster, wanted)
        crds = pool.submit(_stored_versions, cluster)
        return FluxFacts(
            namespace=space.result() is not None,
            installed=_version(workloads.result()),
            crds=crds.result(),
            secrets=secrets.result(),
            objects=objects.result(),
            workloads=workloads.result(),
            wanted_secrets=wanted_seen(wanted),
            managed_by=_manager(workloads.result()),
            read_at=datetime.now(UTC),
        )


def read_state(cluster: Cluster) -> FluxFacts:
    """Return only what a wait looks at: Flux's objects, and workloads with their problems."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        objects, workloads = pool.submit(read_objects, cluster), pool.submit(read_workloads, cluster)
        return FluxFacts(objects=objects.result(), workloads=workloads.result(), read_at=datetime.now(UTC))


def _settled_objects(cluster: Cluster, access: Access) -> tuple[FluxObject, ...]:
    """Read again, for a moment, while Flux is at work on something: its conditions say nothing meanwhile."""
    end = time.monotonic() + access.clock.real(_SETTLE, least=5.0)
    while True:
        found = read_objects(cluster)
        trying = [one for one in found if not one.suspended and (one.condition("Reconciling") or one.is_rechecking)]
        if not trying or time.monotonic() > end:
            return found
        access.clock.sleep(1.0)


def read_objects(cluster: Cluster) -> tuple[FluxObject, ...]:
    """Return all sources, Kustomizations and HelmReleases of all namespaces."""

    def rows(kind: str) -> list[FluxObject]:
        return [parse_object(item, kind) for item in list_objects(cluster, *LISTS[kind])]

    return tuple(row for found in _side_by_side(rows, LISTS) for row in found)


def read_workloads(cluster: Cluster) -> tuple[Workload, ...]:
    """Return all Deployments, StatefulSets and DaemonSets; with their pods where not all are ready."""

    def items(kind: str) -> list[dict[str, Any]]:
        return list(list_objects(cluster, f"/apis/apps/v1/{_APPS[kind]}"))

    found = dict(zip(_APPS, _side_by_side(items, _APPS), strict=True))
    rows = [(kind, item, parse_workload(item, kind)) for kind, some in found.items() for item in some]
    spaces = {row.namespace for _, _, row in rows if not row.is_ready or row.configs}
    pods = [pod for some in _side_by_side(lambda space: _pods(cluster, space), sorted(spaces)) for pod in some]
    told = _warnings(cluster, pods)
    return tuple(parse_workload(item, kind, pods, told) if row.namespace in spaces else row for kind, item, row in rows)


def read_workload(cluster: Cluster, identity: str) -> Workload | None:
    """Return one of them, `Kind/namespace/name`, with its pods where not all are ready; None when it is gone."""
    kind, space, name = identity.split("/")
    item = cluster.find(f"/apis/apps/v1/namespaces/{space}/{_APPS[kind]}/{name}")
    if item is None:
        return None
    row = parse_workload(item, kind)
    if row.is_ready:
        return row
    pods = _pods(cluster, space)
    return parse_workload(item, kind, pods, _warnings(cluster, pods))


def _warnings(cluster: Cluster, pods: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the newest warning about each pod that is on its node and does not start, by the pod's uid."""
    waiting = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Pending"
               and (pod.get("spec") or {}).get("nodeName")]  # fmt: skip
    wanted = {str(pod["metadata"]["uid"]) for pod in waiting}
    found: dict[str, tuple[str, str]] = {}
    for space in sorted({str(pod["metadata"]["namespace"]) for pod in waiting}):
        for event in cluster.items(f"/api/v1/namespaces/{space}/events", fieldSelector="type=Warning"):
            uid, when = str(event["involvedObject"].get("uid")), event_time(event)
            if uid in wanted and event.get("reason") != "FailedScheduling" and when >= found.get(uid, ("", ""))[0]:
                found[uid] = (when, f"{event.get('reason')}: {' '.join(str(event.get('message')).split())}")
    return {uid: text for uid, (_, text) in found.items()}


def _pods(cluster: Cluster, space: str) -> list[dict[str, Any]]:
    return list(cluster.items(f"/api/v1/namespaces/{space}/pods"))


def _side_by_side(ask: Callable[[str], list[Any]], names: Iterable[str]) -> list[list[Any]]:
    with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
        return list(pool.map(ask, names))


def _secrets(cluster: Cluster, wanted: Wanted) -> tuple[SecretSeen, ...]:
    found = list_objects(cluster, f"/api/v1/namespaces/{NAMESPACE}/secrets")
    return tuple(seen_secret(item, wanted) for item in found if item.get("type", "Opaque") == "Opaque")


def _stored_versions(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """The versions that objects of Flux may still be stored in, by definition."""
    names = [name for name in definition_names(cluster) if name.endswith(".toolkit.fluxcd.io")]

    def versions(name: str) -> list[str]:
        return list(((cluster.find(f"{_CRDS}/{name}") or {}).get("status") or {}).get("storedVersions") or ())

    return {name: tuple(found) for name, found in zip(names, _side_by_side(versions, names), strict=True)}


def definition_names(cluster: Cluster) -> list[str]:
    """Return the names of all custom resource definitions, without their schemas."""
    names, token = [], ""
    while True:
        query = {"limit": 500, **({"continue": token} if token else {})}
        page: dict[str, Any] = json.loads(cluster.request("GET", _CRDS, query=query, accept=_META))
        names += [str(item["metadata"]["name"]) for item in page.get("items") or ()]
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return names


def _version(workloads: Iterable[Workload]) -> str:
    found = {one.labels.get("app.kubernetes.io/version", "") for one in workloads if _is_flux(one)}
    return min(found, default="")


def _is_flux(one: Workload) -> bool:
    return one.namespace == NAMESPACE and one.labels.get("app.kubernetes.io/part-of") == "flux"


def _manager(workloads: Iterable[Workload]) -> str:
    found = {one.labels.get("app.kubernetes.io/managed-by", "") for one in workloads if _is_flux(one)}
    return next((name for name in sorted(found) if name and name.lower() not in ("flux", "labkit")), "")
