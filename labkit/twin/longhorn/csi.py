"""The CSI driver: volumes for claims, and volumes attached where pods need them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from labkit.twin.controllers import Controller, Request
from labkit.twin.controllers.kubelet import Gate
from labkit.twin.controllers.objects import (
    is_finished,
    name_of,
    namespace_of,
    quantity,
    spec_of,
    status_of,
)
from labkit.twin.controllers.volume_rules import claim_names
from labkit.twin.kube.door import Clock, Event, Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.longhorn.api import attributes, handle_of
from labkit.twin.longhorn.apps import Apps
from labkit.twin.longhorn.hub import Hub, is_attached, is_restoring
from labkit.twin.longhorn.names import (
    ATTACHMENTS,
    DRIVER,
    GROUP_PREFIX,
    JOB_PREFIX,
    KINDS,
    NAMESPACE,
    VERSION,
    VOLUMES,
)

TICKET = "csi-attacher"
ATTACHED = "volumeattachments.storage.k8s.io"
_DETACH_SECONDS = 3.0
_PATIENCE = 120


class LonghornProvisioner:
    """Make and remove Longhorn volumes for claims; fails, and is asked again, while Longhorn is not there."""

    def __init__(self, api: LocalApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def provision(self, request: Request) -> Mapping[str, Any]:
        """Create a volume by the parameters of the class, wait until it is ready, and name it."""
        given: dict[str, str] = request.storage_class.get("parameters") or {}
        if self._api.get(VOLUMES, request.name, NAMESPACE) is None:
            self._api.create(VOLUMES, self._body(request, given))
        for _ in range(_PATIENCE):
            found = self._api.get(VOLUMES, request.name, NAMESPACE)
            if found is not None and status_of(found).get("state") not in (None, "", "creating"):
                source = {"driver": DRIVER, "fsType": given.get("fsType", "ext4"), "volumeHandle": request.name,
                          "volumeAttributes": attributes(found)}  # fmt: skip
                return {"csi": source}
            await self._clock.sleep(1.0)
        raise TimeoutError(f"volume {request.name} is not ready: Longhorn does not answer")

    async def remove(self, volume: Object) -> None:
        """Delete the volume behind a PV, data and all."""
        self._api.delete(VOLUMES, handle_of(volume), NAMESPACE)

    def _body(self, request: Request, given: Mapping[str, str]) -> Object:
        claim = spec_of(request.claim)
        size = int(quantity(claim["resources"]["requests"]["storage"]))
        shared = "ReadWriteMany" in (claim.get("accessModes") or ())
        spec: dict[str, Any] = {
            "size": str(size), "frontend": given.get("frontend", "blockdev"),
            "accessMode": "rwx" if shared else "rwo", "dataEngine": given.get("dataEngine", "v1"),
            "dataLocality": given.get("dataLocality", "disabled"), "fromBackup": given.get("fromBackup", ""),
            "staleReplicaTimeout": int(given.get("staleReplicaTimeout", "30")),
            "backupTargetName": given.get("backupTargetName", "default"),
        }  # fmt: skip
        if given.get("numberOfReplicas"):
            spec["numberOfReplicas"] = int(given["numberOfReplicas"])
        metadata = {"name": request.name, "namespace": NAMESPACE, "labels": _job_labels(given)}
        return {"apiVersion": VERSION, "kind": KINDS[VOLUMES], "metadata": metadata, "spec": spec}


class Attacher(Controller):
    """Attach each volume where scheduled pods want it, and take it from where none does; keys are volumes."""

    name = "longhorn-csi-attacher"
    watches = ("pods", "persistentvolumes", "persistentvolumeclaims", VOLUMES)

    def __init__(self, hub: Hub, apps: Apps) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self.apps = apps
        self._waiting: dict[str, set[tuple[str, str]]] = {}

    def keys(self, event: Event) -> list[str]:
        """Map pods and claims to their volumes."""
        obj = event.object
        if event.resource == VOLUMES:
            return [name_of(obj)]
        if event.resource == "persistentvolumes":
            return [handle_of(obj)] if handle_of(obj) else []
        names = claim_names(obj) if event.resource == "pods" else [name_of(obj)]
        return [h for name in names if (h := handle_of(self._pv(namespace_of(obj), name)))]

    def reconcile(self, key: str) -> float | None:
        """Bring the attachments of one volume in line with its pods."""
        volume = self.hub.get(VOLUMES, key)
        if volume is None:
            return None
        wait = self._follow(volume)
        for namespace, name in sorted(self._waiting.pop(key, ())):
            if self.hub.kubelets is not None:
                self.hub.kubelets.look(namespace, name)
        return wait

    def _follow(self, volume: Object) -> float | None:
        name = name_of(volume)
        wanted = self._nodes(name)
        attachment = self.hub.get(ATTACHMENTS, name)
        if attachment is None:
            return None
        tickets = spec_of(attachment).get("attachmentTickets") or {}
        mine = {t["nodeID"]: ident for ident, t in tickets.items() if t.get("type") == TICKET}
        for node in sorted(wanted - set(mine)):
            self._attach(name, node)
        gone = sorted(set(mine) - wanted)
        if not gone:
            return None
        age = self.ages.of((name, "unused"), tuple(gone))
        if age < self.hub.slow(_DETACH_SECONDS):
            return self.hub.slow(_DETACH_SECONDS) - age + 0.1
        for node in gone:
            self.hub.end_ticket(name, mine[node])
            self.api.delete(ATTACHED, mine[node])
        return None

    def _attach(self, name: str, node: str) -> None:
        ident = "csi-" + hashlib.sha256(f"{name}{DRIVER}{node}".encode()).hexdigest()
        if self.api.get(ATTACHED, ident) is None:
            pv = next((name_of(p) for p in self.api.list("persistentvolumes") if handle_of(p) == name), name)
            self.api.create(ATTACHED, {
                "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": ident},
                "spec": {"attacher": DRIVER, "nodeName": node, "source": {"persistentVolumeName": pv}},
            })  # fmt: skip
        self.hub.ticket(name, ident, TICKET, node)

    def _nodes(self, volume: str) -> set[str]:
        """Return the nodes on which pods want a volume."""
        found = set()
        for pv in self.api.list("persistentvolumes"):
            ref = spec_of(pv).get("claimRef") or {}
            if handle_of(pv) != volume or not ref:
                continue
            for pod in self.api.list("pods", ref.get("namespace", "")):
                node = spec_of(pod).get("nodeName")
                if node and ref.get("name") in claim_names(pod) and not is_finished(pod):
                    found.add(node)
        return found

    def _pv(self, namespace: str, claim: str) -> Object:
        found = self.api.get("persistentvolumeclaims", claim, namespace)
        name = spec_of(found or {}).get("volumeName")
        return (self.api.get("persistentvolumes", name) if name else None) or {}

    def gate(self, pod: Object, node: str) -> str | None:
        """Say why a pod has to wait for its volumes; once it need not, fresh volumes get their first files."""
        for claim in claim_names(pod):
            pv = self._pv(namespace_of(pod), claim)
            handle = handle_of(pv)
            if not handle:
                continue
            problem = self._problem(handle, node)
            if problem:
                self._waiting.setdefault(handle, set()).add((namespace_of(pod), name_of(pod)))
                return f'AttachVolume.Attach failed for volume "{name_of(pv)}" : {problem}'
            self.apps.begin(handle, pod, claim)
        return None

    def _problem(self, handle: str, node: str) -> str | None:
        volume = self.hub.get(VOLUMES, handle)
        if volume is None:
            return f"rpc error: code = NotFound desc = volume {handle} not found"
        shared = spec_of(volume).get("accessMode") == "rwx"
        if is_restoring(volume) or not is_attached(volume) or status_of(volume).get("frontendDisabled"):
            return f"rpc error: code = Aborted desc = volume {handle} is not ready for workloads"
        here = status_of(volume).get("currentNodeID")
        if here != node and not shared:
            return f"rpc error: code = FailedPrecondition desc = volume {handle} is already attached to node {here}"
        return None

    async def run(self) -> None:
        """Work, and hold pods back meanwhile."""
        kubelets = self.hub.kubelets
        if kubelets is not None:
            kubelets.gates.append(self.gate)
        try:
            await super().run()
        finally:
            if kubelets is not None:
                kubelets.gates.remove(self.gate)


def closed_gate(api: LocalApi, is_running: Callable[[], bool]) -> Gate:
    """Return a gate that holds pods back whose volumes are Longhorn's while Longhorn does not run."""

    def gate(pod: Object, _node: str) -> str | None:
        for claim in claim_names(pod):
            found = api.get("persistentvolumeclaims", claim, namespace_of(pod)) or {}
            pv = api.get("persistentvolumes", spec_of(found).get("volumeName") or "")
            if pv is not None and handle_of(pv) and not is_running():
                return (
                    f'AttachVolume.Attach failed for volume "{name_of(pv)}" : CSINode does not contain driver {DRIVER}'
                )
        return None

    return gate


def _job_labels(given: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that a class's recurringJobSelector gives a volume."""
    try:
        chosen = json.loads(given.get("recurringJobSelector") or "[]")
    except ValueError:
        return {}
    return {(GROUP_PREFIX if one.get("isGroup") else JOB_PREFIX) + one["name"]: "enabled" for one in chosen}
