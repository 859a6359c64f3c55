"""nodes.longhorn.io: one for each node of the cluster, with its disk, its zone and its room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import (
    is_true,
    labels_of,
    name_of,
    quantity,
    spec_of,
    status_of,
    with_condition,
)
from labkit.twin.kube.door import Event, Object
from labkit.twin.longhorn.disks import disk_id, name_disk
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import INSTANCE_MANAGERS, NAMESPACE, NODES, REPLICAS, VOLUMES
from labkit.twin.longhorn.placement import Spot

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
DISK_LABEL = "node.longhorn.io/create-default-disk"
_LOOK_AGAIN = 15.0
_DEFAULT_DISK = 64 * 2**30


class Nodes(Controller):
    """Follow the nodes of the cluster; keys are names."""

    name = "longhorn-node"
    watches = ("nodes", NODES, REPLICAS)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self._placed: dict[str, str] = {}
        hub.on_faults.append(self._look)

    def keys(self, event: Event) -> Iterable[str]:
        """Map a replica to its node when it has come or gone."""
        if event.resource == REPLICAS:
            node, name = spec_of(event.object).get("nodeID"), name_of(event.object)
            known = self._placed.get(name)
            if event.type == "DELETED":
                self._placed.pop(name, None)
            elif node:
                self._placed[name] = node
            return [node] if node and (event.type == "DELETED" or node != known) else []
        return [name_of(event.object)]

    async def _look(self) -> None:
        for node in self.api.list("nodes"):
            self.queue.add(name_of(node))

    def reconcile(self, key: str) -> float | None:
        """Make, bring up to date or remove one node."""
        node, mine = self.api.get("nodes", key), self.hub.get(NODES, key)
        if node is None:
            if mine is not None:
                self.api.delete(NODES, key, NAMESPACE)
                self.hub.let_go(NODES, self.hub.get(NODES, key) or mine)
            return None
        if mine is None:
            mine = self._make(node)
        status = self._status(node, mine)
        if any(status_of(mine).get(k) != v for k, v in status.items()):
            self.api.update_status(NODES, {**mine, "status": {**status_of(mine), **status}})
        return _LOOK_AGAIN

    def _make(self, node: Object) -> Object:
        name = name_of(node)
        spec: dict[str, Any] = {"name": name, "allowScheduling": True, "evictionRequested": False, "tags": [],
                                "instanceManagerCPURequest": 0, "disks": {}}  # fmt: skip
        labelled = labels_of(node).get(DISK_LABEL) == "true"
        if labelled or not self.hub.settings.on("create-default-disk-labeled-nodes"):
            disk = f"default-disk-{self.hub.seed.hex('disk', name, length=16)}"
            spec["disks"] = {disk: self._disk(node)}
        self._instance_manager(name)
        return self.hub.create(NODES, name, spec)

    def _disk(self, node: Object) -> dict[str, Any]:
        share = self.hub.settings.number("storage-reserved-percentage-for-default-disk")
        return {
            "allowScheduling": True, "diskDriver": "", "diskType": "filesystem", "evictionRequested": False,
            "path": self.hub.settings.text("default-data-path"), "storageReserved": _room(node) * share // 100,
            "tags": [],
        }  # fmt: skip

    def _instance_manager(self, node: str) -> None:
        name = f"instance-manager-{self.hub.seed.hex('instance manager', node, length=32)}"
        if self.hub.get(INSTANCE_MANAGERS, name) is None:
            spec = {"nodeID": node, "type": "aio", "dataEngine": "v1",
                    "image": f"longhornio/longhorn-instance-manager:v{self.hub.version}"}  # fmt: skip
            self.hub.create(INSTANCE_MANAGERS, name, spec, labels={"longhorn.io/node": node})
            self.hub.status(INSTANCE_MANAGERS, name, {"currentState": "running", "ownerID": node})

    def _status(self, node: Object, mine: Object) -> dict[str, Any]:
        ready, now = is_true(node, "Ready"), self.now()
        found = status_of(mine).get("conditions")
        if ready:
            found = with_condition(found, "Ready", "True", now, reason="", message="", lastProbeTime="")
        else:
            text = f"Kubernetes node {name_of(node)} not ready: NodeStatusUnknown"
            found = with_condition(
                found, "Ready", "False", now, reason="KubernetesNodeNotReady", message=text, lastProbeTime=""
            )
        found = self._schedulable(node, found, now)
        for kind in ("MountPropagation", "RequiredPackages", "NFSClientInstalled", "KernelModulesLoaded"):
            found = with_condition(found, kind, "True", now, reason="", message="", lastProbeTime="")
        disks = spec_of(mine).get("disks") or {}
        old = status_of(mine).get("diskStatus") or {}
        return {
            "conditions": found, "region": labels_of(node).get(REGION, ""), "zone": labels_of(node).get(ZONE, ""),
            "diskStatus": {d: self._disk_status(node, d, spec, old.get(d) or {}) for d, spec in disks.items()},
        }  # fmt: skip

    def _schedulable(self, node: Object, found: Any, now: str) -> list[dict[str, Any]]:
        cordoned = spec_of(node).get("unschedulable") and self.hub.settings.on("disable-scheduling-on-cordoned-node")
        text = f"the disable-scheduling-on-cordoned-node setting is enabled and node {name_of(node)} is cordoned"
        said = ("False", "KubernetesNodeCordoned", text) if cordoned else ("True", "", "")
        return with_condition(found, "Schedulable", said[0], now, reason=said[1], message=said[2], lastProbeTime="")

    def _disk_status(self, node: Object, disk: str, spec: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        name, now = name_of(node), self.now()
        folder = self.hub.at.folder(name) if is_true(node, "Ready") else None
        known = str(old.get("diskUUID") or "")
        there = disk_id(folder) if folder is not None else known
        if folder is not None and there is None:
            there = name_disk(folder, disk, self.hub.seed.uuid("disk", name, self.hub.chance("disk", name)))
        good = folder is not None and (not known or there == known)
        reason, text = "", ""
        if folder is None:
            reason, text = "NodeNotReady", f"Disk {disk} on node {name} is not ready: node is not ready"
        elif not good:
            reason = "DiskFilesystemChanged"
            text = (
                f"Disk {disk}({spec.get('path')}) on node {name} is not ready: record diskUUID {known} doesn't match "
                f"the one on the disk {there}"
            )
        conditions = with_condition(
            old.get("conditions"), "Ready", "True" if good else "False", now,
            reason=reason, message=text, lastProbeTime="",
        )  # fmt: skip
        full = is_short(self.hub, name)
        conditions = with_condition(
            conditions, "Schedulable", "True" if good and not full else "False", now, lastProbeTime="",
            reason="" if good and not full else "DiskPressure" if full else "DiskNotReady",
            message=f"Disk {disk} on the node {name} has no room for replicas" if full else text,
        )  # fmt: skip
        scheduled = self._scheduled(name, known or str(there))
        maximum = _room(node)
        return {
            "conditions": conditions, "diskUUID": known or str(there), "diskName": disk,
            "diskPath": spec.get("path", ""), "diskType": "filesystem", "filesystemType": "ext2/ext3",
            "scheduledReplica": scheduled, "storageMaximum": maximum, "storageScheduled": sum(scheduled.values()),
            "storageAvailable": maximum - self._used(name),
        }  # fmt: skip

    def _scheduled(self, node: str, disk: str) -> dict[str, int]:
        return {
            name_of(r): int(spec_of(r).get("volumeSize") or 0)
            for r in self.hub.list(REPLICAS)
            if spec_of(r).get("nodeID") == node and spec_of(r).get("diskID") == disk
        }

    def _used(self, node: str) -> int:
        """Return the bytes that replicas take up on a node's disk, as far as volumes tell."""
        sizes = {name_of(v): int(status_of(v).get("actualSize") or 0) for v in self.hub.list(VOLUMES)}
        mine = [r for r in self.hub.list(REPLICAS) if spec_of(r).get("nodeID") == node]
        return sum(sizes.get(spec_of(r).get("volumeName", ""), 0) for r in mine)


