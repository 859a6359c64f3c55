"""What the parts of one Longhorn share: the API, the time, the NAS, the disks, the bytes, and small helpers."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit.twin.controllers import Kubelets
from labkit.twin.controllers.objects import (
    condition,
    is_deleting,
    is_true,
    name_of,
    spec_of,
    stamp,
    status_of,
    uid_of,
)
from labkit.twin.faults import Faults
from labkit.twin.kube.door import Clock, Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.longhorn.disks import Disks, FolderDisks, disk_id, replica_image
from labkit.twin.longhorn.images import Images
from labkit.twin.longhorn.names import (
    ATTACHMENTS,
    ENGINES,
    FINALIZER,
    KINDS,
    NAMESPACE,
    NODES,
    REPLICAS,
    VERSION,
    VOLUME_LABEL,
    VOLUMES,
    engine_name,
)
from labkit.twin.longhorn.settings import Settings
from labkit.twin.nas.exports import Exports
from labkit.twin.seed import Seed

Objects = list[Object]


@dataclass(frozen=True)
class Pace:
    """How long things take, in twin seconds; data counts in MiB."""

    create: float = 1.0
    attach: float = 3.0
    detach: float = 2.0
    rebuild: float = 15.0
    snapshot: float = 1.0
    backup: float = 4.0
    backup_per_mib: float = 0.2
    restore: float = 6.0
    restore_per_mib: float = 0.2
    sync: float = 0.5
    retry: float = 5.0


@dataclass
class Hub:
    """One Longhorn and what it works with.

    `on_write` is told of writes over the REST service, `kubelets` of volumes that have become ready, `on_backup` of
    each backup that is complete: its volume, its name, the file of its snapshot, and when that was taken; `on_restore`
    of each restore that begins: the volume and the backup.
    """

    api: LocalApi
    clock: Clock
    nas: Exports
    folder: Path
    version: str = "1.10.2"
    disks: Disks | None = None
    faults: Faults = field(default_factory=Faults)
    seed: Seed = field(default_factory=lambda: Seed(1, "longhorn"))
    kubelets: Kubelets | None = None
    pace: Pace = Pace()
    on_write: Callable[[], None] = lambda: None
    on_backup: Callable[[str, str, Path, datetime], None] = lambda *_told: None
    on_restore: Callable[[str, str], None] = lambda *_told: None

    def __post_init__(self) -> None:
        self.images = Images(self.folder / "images")
        self.settings = Settings(self.api)
        self.at: Disks = self.disks or FolderDisks(self.folder / "disks")
        self.on_faults: list[Callable[[], Awaitable[None]]] = []
        """What is done when faults come or go; emptied when Longhorn begins anew."""
        self._counts: dict[str, int] = {}
        self.faults.follow(self._follow_faults)

    async def _follow_faults(self) -> None:
        for follower in list(self.on_faults):
            await follower()

    @property
    def manager_image(self) -> str:
        """The image of longhorn-manager."""
        return f"longhornio/longhorn-manager:v{self.version}"

    @property
    def engine_image(self) -> str:
        """The image of engines."""
        return f"longhornio/longhorn-engine:v{self.version}"

    def slow(self, seconds: float) -> float:
        """Return twin seconds as the fault `longhorn-slow` stretches them."""
        return seconds * math.prod(float(factor) for (factor,) in self.faults.arguments("longhorn-slow"))

    async def sleep(self, seconds: float) -> None:
        """Work for that many twin seconds."""
        await self.clock.sleep(self.slow(seconds))

    async def work(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run what reads or writes bytes beside the loop."""
        return await asyncio.to_thread(call, *args)

    def now(self) -> str:
        """Return the date as the API writes it."""
        return stamp(self.clock.now())

    def synced(self) -> str:
        """Return the date of a sync: rounded up, so that it is later than the request it answers."""
        return stamp(math.floor(self.clock.now()) + 1)

    def chance(self, *words: object, length: int = 8) -> str:
        """Return hexadecimal digits that are new each time, yet the same in every run."""
        key = "\0".join(str(word) for word in words)
        self._counts[key] = self._counts.get(key, 0) + 1
        return self.seed.hex("longhorn", key, self._counts[key], length=length)

    def get(self, resource: str, name: str) -> Object | None:
        """Return an object of Longhorn's namespace."""
        return self.api.get(resource, name, NAMESPACE)

    def list(self, resource: str, **labels: str) -> Objects:
        """Return objects of Longhorn's namespace by labels."""
        return self.api.list(resource, NAMESPACE, labels or None)

    def patch(self, resource: str, name: str, patch: Mapping[str, Any]) -> Object:
        """Merge into an object; what changes nothing is not even asked."""
        found = self.get(resource, name)
        if found is not None and not changes(found, patch):
            return found
        return self.api.patch(resource, name, dict(patch), NAMESPACE)

    def status(self, resource: str, name: str, status: Mapping[str, Any]) -> Object:
        """Merge into an object's status; what changes nothing is not even asked."""
        found = self.get(resource, name)
        if found is not None and not changes(status_of(found), status):
            return found
        return self.api.patch(resource, name, {"status": dict(status)}, NAMESPACE, subresource="status")

    def create(self, resource: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> Object:
        """Create an object of Longhorn's."""
        meta = {"name": name, "namespace": NAMESPACE, "finalizers": [FINALIZER], **metadata}
        body = {"apiVersion": VERSION, "kind": KINDS[resource], "metadata": meta, "spec": dict(spec)}
        return self.api.create(resource, body)

    def let_go(self, resource: str, obj: Object) -> None:
        """Take Longhorn's finalizer off an object that is being deleted."""
        left = [text for text in obj["metadata"].get("finalizers", []) if text != FINALIZER]
        self.api.patch(resource, name_of(obj), {"metadata": {"finalizers": left or None}}, NAMESPACE)

    def replicas(self, volume: str) -> Objects:
        """Return the replicas of a volume, found by how their names begin."""
        shelf, prefix = self.api.core.store.shelf(REPLICAS), f"{NAMESPACE}/{volume}-r-"
        found = []
        for index in range(bisect_left(shelf.paths, prefix), len(shelf.paths)):
            if not shelf.paths[index].startswith(prefix):
                break
            replica = shelf.records[shelf.paths[index]].object
            if not is_deleting(replica) and spec_of(replica).get("volumeName") == volume:
                found.append(replica)
        return found

    def engine(self, volume: str) -> Object | None:
        """Return the engine of a volume."""
        return self.get(ENGINES, engine_name(volume))

    def nodes(self) -> Objects:
        """Return Longhorn's nodes."""
        return [n for n in self.list(NODES) if not is_deleting(n)]

    def is_ready(self, node: str) -> bool:
        """Tell whether a node is Ready for Longhorn."""
        found = self.get(NODES, node)
        return found is not None and is_true(found, "Ready")

    def has_data(self, replica: Object) -> bool:
        """Tell whether a replica's files are there: its node lives, its disk is the one that it was put on."""
        spec = spec_of(replica)
        folder = self.at.folder(spec.get("nodeID", "")) if self.is_ready(spec.get("nodeID", "")) else None
        if folder is None or disk_id(folder) != spec.get("diskID"):
            return False
        return replica_image(folder, spec["dataDirectoryName"]) is not None

    def image_of(self, volume: str) -> str | None:
        """Return the image that holds a volume's bytes, by its replicas that have not failed."""
        for replica in self.replicas(volume):
            spec = spec_of(replica)
            folder = self.at.folder(spec.get("nodeID", "")) if spec.get("nodeID") else None
            if folder is not None and not spec.get("failedAt"):
                found = replica_image(folder, spec["dataDirectoryName"])
                if found is not None:
                    return found
        return None

    def head(self, volume: str) -> Path | None:
        """Return the raw file of a volume; None when no good replica is within reach."""
        image = self.image_of(volume)
        return self.images.path(image) if image else None

    def ticket(self, volume: str, ident: str, kind: str, node: str, *, frontend: bool = True) -> None:
        """Ask for a volume to be attached to a node."""
        ticket = {"id": ident, "type": kind, "nodeID": node, "generation": 0,
                  "parameters": {"disableFrontend": "false" if frontend else "true"}}  # fmt: skip
        found = self.get(VOLUMES, volume)
        if found is not None and self.get(ATTACHMENTS, volume) is None:
            self.make_attachment(found)
        self.patch(ATTACHMENTS, volume, {"spec": {"attachmentTickets": {ident: ticket}}})

    def make_attachment(self, volume: Object) -> None:
        """Create what holds the tickets of a volume."""
        name = name_of(volume)
        self.api.create(ATTACHMENTS, {
            "apiVersion": VERSION, "kind": "VolumeAttachment",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {VOLUME_LABEL: name},
                         "ownerReferences": [owner_of_parts(volume)]},
            "spec": {"volume": name, "attachmentTickets": {}},
        })  # fmt: skip

    def end_ticket(self, volume: str, ident: str) -> None:
        """Withdraw such a wish."""
        found = self.get(ATTACHMENTS, volume)
        if found is not None and ident in (spec_of(found).get("attachmentTickets") or {}):
            self.patch(ATTACHMENTS, volume, {"spec": {"attachmentTickets": {ident: None}}})

    def free_node(self) -> str:
        """Return the ready node with the fewest attached volumes, "" when there is none."""
        count = {name_of(n): 0 for n in self.nodes() if is_true(n, "Ready")}
        for volume in self.list(VOLUMES):
            node = spec_of(volume).get("nodeID") or ""
            if node in count:
                count[node] += 1
        return min(sorted(count), key=lambda name: count[name], default="")


def changes(have: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    """Tell whether a merge patch changes anything."""
    for key, value in patch.items():
        old = have.get(key)
        if isinstance(value, Mapping):
            if not isinstance(old, Mapping) or changes(old, value):
                return True
        elif (key in have) if value is None else old != value:
            return True
    return False


def owner_of_parts(volume: Object) -> dict[str, Any]:
    """Return the reference by which a volume's parts belong to it."""
    return {"apiVersion": VERSION, "kind": "Volume", "name": name_of(volume), "uid": uid_of(volume)}


def is_attached(volume: Object) -> bool:
    """Tell whether a volume is attached."""
    return status_of(volume).get("state") == "attached"


def is_restoring(volume: Object) -> bool:
    """Tell whether a volume has a restore before it or going on."""
    return bool(status_of(volume).get("restoreRequired"))


def is_restore_failed(volume: Object) -> bool:
    """Tell whether the restore of a volume has failed for good."""
    return (condition(volume, "Restore") or {}).get("reason") == "RestoreFailure"


def size_of(volume: Object) -> int:
    """Return the bytes of a volume."""
    return int(spec_of(volume).get("size") or 0)
