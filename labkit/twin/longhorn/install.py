"""What an installation of Longhorn puts into a cluster: CRDs, settings, the default target, workloads, classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from labkit.twin.controllers.objects import name_of, spec_of
from labkit.twin.kube.crd_files import install as install_crds
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import DEFAULT, DRIVER, ENGINE_IMAGES, NAMESPACE, SETTINGS, TARGETS
from labkit.twin.longhorn.settings import setting_objects

MANAGER = "longhorn-manager"
RESOURCES = "longhorn-default-resource"
CHOSEN = "longhorn-default-setting"
_SERVICES = {"longhorn-frontend": ("longhorn-ui", 80), "longhorn-backend": (MANAGER, 9500)}
_CLASS = "storageclasses.storage.k8s.io"


def install(
    api: LocalApi,
    version: str = "1.10.2",
    *,
    backup_target: str = "",
    poll_interval: int = 300,
    settings: Mapping[str, Any] | None = None,
    replicas: int = 3,
    reclaim: str = "Delete",
) -> None:
    """Put Longhorn into a cluster as its chart does; whoever runs `start` then finds it.

    Args:
        api: the cluster.
        version: 1.9.2 or 1.10.2, for which the CRDs are there.
        backup_target: the URL of the default target; none when empty.
        poll_interval: seconds.
        settings: by their own names, such as `default-replica-count`.
        replicas: of the volumes of the storage class `longhorn`.
        reclaim: its reclaim policy.
    """
    install_crds(api.core, f"longhorn-v{version}", manager="helm")
    chosen = objects(
        version, backup_target=backup_target, poll_interval=poll_interval, settings=settings,
        replicas=replicas, reclaim=reclaim,
    )  # fmt: skip
    for resource, body in chosen:
        _create(api, resource, body)


def objects(
    version: str,
    *,
    backup_target: str = "",
    poll_interval: int = 300,
    settings: Mapping[str, Any] | None = None,
    replicas: int = 3,
    reclaim: str = "Delete",
) -> list[tuple[str, Object]]:
    """Return what `install` creates beside the CRDs, in order, each with its resource."""
    target = {"backup-target": backup_target, "backup-target-credential-secret": "",
              "backupstore-poll-interval": str(poll_interval)}  # fmt: skip
    labels = {"app": MANAGER}
    pod = {"containers": [{"name": MANAGER, "image": f"longhornio/{MANAGER}:v{version}"}]}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    services = [
        ("services", _object("v1", "Service", name, {
            "selector": {"app": app}, "ports": [{"name": "http", "port": port, "targetPort": 8000}],
        }))
        for name, (app, port) in _SERVICES.items()
    ]  # fmt: skip
    return [
        ("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        ("configmaps", _config(RESOURCES, "default-resource.yaml", target)),
        ("configmaps", _config(CHOSEN, "default-setting.yaml", dict(settings or {}))),
        *services,
        (_CLASS, storage_class(replicas, reclaim)),
        ("daemonsets.apps", _object("apps/v1", "DaemonSet", MANAGER, spec)),
    ]


def storage_class(replicas: int = 3, reclaim: str = "Delete", *, default: bool = True) -> Object:
    """Return the class `longhorn`."""
    notes = {"storageclass.kubernetes.io/is-default-class": "true" if default else "false"}
    return {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": DRIVER,
        "metadata": {"name": "longhorn", "annotations": notes}, "allowVolumeExpansion": True,
        "reclaimPolicy": reclaim, "volumeBindingMode": "Immediate",
        "parameters": {"numberOfReplicas": str(replicas), "staleReplicaTimeout": "30", "fromBackup": "",
                       "fsType": "ext4", "dataLocality": "disabled", "dataEngine": "v1",
                       "backupTargetName": "default"},
    }  # fmt: skip


def version_of(manager: Object) -> str:
    """Return the version of Longhorn by the image of its manager."""
    containers = spec_of(spec_of(manager).get("template") or {}).get("containers") or [{}]
    return str(containers[0].get("image", "")).rpartition(":v")[2] or "1.10.2"


def first_objects(hub: Hub) -> None:
    """Make what longhorn-manager makes at its start: settings, the default target, the engine image, the driver."""
    chosen = {key.strip(): value for key, value in read_config(hub.api, CHOSEN).items()}
    for setting in setting_objects(hub.version, chosen):
        old = hub.get(SETTINGS, name_of(setting))
        if old is None:
            hub.api.create(SETTINGS, setting)
            hub.status(SETTINGS, name_of(setting), {"applied": True})
        elif name_of(setting) == "current-longhorn-version" and old["value"] != setting["value"]:
            hub.patch(SETTINGS, name_of(setting), {"value": setting["value"]})
    follow_target(hub)
    image = f"ei-{hub.seed.hex('engine image', hub.version, length=8)}"
    if hub.get(ENGINE_IMAGES, image) is None:
        hub.create(ENGINE_IMAGES, image, {"image": hub.engine_image})
        hub.status(ENGINE_IMAGES, image, {"state": "deployed", "refCount": 0, "ownerID": ""})
    _create(hub.api, "csidrivers.storage.k8s.io", {
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER},
        "spec": {"attachRequired": True, "podInfoOnMount": True},
    })  # fmt: skip
    static = storage_class()
    static["metadata"] = {"name": hub.settings.text("default-longhorn-static-storage-class")}
    _create(hub.api, _CLASS, {**static, "parameters": {"staleReplicaTimeout": "30"}})


def follow_target(hub: Hub) -> None:
    """Bring the default target in line with the ConfigMap, which goes before what a hand has set."""
    given = read_config(hub.api, RESOURCES)
    url, poll = str(given.get("backup-target") or ""), str(given.get("backupstore-poll-interval") or "300")
    spec = {"backupTargetURL": url, "credentialSecret": str(given.get("backup-target-credential-secret") or ""),
            "pollInterval": go_duration(int(poll))}  # fmt: skip
    if hub.get(TARGETS, DEFAULT) is None:
        hub.create(TARGETS, DEFAULT, spec)
    elif given:
        hub.patch(TARGETS, DEFAULT, {"spec": spec})


def read_config(api: LocalApi, name: str) -> dict[str, Any]:
    """Return the one YAML text that a ConfigMap of Longhorn holds, as a mapping."""
    found = api.get("configmaps", name, NAMESPACE)
    for text in ((found or {}).get("data") or {}).values():
        read = yaml.safe_load(text)
        if isinstance(read, dict):
            return {str(k): v for k, v in read.items() if v is not None}
    return {}


def go_duration(seconds: int) -> str:
    """Write seconds as Go does: `5m0s`, `1h0m0s`, `30s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


def _config(name: str, key: str, values: Mapping[str, Any]) -> Object:
    found = _object("v1", "ConfigMap", name, None)
    return {**found, "data": {key: yaml.safe_dump(dict(values)) if values else ""}}


def _object(version: str, kind: str, name: str, spec: Any) -> Object:
    body: Object = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}
    return body if spec is None else {**body, "spec": spec}


def _create(api: LocalApi, resource: str, body: Object) -> None:
    try:
        api.create(resource, body)
    except ApiError as exc:
        if exc.reason != "AlreadyExists":
            raise
