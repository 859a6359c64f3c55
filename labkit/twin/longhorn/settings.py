"""Longhorn's settings: their defaults, and how their values are written in each version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labkit.twin.controllers.objects import name_of
from labkit.twin.kube.door import Api, Object
from labkit.twin.longhorn.names import NAMESPACE, SETTINGS, VERSION, version_tuple

DEFAULTS: dict[str, str] = {
    "allow-collecting-longhorn-usage-metrics": "true",
    "allow-empty-disk-selector-volume": "true",
    "allow-empty-node-selector-volume": "true",
    "allow-recurring-job-while-volume-detached": "false",
    "allow-volume-creation-with-degraded-availability": "true",
    "auto-cleanup-recurring-job-backup-snapshot": "true",
    "auto-cleanup-system-generated-snapshot": "true",
    "auto-delete-pod-when-volume-detached-unexpectedly": "true",
    "auto-salvage": "true",
    "backup-compression-method": "lz4",
    "backup-concurrent-limit": "2",
    "backup-execution-timeout": "1",
    "concurrent-automatic-engine-upgrade-per-node-limit": "0",
    "concurrent-replica-rebuild-per-node-limit": "5",
    "concurrent-volume-backup-restore-per-node-limit": "5",
    "create-default-disk-labeled-nodes": "false",
    "current-longhorn-version": "",
    "default-data-locality": "disabled",
    "default-data-path": "/var/lib/longhorn/",
    "default-engine-image": "",
    "default-longhorn-static-storage-class": "longhorn-static",
    "default-replica-count": "3",
    "deleting-confirmation-flag": "false",
    "disable-revision-counter": "true",
    "disable-scheduling-on-cordoned-node": "true",
    "engine-replica-timeout": "8",
    "failed-backup-ttl": "1440",
    "fast-replica-rebuild-enabled": "true",
    "guaranteed-instance-manager-cpu": "12",
    "kubernetes-cluster-autoscaler-enabled": "false",
    "log-level": "Info",
    "node-down-pod-deletion-policy": "do-nothing",
    "node-drain-policy": "block-if-contains-last-replica",
    "offline-replica-rebuilding": "false",
    "orphan-resource-auto-deletion": "",
    "priority-class": "longhorn-critical",
    "recurring-failed-jobs-history-limit": "1",
    "recurring-job-max-retention": "100",
    "recurring-successful-jobs-history-limit": "1",
    "remove-snapshots-during-filesystem-trim": "false",
    "replica-auto-balance": "disabled",
    "replica-disk-soft-anti-affinity": "true",
    "replica-file-sync-http-client-timeout": "30",
    "replica-replenishment-wait-interval": "600",
    "replica-soft-anti-affinity": "false",
    "replica-zone-soft-anti-affinity": "true",
    "restore-concurrent-limit": "2",
    "restore-volume-recurring-jobs": "false",
    "snapshot-data-integrity": "fast-check",
    "snapshot-max-count": "250",
    "storage-minimal-available-percentage": "25",
    "storage-network": "",
    "storage-over-provisioning-percentage": "100",
    "storage-reserved-percentage-for-default-disk": "30",
    "support-bundle-failed-history-limit": "1",
    "system-managed-components-node-selector": "",
    "system-managed-pods-image-pull-policy": "if-not-present",
    "taint-toleration": "",
    "upgrade-checker": "true",
    "v1-data-engine": "true",
    "v2-data-engine": "false",
}
PER_ENGINE = frozenset({
    "default-replica-count", "fast-replica-rebuild-enabled", "guaranteed-instance-manager-cpu",
    "snapshot-data-integrity",
})  # fmt: skip
"""Those that hold JSON by data engine since 1.10."""


def written(name: str, value: str, version: str) -> str:
    """Return a setting's value as the version keeps it: plain, or JSON by data engine."""
    if name not in PER_ENGINE or version_tuple(version) < (1, 10):
        return value
    return value if value.startswith("{") else json.dumps({"v1": value, "v2": value}, separators=(",", ":"))


def setting_objects(version: str, chosen: Mapping[str, Any] | None = None) -> list[Object]:
    """Return the Setting objects of a new installation; `chosen` goes before the defaults, unknown names are left."""
    given = {name: _text(value) for name, value in (chosen or {}).items() if name in DEFAULTS}
    own = {"current-longhorn-version": f"v{version}", "default-engine-image": f"longhornio/longhorn-engine:v{version}"}
    values = {**DEFAULTS, **own, **given}
    return [
        {
            "apiVersion": VERSION, "kind": "Setting", "metadata": {"name": name, "namespace": NAMESPACE},
            "value": written(name, value, version),
        }
        for name, value in sorted(values.items())
    ]  # fmt: skip


class Settings:
    """Read the settings as they stand in the cluster, defaults where there is none."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def text(self, name: str) -> str:
        """Return a value; of one by data engine that of v1."""
        found = self._api.get(SETTINGS, name, NAMESPACE)
        value = str(found.get("value", "")) if found else DEFAULTS.get(name, "")
        if not value.startswith("{"):
            return value
        try:
            return str(json.loads(value).get("v1", ""))
        except ValueError:
            return value

    def number(self, name: str) -> int:
        """Return a value as a number, that of the default when it is none."""
        value = self.text(name)
        return int(value) if value.lstrip("-").isdecimal() else int(DEFAULTS[name])

    def on(self, name: str) -> bool:
        """Tell whether a setting is true."""
        return self.text(name) == "true"

    def all(self) -> list[Object]:
        """Return all Setting objects by name."""
        return sorted(self._api.list(SETTINGS, NAMESPACE), key=name_of)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
