"""Read Longhorn and what is bound to its volumes: each list once, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from labkit.facts.evidence import CONFIG_MAP, LABEL, PREFIX, Evidence, Leftover
from labkit.facts.longhorn import NAMESPACE, Backup, Claim, LonghornFacts, Volume
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster, KubeError
from labkit.systems.longhorn import parse
from labkit.systems.longhorn.claims import parse_claim, parse_pv, users_of
from labkit.systems.longhorn.paths import own
from labkit.systems.objects import list_objects

_PODS = "/api/v1/pods"
_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_MOST_SPACES = 8
_WIDTH = 8
_EVIDENCE = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG_MAP}"
_DRIVER = "longhorn-csi-plugin"
_MANAGER = "longhorn-manager"
_KINDS = ("volumes", "replicas", "backuptargets", "backupvolumes", "backups", "recurringjobs", "nodes", "settings")


def read_longhorn(lab: Lab, access: Access) -> LonghornFacts:
    """Return Longhorn, all claims and all PersistentVolumes; a cluster without Longhorn is no error.

    Raises:
        SystemDown: the cluster does not answer.
    """
    return read_facts(open_cluster(lab, access))


def read_facts(cluster: Cluster) -> LonghornFacts:
    """Return the same of a cluster that is open already."""
    with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
        lists = {kind: pool.submit(_list, cluster, own(kind)) for kind in _KINDS}
        snapshots = pool.submit(_drill_snapshots, cluster)
        lists["namespaces"] = pool.submit(_list, cluster, "/api/v1/namespaces", labelSelector=LABEL)
        lists["pvs"] = pool.submit(_list, cluster, "/api/v1/persistentvolumes")
        claims = pool.submit(_claims, cluster)
        sets = pool.submit(_list, cluster, f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets")
        evidence = pool.submit(_evidence, cluster)
        found = {name: future.result() for name, future in lists.items()}
        version, ready = _installed(sets.result())
        volumes = _with_progress(cluster, tuple(map(parse.parse_volume, found["volumes"])))
        backups = tuple(map(parse.parse_backup, found["backups"]))
        return LonghornFacts(
            installed=version,
            ready=ready,
            volumes=volumes,
            replicas=tuple(map(parse.parse_replica, found["replicas"])),
            targets=tuple(map(parse.parse_target, found["backuptargets"])),
            backup_volumes=tuple(map(parse.parse_backup_volume, found["backupvolumes"])),
            backups=backups,
            jobs=tuple(map(parse.parse_job, found["recurringjobs"])),
            nodes=tuple(map(parse.parse_node, found["nodes"])),
            settings={str(one["metadata"]["name"]): parse.parse_setting(one) for one in found["settings"]},
            claims=claims.result(),
            pvs=tuple(map(parse_pv, found["pvs"])),
            evidence=evidence.result(),
            leftovers=(*_leftovers(found, backups), *snapshots.result()),
            read_at=datetime.now(UTC),
        )


def _list(cluster: Cluster, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return all objects of a list; none when the cluster does not know the kind."""
    try:
        return list(cluster.items(path, **query))
    except KubeError as exc:
        if exc.status != 404:
            raise
        return []


def _claims(cluster: Cluster) -> tuple[Claim, ...]:
    """Return all claims, with the pods of those namespaces only that have a claim."""
    items = list(list_objects(cluster, "/api/v1/persistentvolumeclaims"))
    spaces = sorted({str(one["metadata"].get("namespace")) for one in items})
    paths = [f"/api/v1/namespaces/{space}/pods" for space in spaces] if len(spaces) <= _MOST_SPACES else [_PODS]
    pods: list[dict[str, Any]] = []
    for path in paths:
        pods += _list(cluster, path, fieldSelector=_ALIVE)
    users = users_of(pods)
    return tuple(parse_claim(one, users) for one in items)


def _with_progress(cluster: Cluster, volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
    """Ask the engines how far their restores are, if there is any restore."""
    if not any(volume.is_restoring for volume in volumes):
        return volumes
    engines = {str((one.get("spec") or {}).get("volumeName")): one for one in _list(cluster, own("engines"))}
    return tuple(
        volume.model_copy(update={"restore": parse.parse_progress(engines[volume.name])})
        if volume.is_restoring and volume.name in engines
        else volume
        for volume in volumes
    )


def _installed(sets: Iterable[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return Longhorn's version and whether its manager and its CSI driver run, by their DaemonSets."""
    by_name = {str(one["metadata"]["name"]): one for one in sets}
    manager = by_name.get(_MANAGER)
    if manager is None:
        return "", False
    image = manager_image(manager)
    version = image.rpartition(":")[2].partition("@")[0].removeprefix("v")
    return version or "unknown", all(_runs(by_name.get(name) or {}) for name in (_MANAGER, _DRIVER))


def manager_image(manager: Mapping[str, Any]) -> str:
    """Return the image of Longhorn's manager: it is on every node, and has the tools of file systems."""
    containers = manager["spec"]["template"]["spec"]["containers"]
    return str(next((one for one in containers if one.get("name") == _MANAGER), containers[0])["image"])


def _runs(found: Mapping[str, Any]) -> bool:
    status = found.get("status") or {}
    wanted = status.get("desiredNumberScheduled") or 0
    return bool(wanted) and (status.get("numberReady") or 0) > 0


def _evidence(cluster: Cluster) -> tuple[Evidence, ...]:
    """Return what drills have shown; an entry that cannot be read counts as none."""
    data = (cluster.find(_EVIDENCE) or {}).get("data") or {}
    found = [one for _, text in sorted(data.items()) if (one := parse_evidence(str(text)))]
    return tuple(found)


def parse_evidence(text: str) -> Evidence | None:
    """Read an entry of the ConfigMap; None for what is none."""
    try:
        return Evidence.model_validate(json.loads(text))
    except (ValueError, ValidationError):
        return None


def _leftovers(found: Mapping[str, list[dict[str, Any]]], backups: Iterable[Backup]) -> tuple[Leftover, ...]:
    """Return what carries the drill's label; a drill removes all of it but its last good backup."""
    kinds = (("Namespace", "namespaces"), ("PersistentVolume", "pvs"), ("Volume", "volumes"))
    rows = [
        Leftover(kind=kind, name=str(one["metadata"]["name"]), of=_label(one))
        for kind, plural in kinds
        for one in found[plural]
        if _label(one) and str(one["metadata"]["name"]).startswith(PREFIX)
    ]
    rows += [Leftover(kind="Backup", name=one.name, of=one.drill, volume=one.volume) for one in backups
             if one.drill and one.state != "Completed"]  # fmt: skip
    return tuple(rows)


def _drill_snapshots(cluster: Cluster) -> tuple[Leftover, ...]:
    """Return the snapshots that drills took: only their metadata is asked for, as volumes can have hundreds of them."""
    try:
        rows = cluster.table(own("snapshots")).rows
    except KubeError as exc:
        if exc.status != 404:
            raise
        return ()
    seen = [row.metadata for row in rows]
    return tuple(
        Leftover(
            kind="Snapshot", name=str(one["name"]), volume=str((one.get("labels") or {}).get("longhornvolume") or "")
        )
        for one in seen
        if str(one["name"]).startswith(PREFIX)
    )


def _label(item: Mapping[str, Any]) -> str:
    return str((item["metadata"].get("labels") or {}).get(LABEL) or "")
