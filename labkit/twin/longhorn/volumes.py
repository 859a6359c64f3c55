"""Volumes from their creation to their end: engine and replicas, attaching and detaching, health and rebuilding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import is_deleting, name_of, spec_of, status_of, uid_of
from labkit.twin.kube.door import Event, Object
from labkit.twin.longhorn.health import Health
from labkit.twin.longhorn.hub import Hub, is_restoring, owner_of_parts, size_of
from labkit.twin.longhorn.images import allocated
from labkit.twin.longhorn.names import (
    ATTACHMENTS,
    ENGINES,
    NAMESPACE,
    NODES,
    REPLICAS,
    SNAPSHOTS,
    VOLUME_LABEL,
    VOLUMES,
    engine_name,
)
from labkit.twin.longhorn.parts import NO_KUBERNETES, engine_spec, set_condition

RESTORE_TICKET = "volume-restore-controller"
_PRIORITY = ("volume-restore-controller", "volume-expansion-controller", "csi-attacher", "longhorn-api",
             "snapshot-controller", "backup-controller")  # fmt: skip


class Volumes(Controller):
    """Bring each volume to the state that its spec and its tickets ask for; keys are names."""

    name = "longhorn-volume"
    watches = (VOLUMES, ATTACHMENTS, REPLICAS, NODES)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self.health = Health(hub, self.ages)
        self._nodes: dict[str, Any] = {}
        hub.on_faults.append(self._look)

    def keys(self, event: Event) -> Iterable[str]:
        """Map an attachment or a replica to its volume, and a node to all if what counts of it has changed."""
        if event.resource == NODES:
            seen = _what_counts(event.object)
            if self._nodes.get(name_of(event.object)) == seen and event.type != "DELETED":
                return []
            self._nodes[name_of(event.object)] = seen
            return [name_of(v) for v in self.hub.list(VOLUMES)]
        if event.resource == REPLICAS:
            return [str(spec_of(event.object).get("volumeName", ""))]
        return [name_of(event.object)]

    async def _look(self) -> None:
        for volume in self.hub.list(VOLUMES):
            self.queue.add(name_of(volume))

    def reconcile(self, key: str) -> float | None:
        """Bring one volume a step on; return when the next step is due."""
        volume = self.hub.get(VOLUMES, key)
        if volume is None:
            return None
        if is_deleting(volume):
            self._end(volume)
            return None
        if not status_of(volume).get("state"):
            self._begin(volume)
            return self.hub.slow(self.hub.pace.create)
        volume = self._follow_tickets(volume)
        self._grow(volume)
        waits = [self.health.look(volume), self._move(self.hub.get(VOLUMES, key) or volume)]
        due = [wait for wait in waits if wait is not None]
        return min(due) if due else None

    def _grow(self, volume: Object) -> None:
        """Make the bytes of a volume as many as its spec asks for; what is there stays."""
        head = None if is_restoring(volume) else self.hub.head(name_of(volume))
        if head is not None and head.exists() and head.stat().st_size < size_of(volume):
            self.hub.images.create(head.parent.name, size_of(volume))

    def _begin(self, volume: Object) -> None:
        """Make what belongs to a new volume, and its first status."""
        name, restore = name_of(volume), bool(spec_of(volume).get("fromBackup"))
        if self.hub.get(ATTACHMENTS, name) is None:
            self.hub.make_attachment(volume)
        if self.hub.engine(name) is None:
            labels = {VOLUME_LABEL: name}
            self.hub.create(ENGINES, engine_name(name), engine_spec(volume), labels=labels, ownerReferences=[
                owner_of_parts(volume)
            ])  # fmt: skip
        conditions = set_condition(None, "Scheduled", "True", self.now())
        conditions = set_condition(conditions, "Restore", "False", self.now())
        conditions = set_condition(conditions, "TooManySnapshots", "False", self.now())
        conditions = set_condition(conditions, "WaitForBackingImage", "False", self.now())
        self.hub.status(VOLUMES, name, {
            "state": "creating", "robustness": "unknown", "ownerID": self.hub.free_node(), "actualSize": 0,
            "currentImage": spec_of(volume).get("image", ""), "currentNodeID": "", "frontendDisabled": False,
            "expansionRequired": False, "isStandby": bool(spec_of(volume).get("Standby")), "lastBackup": "",
            "lastBackupAt": "", "restoreInitiated": restore, "restoreRequired": restore, "remountRequestedAt": "",
            "shareEndpoint": "", "shareState": "", "lastDegradedAt": "", "currentMigrationNodeID": "",
            "conditions": conditions, "kubernetesStatus": dict(NO_KUBERNETES),
            "cloneStatus": {"snapshot": "", "sourceVolume": "", "state": ""},
        })  # fmt: skip
        self.health.place(self.hub.get(VOLUMES, name) or volume)

    def _follow_tickets(self, volume: Object) -> Object:
        """Take the node from the tickets, and tell each whether it is served."""
        name = name_of(volume)
        found = self.hub.get(ATTACHMENTS, name)
        if found is None:
            self.hub.make_attachment(volume)
            return volume
        tickets: dict[str, Any] = spec_of(found).get("attachmentTickets") or {}
        node = self._choose(volume, tickets)
        if node != (spec_of(volume).get("nodeID") or ""):
            volume = self.hub.patch(VOLUMES, name, {"spec": {"nodeID": node}})
        here = status_of(volume).get("currentNodeID") if status_of(volume).get("state") == "attached" else None
        said = {
            ident: {"id": ident, "generation": ticket.get("generation", 0), "conditions": [],
                    "satisfied": bool(here) and ticket.get("nodeID") == here}
            for ident, ticket in tickets.items()
        }  # fmt: skip
        if (status_of(found).get("attachmentTicketStatuses") or {}) != said:
            self.api.update_status(ATTACHMENTS, {**found, "status": {"attachmentTicketStatuses": said}})
        return volume

    def _choose(self, volume: Object, tickets: dict[str, Any]) -> str:
        """Return the node of the most important ticket; of equal ones that which is served already stays."""
        if not tickets:
            return ""
        here = status_of(volume).get("currentNodeID") or spec_of(volume).get("nodeID")
        order = {kind: number for number, kind in enumerate(_PRIORITY)}

        def rank(ticket: dict[str, Any]) -> tuple[int, bool, str]:
            return order.get(ticket.get("type", ""), 99), ticket.get("nodeID") != here, str(ticket.get("id"))

        return str(min(tickets.values(), key=rank).get("nodeID") or "")

    def _move(self, volume: Object) -> float | None:
        """Attach or detach."""
        status, name = status_of(volume), name_of(volume)
        state, wanted = status["state"], spec_of(volume).get("nodeID") or ""
        age = self.ages.of((uid_of(volume), "state"), state)
        span = {"creating": self.hub.pace.create, "attaching": self.hub.pace.attach,
                "detaching": self.hub.pace.detach}.get(state, 0.0)  # fmt: skip
        left = self.hub.slow(span) - age
        if span and left > 0.01:
            return left
        if state == "creating":
            self._set(name, state="detached", robustness="unknown")
        elif state == "detached" and wanted:
            return self._attach(volume, wanted)
        elif state == "attaching":
            self._attached(volume, wanted)
        elif state == "attached" and wanted != status.get("currentNodeID"):
            if not self.hub.is_ready(status.get("currentNodeID") or "") and not wanted:
                self._detached(name)
            else:
                self._set(name, state="detaching")
        elif state == "detaching":
            self._detached(name)
        return None

    def _attach(self, volume: Object, node: str) -> float | None:
        """Begin to attach, if the node lives and a replica is good."""
        if not self.hub.is_ready(node) or status_of(volume).get("robustness") == "faulted":
            return self.hub.pace.retry
        good = [
            r for r in self.hub.replicas(name_of(volume)) if self.hub.has_data(r) and not spec_of(r).get("failedAt")
        ]
        if not good:
            return self.hub.pace.retry
        if len(good) < spec_of(volume)["numberOfReplicas"] and not self.hub.settings.on(
            "allow-volume-creation-with-degraded-availability"
        ):
            return self.hub.pace.retry
        self._set(name_of(volume), state="attaching")
        self.hub.patch(ENGINES, engine_name(name_of(volume)), {"spec": {"nodeID": node, "desireState": "running"}})
        return self.hub.slow(self.hub.pace.attach)

    def _attached(self, volume: Object, wanted: str) -> None:
        name = name_of(volume)
        if not wanted:
            self._detached(name)
            return
        frontend = not is_restoring(volume)
        self._set(name, state="attached", currentNodeID=wanted, frontendDisabled=not frontend)
        self.hub.status(ENGINES, engine_name(name), {
            "currentState": "running", "started": True, "ownerID": wanted, "currentImage": self.hub.engine_image,
            "currentSize": str(size_of(volume)), "endpoint": f"/dev/longhorn/{name}" if frontend else "",
        })  # fmt: skip
        self.health.look(self.hub.get(VOLUMES, name) or volume)
        self.events.normal(volume, "Attached", f"volume {name} has been attached to {wanted}")

    def _detached(self, name: str) -> None:
        head = self.hub.head(name)
        size = allocated(head) if head and head.exists() else 0
        self._set(name, state="detached", currentNodeID="", actualSize=size, frontendDisabled=False)
        self.hub.patch(ENGINES, engine_name(name), {"spec": {"nodeID": "", "desireState": "stopped"}})
        self.hub.status(ENGINES, engine_name(name), {
            "currentState": "stopped", "started": False, "endpoint": "", "replicaModeMap": None,
            "restoreStatus": None, "rebuildStatus": None,
        })  # fmt: skip
        for replica in self.hub.replicas(name):
            self.hub.patch(REPLICAS, name_of(replica), {"spec": {"desireState": "stopped"}})
            self.hub.status(REPLICAS, name_of(replica), {"currentState": "stopped", "started": False})

    def _set(self, name: str, **status: Any) -> None:
        self.hub.status(VOLUMES, name, status)

    def _end(self, volume: Object) -> None:
        """Remove everything of a volume that is being deleted, its bytes too."""
        name = name_of(volume)
        image = self.hub.image_of(name)
        for snapshot in self.hub.list(SNAPSHOTS):
            if spec_of(snapshot).get("volume") == name:
                self._remove(SNAPSHOTS, snapshot)
        for replica in self.hub.list(REPLICAS, **{VOLUME_LABEL: name}):
            self.health.drop(replica)
        engine = self.hub.engine(name)
        if engine is not None:
            self._remove(ENGINES, engine)
        self.api.delete(ATTACHMENTS, name, NAMESPACE)
        if image is not None:
            self.hub.images.remove(image)
        self.hub.let_go(VOLUMES, volume)

    def _remove(self, resource: str, obj: Object) -> None:
        self.api.delete(resource, name_of(obj), NAMESPACE)
        left = self.hub.get(resource, name_of(obj))
        if left is not None:
            self.hub.let_go(resource, left)


def _what_counts(node: Object) -> Any:
    """Return what of a node can matter to volumes: not how full it is to the byte."""
    disks = (status_of(node).get("diskStatus") or {}).values()
    states = [(c["type"], c["status"]) for part in (status_of(node), *disks) for c in part.get("conditions") or ()]
    return spec_of(node), states, status_of(node).get("zone")