def is_short(hub: Hub, node: str) -> bool:
    """Tell whether the fault `replica-short` names a node; without a name it is the last one."""
    for given in hub.faults.arguments("replica-short"):
        names = sorted(name_of(n) for n in hub.api.list("nodes"))
        if node == (given[0] if given else names[-1]):
            return True
    return False


def spots(hub: Hub) -> list[Spot]:
    """Return the disks that take replicas now."""
    found = []
    scheduled: Counter[tuple[str, str]] = Counter()
    for replica in hub.list(REPLICAS):
        place = spec_of(replica)
        scheduled[place.get("nodeID", ""), place.get("diskID", "")] += int(place.get("volumeSize") or 0)
    for node in hub.nodes():
        spec, status = spec_of(node), status_of(node)
        if not (spec.get("allowScheduling") and is_true(node, "Ready") and is_true(node, "Schedulable")):
            continue
        for name, disk in (spec.get("disks") or {}).items():
            state = (status.get("diskStatus") or {}).get(name) or {}
            good = {c["type"] for c in state.get("conditions") or [] if c["status"] == "True"}
            if disk.get("allowScheduling") and {"Ready", "Schedulable"} <= good and not is_short(hub, name_of(node)):
                found.append(_spot(node, name, disk, state, scheduled[name_of(node), state["diskUUID"]]))
    return found


def _spot(node: Object, name: str, disk: dict[str, Any], state: dict[str, Any], scheduled: int) -> Spot:
    maximum = int(state.get("storageMaximum") or 0)
    return Spot(
        node=name_of(node), zone=str(status_of(node).get("zone") or ""), disk=name, disk_id=state["diskUUID"],
        path=str(disk.get("path", "")), maximum=maximum, reserved=int(disk.get("storageReserved") or 0),
        used=maximum - int(state.get("storageAvailable") or 0), scheduled=scheduled,
        tags=tuple(disk.get("tags") or ()), node_tags=tuple(spec_of(node).get("tags") or ()),
    )  # fmt: skip


def _room(node: Object) -> int:
    text = (status_of(node).get("capacity") or {}).get("ephemeral-storage")
    return int(quantity(text)) if text else _DEFAULT_DISK
