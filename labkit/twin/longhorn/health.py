"""The replicas of a volume: placed, failed, salvaged, rebuilt, and what that makes of the volume's robustness."""

from __future__ import annotations

from typing import Any

from labkit.twin.controllers.ages import Ages
from labkit.twin.controllers.objects import is_deleting, name_of, spec_of, status_of, uid_of
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.disks import disk_id, drop_replica, put_replica
from labkit.twin.longhorn.hub import Hub, is_attached, is_restore_failed, is_restoring, owner_of_parts
from labkit.twin.longhorn.names import ENGINES, NAMESPACE, NODES, REPLICAS, VOLUME_LABEL, VOLUMES, engine_name
from labkit.twin.longhorn.nodes import spots
from labkit.twin.longhorn.parts import replica_spec, set_condition
from labkit.twin.longhorn.placement import Rules, Spot, choose

_PORT = 10000


class Health:
    """Look after the replicas of volumes."""

    def __init__(self, hub: Hub, ages: Ages) -> None:
        self.hub = hub
        self.ages = ages

    def look(self, volume: Object) -> float | None:
        """Bring a volume's replicas and robustness up to date; return when to look again."""
        waits = [self._fail_or_mend(volume), self.place(volume)]
        self._robustness(volume)
        due = [wait for wait in waits if wait is not None]
        return min(due) if due else None

    def place(self, volume: Object) -> float | None:
        """See that there are as many replicas as asked for, each with a place; return when to try again."""
        name, spec = name_of(volume), spec_of(volume)
        if spec.get("nodeID") and not is_attached(volume) and status_of(volume).get("state") != "creating":
            return None
        replicas = self.hub.replicas(name)
        counted = [r for r in replicas if not spec_of(r).get("failedAt") or not self._is_given_up(r)]
        sound = [r for r in counted if not spec_of(r).get("failedAt")]
        may_grow = status_of(volume).get("state") == "creating" or (is_attached(volume) and sound)
        missing = int(spec["numberOfReplicas"]) - len(counted) if may_grow else 0
        for _ in range(missing):
            replicas.append(self._make(volume))
        problem = ""
        for replica in replicas:
            if not spec_of(replica).get("nodeID"):
                problem = self._schedule(volume, replica) or problem
        self._scheduled(volume, problem)
        return self.hub.pace.retry * 3 if problem else None

    def drop(self, replica: Object) -> None:
        """Remove a replica and its files."""
        spec = spec_of(replica)
        folder = self.hub.at.folder(spec.get("nodeID", "")) if spec.get("nodeID") else None
        if folder is not None and disk_id(folder) == spec.get("diskID"):
            drop_replica(folder, spec["dataDirectoryName"])
        self.hub.api.delete(REPLICAS, name_of(replica), NAMESPACE)
        left = self.hub.get(REPLICAS, name_of(replica))
        if left is not None and is_deleting(left):
            self.hub.let_go(REPLICAS, left)

    def _make(self, volume: Object) -> Object:
        name = name_of(volume)
        end = self.hub.chance("replica", name)
        spec = replica_spec(volume, engine_name(name), f"{name}-{self.hub.chance('directory', name)}")
        return self.hub.create(
            REPLICAS, f"{name}-r-{end}", spec, labels={VOLUME_LABEL: name}, ownerReferences=[owner_of_parts(volume)]
        )

    def _schedule(self, volume: Object, replica: Object) -> str:
        """Give a replica its place and put its files there; return why that is not possible."""
        name, settings = name_of(volume), self.hub.settings
        placed = [r for r in self.hub.replicas(name) if spec_of(r).get("nodeID") and not spec_of(r).get("failedAt")]
        nodes = {spec_of(r)["nodeID"] for r in placed}
        rules = Rules(
            soft_nodes=_soft(volume, "replicaSoftAntiAffinity", settings.on("replica-soft-anti-affinity")),
            soft_zones=_soft(volume, "replicaZoneSoftAntiAffinity", settings.on("replica-zone-soft-anti-affinity")),
            over_provisioning=settings.number("storage-over-provisioning-percentage"),
            minimal=settings.number("storage-minimal-available-percentage"),
            node_tags=tuple(spec_of(volume).get("nodeSelector") or ()),
            disk_tags=tuple(spec_of(volume).get("diskSelector") or ()),
        )
        chosen = choose(spots(self.hub), int(spec_of(volume)["size"]), nodes, self._zones(nodes), rules)
        if isinstance(chosen, str):
            return chosen
        self._put(volume, replica, chosen)
        return ""

    def _zones(self, nodes: set[str]) -> set[str]:
        found = {str(status_of(n).get("zone") or "") for n in self.hub.nodes() if name_of(n) in nodes}
        return found - {""}

    def _put(self, volume: Object, replica: Object, spot: Spot) -> None:
        name, size = name_of(volume), int(spec_of(volume)["size"])
        image = self.hub.image_of(name)
        rebuild = image is not None and is_attached(volume)
        if image is None:
            image = f"{name}-{self.hub.chance('image', name)}"
            self.hub.images.clear(image, size)
        folder = self.hub.at.folder(spot.node)
        if folder is not None:
            put_replica(folder, spec_of(replica)["dataDirectoryName"], image, size)
        self.hub.patch(REPLICAS, name_of(replica), {"spec": {
            "nodeID": spot.node, "diskID": spot.disk_id, "diskPath": spot.path, "healthyAt": "",
            "failedAt": self.hub.now() if rebuild else "",
        }})  # fmt: skip
        self.hub.status(REPLICAS, name_of(replica), {"currentState": "stopped", "ownerID": spot.node})

    def _scheduled(self, volume: Object, problem: str) -> None:
        fresh = self.hub.get(VOLUMES, name_of(volume)) or volume
        said = ("False", "ReplicaSchedulingFailure", problem) if problem else ("True", "", "")
        wanted = set_condition(status_of(fresh).get("conditions"), "Scheduled", said[0], self.hub.now(), *said[1:])
        if wanted != status_of(fresh).get("conditions"):
            self.hub.status(VOLUMES, name_of(volume), {"conditions": wanted})

    def _is_given_up(self, replica: Object) -> bool:
        """Tell whether a failed replica is to be replaced: its data is gone, or the wait is over."""
        failed = self.ages.of((uid_of(replica), "failed"), spec_of(replica).get("failedAt"))
        wait = self.hub.settings.number("replica-replenishment-wait-interval")
        node = spec_of(replica).get("nodeID", "")
        gone = self.hub.get(NODES, node) is None or (self.hub.is_ready(node) and not self.hub.has_data(replica))
        return (gone or failed >= wait) and not self._is_faulty(replica)

    def _is_faulty(self, replica: Object) -> bool:
        """Tell whether the fault `volume-degraded` keeps a replica down: the last of a volume or claim."""
        volume = str(spec_of(replica).get("volumeName"))
        found = self.hub.get(VOLUMES, volume)
        claim = (status_of(found or {}).get("kubernetesStatus") or {}).get("pvcName", "")
        if not any(given[0] in (volume, claim) for given in self.hub.faults.arguments("volume-degraded")):
            return False
        return name_of(replica) == max(name_of(r) for r in self.hub.replicas(volume))

    def _fail_or_mend(self, volume: Object) -> float | None:
        """Mark replicas that are out of reach, and take back those that have returned."""
        if is_restore_failed(volume):
            return None
        replicas = [r for r in self.hub.replicas(name_of(volume)) if spec_of(r).get("nodeID")]
        good = [r for r in replicas if self.hub.has_data(r) and not self._is_faulty(r)]
        attached = is_attached(volume)
        waits: list[float] = []
        for replica in replicas:
            failed = bool(spec_of(replica).get("failedAt"))
            if replica not in good and not failed and (attached or self._is_lost(replica)):
                self._fail(replica)
            elif failed and self._is_given_up(replica) and good:
                self.drop(replica)
            elif replica in good and failed:
                waits += self._mend(replica, good, attached=attached)
            elif failed and not self._is_faulty(replica):
                waits.append(self.hub.settings.number("replica-replenishment-wait-interval") / 4)
        return min(waits) if waits else None

    def _is_lost(self, replica: Object) -> bool:
        """Tell whether a replica's data is gone for good: its machine lives, and has it not."""
        return self.hub.is_ready(spec_of(replica).get("nodeID", "")) and not self.hub.has_data(replica)

    def _fail(self, replica: Object) -> None:
        now = self.hub.now()
        self.hub.patch(REPLICAS, name_of(replica), {"spec": {"failedAt": now, "lastFailedAt": now, "healthyAt": ""}})
        self.hub.status(REPLICAS, name_of(replica), {"currentState": "error", "started": False})

    def _mend(self, replica: Object, good: list[Object], *, attached: bool) -> list[float]:
        """Take a failed replica back: rebuilt from a healthy one, or salvaged when there is none."""
        healthy = [r for r in good if not spec_of(r).get("failedAt")]
        volume = self.hub.get(VOLUMES, str(spec_of(replica)["volumeName"]))
        if not healthy and self.hub.settings.on("auto-salvage") and not is_restoring(volume or {}):
            self.hub.patch(REPLICAS, name_of(replica), {"spec": {"failedAt": ""}})
            return []
        if not (healthy and attached):
            return []
        age = self.ages.of((uid_of(replica), "rebuild"), spec_of(replica).get("failedAt"))
        left = self.hub.slow(self.hub.pace.rebuild) - age
        if left > 0.01:
            self.hub.status(REPLICAS, name_of(replica), {"currentState": "running"})
            return [left]
        now = self.hub.now()
        self.hub.patch(REPLICAS, name_of(replica), {"spec": {"failedAt": "", "healthyAt": now, "lastHealthyAt": now}})
        return []

    def _robustness(self, volume: Object) -> None:
        name = name_of(volume)
        fresh = self.hub.get(VOLUMES, name) or volume
        replicas = self.hub.replicas(name)
        placed = [r for r in replicas if spec_of(r).get("nodeID")]
        sound = [r for r in placed if not spec_of(r).get("failedAt")]
        robustness = self._verdict(fresh, placed, sound)
        status: dict[str, Any] = {"robustness": robustness}
        if robustness == "degraded" and status_of(fresh).get("robustness") != "degraded":
            status["lastDegradedAt"] = self.hub.now()
        if robustness == "faulted" and status_of(fresh).get("state") in ("attached", "attaching"):
            status |= {"state": "detached", "currentNodeID": ""}
        self.hub.status(VOLUMES, name, status)
        if is_attached(fresh) and robustness != "faulted":
            self._engine(name, sound, placed)

    def _verdict(self, volume: Object, placed: list[Object], sound: list[Object]) -> str:
        status = status_of(volume)
        if placed and not sound:
            return "faulted"
        if not is_attached(volume) or not self.hub.is_ready(status.get("currentNodeID") or ""):
            kept = status.get("robustness") == "faulted" and is_restoring(volume)
            return "faulted" if kept else "unknown"
        return "healthy" if len(sound) >= int(spec_of(volume)["numberOfReplicas"]) else "degraded"

    def _engine(self, name: str, sound: list[Object], placed: list[Object]) -> None:
        """Show the replicas in the engine, and let them run."""
        modes = {name_of(r): "RW" for r in sound}
        modes |= {name_of(r): "WO" for r in placed if r not in sound and status_of(r).get("currentState") == "running"}
        addresses = {name_of(r): f"10.42.{_number(spec_of(r)['nodeID'])}.9:{_PORT + 10 * n}"
                     for n, r in enumerate(sorted(sound, key=name_of))}  # fmt: skip
        engine = self.hub.engine(name)
        if engine is None:
            return
        self.hub.patch(ENGINES, name_of(engine), {"spec": {"replicaAddressMap": _exactly(
            spec_of(engine).get("replicaAddressMap"), addresses)}})  # fmt: skip
        status = status_of(engine)
        self.hub.status(ENGINES, name_of(engine), {
            "replicaModeMap": _exactly(status.get("replicaModeMap"), modes),
            "currentReplicaAddressMap": _exactly(status.get("currentReplicaAddressMap"), addresses),
        })  # fmt: skip
        now = self.hub.now()
        for replica in sound:
            spec: dict[str, Any] = {"desireState": "running"}
            if not spec_of(replica).get("healthyAt"):
                spec |= {"healthyAt": now, "lastHealthyAt": now}
            self.hub.patch(REPLICAS, name_of(replica), {"spec": spec})
            if status_of(replica).get("currentState") != "running":
                address = addresses[name_of(replica)].partition(":")[0]
                self.hub.status(REPLICAS, name_of(replica), {
                    "currentState": "running", "started": True, "ownerID": spec_of(replica)["nodeID"], "ip": address,
                })  # fmt: skip


def _exactly(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    """Return a merge patch that turns one map into another."""
    return {**dict.fromkeys(old or {}, None), **new}


def _soft(volume: Object, key: str, setting: bool) -> bool:
    chosen = spec_of(volume).get(key, "ignored")
    return setting if chosen == "ignored" else chosen == "enabled"


def _number(node: str) -> int:
    return sum(node.encode()) % 250
