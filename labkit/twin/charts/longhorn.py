"""The chart of Longhorn, by version: what it makes itself; the manager makes the rest when it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from labkit.twin.charts.release import (
    Program,
    Release,
    account,
    admin,
    chosen,
    daemon_set,
    deployment,
    thing,
    wide,
)
from labkit.twin.charts.semver import Version, parse_version
from labkit.twin.kube.crd_files import bundles, definitions
from labkit.twin.kube.door import Object
from labkit.twin.manifests import dump

VERSIONS = {(1, 4): 4, (1, 5): 5, (1, 6): 4, (1, 7): 3, (1, 8): 2, (1, 9): 2, (1, 10): 2, (1, 11): 3, (1, 12): 1}
BACKUP_STORE_SINCE = Version(1, 8)
"""Since then the backup target stands in `defaultBackupStore`; under `defaultSettings` it is ignored."""
BACKUP_STORE = {"backupTarget": "backup-target", "backupTargetCredentialSecret": "backup-target-credential-secret",
                "pollInterval": "backupstore-poll-interval"}  # fmt: skip
_OLD_STORE = ("backup-target", "backup-target-credential-secret", "backupstore-poll-interval")
_ACCOUNT = "longhorn-service-account"


def crds(release: Release) -> list[Object]:
    """Return the CRDs of the version, or of the nearest one before it that is at hand."""
    have = {parse_version(name.removeprefix("longhorn-")): name for name in bundles() if name.startswith("longhorn-")}
    versions = sorted(version for version in have if version is not None)
    wanted = _version(release)
    fitting = [one for one in versions if (one.major, one.minor) <= (wanted.major, wanted.minor)]
    return definitions(have[fitting[-1] if fitting else versions[0]])


def render(release: Release) -> list[Object]:
    """Return managers, deployer, UI, Services and the ConfigMaps with settings."""
    manager, ui = _labels(release, "longhorn-manager"), _labels(release, "longhorn-ui")
    driver = _labels(release, "longhorn-driver-deployer")
    image = f"longhornio/longhorn-manager:{release.app_version}"
    return [
        account(_ACCOUNT, release, release.labels()),
        account("longhorn-ui-service-account", release, release.labels()),
        *admin("longhorn-role", release, release.labels(), _ACCOUNT),
        wide("scheduling.k8s.io/v1", "PriorityClass", "longhorn-critical", release.labels(), value=10**9,
             description="Ensure Longhorn pods have the highest priority to prevent any unexpected eviction"),
        *settings(release),
        daemon_set("longhorn-manager", release,
                   Program("longhorn-manager", image, ["longhorn-manager", "-d", "daemon"], {"manager": 9500},
                           cpu="50m", memory="128Mi"), manager, _ACCOUNT),
        deployment("longhorn-driver-deployer", release,
                   Program("longhorn-driver-deployer", image, ["longhorn-manager", "-d", "deploy-driver"]), driver,
                   user=_ACCOUNT),
        deployment("longhorn-ui", release,
                   Program("longhorn-ui", f"longhornio/longhorn-ui:{release.app_version}", ports={"http": 8000}), ui,
                   replicas=int(release.value("longhornUI.replicas", 2)), user="longhorn-ui-service-account"),
        _service("longhorn-backend", release, manager, ("manager", 9500, "manager")),
        _service("longhorn-frontend", release, ui, ("http", 80, "http")),
        _service("longhorn-admission-webhook", release, manager, ("admission-webhook", 9502, 9502)),
        _service("longhorn-recovery-backend", release, manager, ("recovery-backend", 9503, 9503)),
    ]  # fmt: skip


def settings(release: Release) -> list[Object]:
    """Return the ConfigMaps that the manager reads: settings, backup store, storage class."""
    labels = release.labels()
    values = {kebab(key): _text(value) for key, value in release.value("defaultSettings", {}).items()
              if value is not None}  # fmt: skip
    store: dict[str, str] = {}
    if _version(release) >= BACKUP_STORE_SINCE:
        values = {key: value for key, value in values.items() if key not in _OLD_STORE}
        wanted = release.value("defaultBackupStore", {})
        store = {name: _text(wanted[key]) for key, name in BACKUP_STORE.items() if wanted.get(key) is not None}
    texts = {
        "longhorn-default-setting": ("default-setting.yaml", values),
        "longhorn-default-resource": ("default-resource.yaml", store),
        "longhorn-storageclass": ("storageclass.yaml", storage_class(release)),
    }
    return [thing("v1", "ConfigMap", name, release, labels, data={key: dump(tree) if tree else ""})
            for name, (key, tree) in texts.items()]  # fmt: skip


def storage_class(release: Release) -> Object:
    """Return the class `longhorn`."""
    default = release.value("persistence.defaultClass", True)
    parameters = {
        "numberOfReplicas": str(release.value("persistence.defaultClassReplicaCount", 3)),
        "staleReplicaTimeout": "30", "fromBackup": "",
        "fsType": str(release.value("persistence.defaultFsType", "ext4")),
        "dataLocality": str(release.value("persistence.defaultDataLocality", "disabled")),
    }  # fmt: skip
    return {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "longhorn",
                     "annotations": {"storageclass.kubernetes.io/is-default-class": _text(bool(default))}},
        "provisioner": "driver.longhorn.io", "allowVolumeExpansion": True,
        "reclaimPolicy": str(release.value("persistence.reclaimPolicy", "Delete")),
        "volumeBindingMode": str(release.value("persistence.volumeBindingMode", "Immediate")),
        "parameters": parameters,
    }  # fmt: skip


def kebab(name: str) -> str:
    """Turn the name of a value into that of the setting: `nodeDrainPolicy` to `node-drain-policy`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "-" + match[1].lower(), name)


def _labels(release: Release, app: str) -> dict[str, str]:
    return {**release.labels(), "app": app}


def _service(name: str, release: Release, labels: Mapping[str, str], port: tuple[str, int, str | int]) -> Object:
    ports = [{"name": port[0], "port": port[1], "protocol": "TCP", "targetPort": port[2]}]
    spec = {"type": "ClusterIP", "selector": chosen(labels), "ports": ports}
    return thing("v1", "Service", name, release, labels, spec=spec)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _version(release: Release) -> Version:
    return parse_version(release.version) or Version(1, 10)
