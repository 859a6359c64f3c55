"""What Longhorn's deployer makes out of the chart when it runs: the storage class and the parts of the CSI driver.

Settings, the backup target, volumes and backups are the subject of `labkit.twin.longhorn`.
"""

from __future__ import annotations

from labkit.twin import manifests
from labkit.twin.charts.release import Program, Release, daemon_set, deployment
from labkit.twin.controllers.objects import labels_of, name_of, namespace_of, quantity, status_of
from labkit.twin.flux.gate import DEPLOYMENTS, GatedController
from labkit.twin.kube.door import ApiError, Event, Object

DRIVER = "driver.longhorn.io"
VOLUMES = "volumes.longhorn.io"
_CLASSES = "storageclasses.storage.k8s.io"
_CLAIMS = "persistentvolumeclaims"
_CONFIG = "longhorn-storageclass"
_SPACE = "longhorn-system"
_SIDECARS = ("csi-attacher", "csi-provisioner", "csi-resizer", "csi-snapshotter")


class LonghornDriver(GatedController):
    """Turn the chart's ConfigMap into the storage class, and deploy the CSI driver."""

    name = "longhorn-driver-deployer"
    resources = ("configmaps",)
    watches = ("configmaps", DEPLOYMENTS)

    def is_program(self, deployment: Object) -> bool:
        """Tell by the label of the chart."""
        return labels_of(deployment).get("app") == "longhorn-driver-deployer"

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Take only the ConfigMap with the class."""
        return [(namespace_of(event.object), _CONFIG)] if name_of(event.object) == _CONFIG else []

    def reconcile(self, key: tuple[str, str]) -> None:
        """Make or change the class and the driver."""
        config = self.api.get("configmaps", key[1], key[0]) if self.awake else None
        text = next(iter(((config or {}).get("data") or {}).values()), "")
        if config is None or not text:
            return
        self._class(manifests.load(text))
        self._driver(config)

    def _class(self, wanted: Object) -> None:
        try:
            self.api.apply(wanted, manager="longhorn-manager", force=True)
        except ApiError:  # most fields of a class cannot be changed: it is made anew
            self.api.delete(_CLASSES, name_of(wanted))
            self.api.apply(wanted, manager="longhorn-manager", force=True)

    def _driver(self, config: Object) -> None:
        labels, account = labels_of(config), "longhorn-service-account"
        release = Release("longhorn", namespace_of(config), "longhorn", labels["helm.sh/chart"].rpartition("-")[2],
                          labels["app.kubernetes.io/version"])  # fmt: skip
        plugin = Program("longhorn-csi-plugin", f"longhornio/longhorn-manager:{release.app_version}")
        made = [daemon_set("longhorn-csi-plugin", release, plugin, {"app": "longhorn-csi-plugin"}, account)]
        for name in _SIDECARS:
            program = Program(name, f"longhornio/{name}:v4.9.0")
            made.append(deployment(name, release, program, {"app": name}, replicas=3, user=account))
        for one in made:
            self.api.apply(one, manager="longhorn-driver-deployer", force=True)


class PinnedVolumes(GatedController):
    """Make the volumes that claims are pinned to by `volumeName`, as if a person had kept or restored them."""

    name = "pinned-volumes"
    resources = (_CLAIMS, _CLASSES)
    watches = (_CLAIMS, _CLASSES, DEPLOYMENTS)

    def is_program(self, deployment: Object) -> bool:
        """Volumes come with the CSI driver."""
        return name_of(deployment) == "csi-provisioner"

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """A class concerns all claims."""
        found = self.api.list(_CLAIMS) if event.resource == _CLASSES else [event.object]
        return [(namespace_of(one), name_of(one)) for one in found]

    def reconcile(self, key: tuple[str, str]) -> None:
        """Make the volume of one claim."""
        claim = self.api.get(_CLAIMS, key[1], key[0]) if self.awake else None
        spec = (claim or {}).get("spec") or {}
        name, kind = spec.get("volumeName"), spec.get("storageClassName")
        found = self.api.get(_CLASSES, str(kind)) if kind else None
        if claim is None or not name or found is None or found.get("provisioner") != DRIVER:
            return
        if status_of(claim).get("phase") == "Bound" or self.api.get("persistentvolumes", name) is not None:
            return
        if self.api.core.registry.named(VOLUMES) and self.api.get(VOLUMES, name, _SPACE) is None:
            self.api.create(VOLUMES, longhorn_volume(claim, _replicas(found)))
        self.api.create("persistentvolumes", pinned_volume(claim, _replicas(found)))


def _replicas(storage_class: Object) -> int:
    return int((storage_class.get("parameters") or {}).get("numberOfReplicas") or 3)


def longhorn_volume(claim: Object, replicas: int) -> Object:
    """Return the Longhorn volume that a claim is pinned to."""
    spec = claim["spec"]
    mode = "rwx" if "ReadWriteMany" in spec["accessModes"] else "rwo"
    return {
        "apiVersion": "longhorn.io/v1beta2", "kind": "Volume",
        "metadata": {"name": spec["volumeName"], "namespace": _SPACE},
        "spec": {"size": str(int(quantity(spec["resources"]["requests"]["storage"]))), "numberOfReplicas": replicas,
                 "frontend": "blockdev", "accessMode": mode, "dataEngine": "v1"},
    }  # fmt: skip


def pinned_volume(claim: Object, replicas: int) -> Object:
    """Return the PersistentVolume that a claim is pinned to, over the Longhorn volume of the same name."""
    spec = claim["spec"]
    csi = {
        "driver": DRIVER, "fsType": "ext4", "volumeHandle": spec["volumeName"],
        "volumeAttributes": {"numberOfReplicas": str(replicas), "staleReplicaTimeout": "30"},
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": spec["volumeName"]},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]}, "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
            "storageClassName": spec["storageClassName"], "csi": csi,
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace_of(claim),
                         "name": name_of(claim)},
        },
    }  # fmt: skip
