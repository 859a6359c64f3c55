"""Dynamic provisioning: what the external provisioner beside a CSI driver does, with the making left to a hook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from labkit.twin.kube.door import Api, Clock, Event, Object

from .framework import Controller
from .objects import annotations_of, finalizers_of, is_deleting, name_of, namespace_of, spec_of, status_of, uid_of
from .scheduler import SELECTED_NODE
from .volume_binding import CLAIM, PROVISIONED_BY, PROVISIONERS, VOLUME
from .volume_rules import storage_class

FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"


@dataclass(frozen=True)
class Request:
    """A volume that is asked for: its name, the claim, the class, and the node if one was selected."""

    name: str
    claim: Object
    storage_class: Object
    node: Object | None


class Provisioner(Protocol):
    """What a storage part supplies for its provisioner name."""

    async def provision(self, request: Request) -> Mapping[str, Any]:
        """Make the volume, then return the part of the PV's spec that says where it is, `{"csi": {...}}`."""
        ...

    async def remove(self, volume: Object) -> None:
        """Remove what a Released volume with reclaim policy Delete stands for."""
        ...


class LocalPath:
    """The provisioner of k3s: a directory on the selected node."""

    async def provision(self, request: Request) -> Mapping[str, Any]:
        """Name the directory and pin the volume to its node."""
        claim = request.claim
        path = f"/var/lib/rancher/k3s/storage/{request.name}_{namespace_of(claim)}_{name_of(claim)}"
        names = [name_of(request.node)] if request.node else []
        term = {"key": "kubernetes.io/hostname", "operator": "In", "values": names}
        affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}}
        return {"hostPath": {"path": path, "type": "DirectoryOrCreate"}, "nodeAffinity": affinity}

    async def remove(self, volume: Object) -> None:
        """Nothing stands behind the directory but its name."""


class Provisioning(Controller):
    """Make volumes for claims that name a known provisioner; remove Released ones whose policy is Delete."""

    name = "volume-provisioner"
    watches = (CLAIM, VOLUME)

    def __init__(self, api: Api, clock: Clock, provisioners: Mapping[str, Provisioner]) -> None:
        super().__init__(api, clock)
        self._provisioners = provisioners

    def keys(self, event: Event) -> list[tuple[str, str, str]]:
        """Tell claims from volumes."""
        return [(event.resource, namespace_of(event.object), name_of(event.object))]

    async def reconcile(self, key: tuple[str, str, str]) -> None:
        """Make or remove one volume."""
        resource, namespace, name = key
        found = self.api.get(resource, name, namespace)
        if found is None:
            return
        if resource == CLAIM:
            await self._provision(found)
        else:
            await self._remove(found)

    async def _provision(self, claim: Object) -> None:
        wanted = annotations_of(claim).get(PROVISIONERS[1], "")
        provisioner, found = self._provisioners.get(wanted), storage_class(self.api, claim)
        name = f"pvc-{uid_of(claim)}"
        if provisioner is None or found is None or is_deleting(claim) or spec_of(claim).get("volumeName"):
            return
        if self.api.get(VOLUME, name) is not None:
            return
        selected = annotations_of(claim).get(SELECTED_NODE)
        late = found.get("volumeBindingMode") == "WaitForFirstConsumer"
        node = self.api.get("nodes", selected) if selected else None
        if late and node is None:
            return
        where = f'External provisioner is provisioning volume for claim "{namespace_of(claim)}/{name_of(claim)}"'
        self.events.normal(claim, "Provisioning", where)
        source = await provisioner.provision(Request(name, claim, found, node))
        if self.api.get(CLAIM, name_of(claim), namespace_of(claim)) is None:
            return
        self.api.create(VOLUME, volume_from(name, claim, found, wanted, source))
        self.events.normal(claim, "ProvisioningSucceeded", f"Successfully provisioned volume {name}")

    async def _remove(self, volume: Object) -> None:
        by = annotations_of(volume).get(PROVISIONED_BY, "")
        provisioner = self._provisioners.get(by)
        if provisioner is None or status_of(volume).get("phase") != "Released":
            return
        if spec_of(volume).get("persistentVolumeReclaimPolicy") != "Delete":
            return
        await provisioner.remove(volume)
        self.api.delete(VOLUME, name_of(volume))
        left = [f for f in finalizers_of(volume) if f != FINALIZER]
        if self.api.get(VOLUME, name_of(volume)) is not None:
            self.api.patch(VOLUME, name_of(volume), {"metadata": {"finalizers": left}})


def volume_from(name: str, claim: Object, found: Object, by: str, source: Mapping[str, Any]) -> Object:
    """Build the PV of a provisioned volume, bound in advance to its claim."""
    spec = spec_of(claim)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: by}, "finalizers": [FINALIZER]},
        "spec": {
            "accessModes": spec.get("accessModes"),
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace_of(claim),
                "name": name_of(claim), "uid": uid_of(claim),
            },
            "persistentVolumeReclaimPolicy": found.get("reclaimPolicy", "Delete"),
            "storageClassName": name_of(found),
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            **({"mountOptions": found["mountOptions"]} if found.get("mountOptions") else {}),
            **source,
        },
    }  # fmt: skip
