"""Snapshots: taken while the volume is attached (it is attached for it if need be), removed with their bytes."""

from __future__ import annotations

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import is_deleting, name_of, spec_of, status_of
from labkit.twin.kube.door import Event, Object
from labkit.twin.longhorn.hub import Hub, is_attached, is_restoring, size_of
from labkit.twin.longhorn.names import ATTACHMENTS, SNAPSHOTS, VOLUMES

TICKET = "snapshot-controller"


class Snapshots(Controller):
    """Take and remove snapshots; keys are names."""

    name = "longhorn-snapshot"
    watches = (SNAPSHOTS, VOLUMES)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub

    def keys(self, event: Event) -> list[str]:
        """Map a volume to its snapshots that are not taken yet."""
        if event.resource == SNAPSHOTS:
            return [name_of(event.object)]
        mine = [s for s in self.hub.list(SNAPSHOTS) if spec_of(s).get("volume") == name_of(event.object)]
        return [name_of(s) for s in mine if not status_of(s).get("creationTime")]

    def reconcile(self, key: str) -> float | None:
        """Bring one snapshot on."""
        found = self.hub.get(SNAPSHOTS, key)
        if found is None:
            return None
        volume = self.hub.get(VOLUMES, spec_of(found)["volume"])
        if is_deleting(found):
            self._end(found)
            return None
        if volume is None or status_of(found).get("creationTime") or not spec_of(found).get("createSnapshot"):
            return None
        age = self.ages.of((key, "asked"), key)
        left = self.hub.slow(self.hub.pace.snapshot) - age
        if left > 0.01:
            return left
        if is_attached(volume) and not is_restoring(volume):
            self._take(found, volume)
            return None
        return self._ask_for_it(found, volume)

    def _ask_for_it(self, found: Object, volume: Object) -> float | None:
        """Have the volume attached, if it can be."""
        attachment = self.hub.get(ATTACHMENTS, name_of(volume))
        tickets = spec_of(attachment or {}).get("attachmentTickets") or {}
        if not tickets and not is_restoring(volume):
            self.hub.ticket(name_of(volume), f"{TICKET}-{name_of(found)}", TICKET, self.hub.free_node())
        return self.hub.pace.retry

    def _take(self, found: Object, volume: Object) -> None:
        name, head = name_of(found), self.hub.head(name_of(volume))
        if head is None:
            self.hub.status(SNAPSHOTS, name, {"error": f"no replica of volume {name_of(volume)} answers"})
            return
        size = self.hub.images.take(head.parent.name, name)
        labels = spec_of(found).get("labels")
        self.hub.status(SNAPSHOTS, name, {
            "creationTime": self.now(), "readyToUse": True, "size": size, "restoreSize": size_of(volume),
            "userCreated": True, "labels": labels, "parent": "", "children": {"volume-head": True},
            "markRemoved": False, "error": "", "ownerID": status_of(volume).get("currentNodeID", ""), "checksum": "",
        })  # fmt: skip
        self.hub.end_ticket(name_of(volume), f"{TICKET}-{name}")

    def _end(self, found: Object) -> None:
        volume = spec_of(found)["volume"]
        head = self.hub.head(volume)
        if head is not None:
            self.hub.images.drop(head.parent.name, name_of(found))
        self.hub.end_ticket(volume, f"{TICKET}-{name_of(found)}")
        self.hub.let_go(SNAPSHOTS, found)
