"""Any object at its place in the API: paths from discovery, server-side apply of many, waiting for new kinds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.errors import StepFailed
from labkit.systems.access import Access
from labkit.systems.kubernetes import MANAGER, Cluster, KubeError

CRD = "CustomResourceDefinition"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Paths:
    """Where kinds are in a cluster's API, as its discovery says; each group version is asked once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, dict[str, tuple[str, bool]]] = {}
        self._guard = threading.Lock()

    def of(self, one: Mapping[str, Any]) -> str:
        """Return the path of an object.

        Raises:
            StepFailed: the cluster does not know its kind.
        """
        version, kind = str(one.get("apiVersion")), str(one.get("kind"))
        found = self._kinds(version).get(kind)
        if found is None:
            raise StepFailed(f"{kind} {version}: expected a kind that the cluster knows, got one that it does not",
                             next_step="install what brings the kind first")  # fmt: skip
        plural, namespaced = found
        metadata = one.get("metadata") or {}
        space = f"/namespaces/{metadata.get('namespace') or 'default'}" if namespaced else ""
        return f"{_root(version)}{space}/{plural}/{metadata.get('name')}"

    def _kinds(self, version: str) -> dict[str, tuple[str, bool]]:
        with self._guard:
            if not self._known.get(version):
                answer = self._cluster.find(_root(version)) or {}
                self._known[version] = {
                    str(one["kind"]): (str(one["name"]), bool(one.get("namespaced")))
                    for one in answer.get("resources") or ()
                    if "/" not in one["name"]
                }
            return self._known[version]


def _root(version: str) -> str:
    return f"/api/{version}" if "/" not in version else f"/apis/{version}"


def list_objects(cluster: Cluster, *paths: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of the first path that the cluster serves; nothing when it serves none."""
    for path in paths:
        try:
            yield from cluster.items(path)
        except KubeError as exc:
            if exc.status != 404:
                raise
        else:
            return


def apply_objects(
    cluster: Cluster, access: Access, objects: Iterable[Mapping[str, Any]], *, manager: str = MANAGER
) -> int:
    """Apply objects server-side: definitions and namespaces first, the rest when the new kinds are served.

    Returns:
        How many were applied.

    Raises:
        StepFailed: one is refused, or a new kind is not served in time.
    """
    everything = list(objects)
    first = [one for one in everything if one.get("kind") in (CRD, "Namespace")]
    rest = [one for one in everything if one.get("kind") not in (CRD, "Namespace")]
    paths = Paths(cluster)
    for one in first:
        apply_object(cluster, paths, one, manager=manager)
    for one in first:
        if one.get("kind") == CRD:
            _wait_until_served(cluster, access, str(one["metadata"]["name"]))
    for one in rest:
        apply_object(cluster, paths, one, manager=manager)
    return len(everything)


def apply_object(cluster: Cluster, paths: Paths, one: Mapping[str, Any], *, manager: str = MANAGER) -> dict[str, Any]:
    """Apply one object as a field manager that takes the fields it names.

    Raises:
        StepFailed: the API refuses it; names the object.
    """
    name = f"{one.get('kind')} {(one.get('metadata') or {}).get('name')}"
    try:
        done: dict[str, Any] = cluster.apply(paths.of(one), one, force=True, manager=manager)
    except KubeError as exc:
        raise StepFailed(f"{name}: expected the API to take it, got {exc.status}: {exc.said}") from exc
    return done


def _wait_until_served(cluster: Cluster, access: Access, name: str) -> None:
    def probe() -> bool | None:
        found = cluster.find(f"{_DEFINITIONS}/{name}") or {}
        conditions = (found.get("status") or {}).get("conditions") or ()
        ok = any(one.get("type") == "Established" and one.get("status") == "True" for one in conditions)
        return ok or None

    access.wait(probe, what=f"definition {name}", deadline=60.0, every=1.0, last=lambda: "not established",
                causes="look at its conditions: kubectl describe crd")  # fmt: skip
