"""A cluster with Longhorn, its nodes and a NAS, in memory but for the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labkit.twin import controllers
from labkit.twin.clock import TwinClock
from labkit.twin.controllers import Kubelets, LivingNode
from labkit.twin.faults import Faults
from labkit.twin.kube.door import Object
from labkit.twin.kube.server import KubeServer
from labkit.twin.longhorn import Hub, Longhorn, LonghornProvisioner, install, start
from labkit.twin.longhorn.disks import FolderDisks
from labkit.twin.longhorn.store import BackupStore
from labkit.twin.nas.exports import Exports

SCALE = 0.002
URL = "nfs://nas.lan:/mnt/tank/backups"
NAMESPACE = "longhorn-system"


@dataclass
class Lab:
    """What a test holds."""

    server: KubeServer
    longhorn: Longhorn
    clock: TwinClock
    nas: Exports
    faults: Faults
    disks: FolderDisks
    kubelets: Kubelets
    nodes: dict[str, LivingNode] = field(default_factory=dict)

    @property
    def api(self) -> Any:
        return self.server.door

    @property
    def hub(self) -> Hub:
        return self.longhorn.hub

    @property
    def store(self) -> BackupStore:
        return BackupStore(self.nas.places[URL])

    def get(self, resource: str, name: str, namespace: str = NAMESPACE) -> Object:
        found = self.api.get(resource, name, namespace)
        assert found is not None, f"no {resource} {name}"
        return found  # type: ignore[no-any-return]

    def status(self, resource: str, name: str, namespace: str = NAMESPACE) -> Any:
        found = self.api.get(resource, name, namespace)
        return (found or {}).get("status", {})

    def volume(self, name: str) -> Any:
        return self.status("volumes.longhorn.io", name)

    def condition(self, name: str, kind: str) -> Any:
        return next((c for c in self.volume(name).get("conditions") or () if c["type"] == kind), {})

    def replicas(self, volume: str) -> list[Object]:
        return self.hub.replicas(volume)

    def make(self, name: str, **spec: Any) -> Object:
        given = {"size": str(64 << 20), "numberOfReplicas": 3, "frontend": "blockdev", **spec}
        return self.api.create("volumes.longhorn.io", {  # type: ignore[no-any-return]
            "apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {key: value for key, value in given.items() if value is not None},
        })  # fmt: skip

    async def app(self, name: str, *, claim: dict[str, Any] | None = None, labels: dict[str, str] | None = None) -> str:
        """Make a claim and a Deployment on it; return the volume's name once the pod runs."""
        self.api.create("persistentvolumeclaims", {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": f"{name}-data", "namespace": "default", "labels": labels or {}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}},
                     "storageClassName": "longhorn", **(claim or {})},
        })  # fmt: skip
        self.deploy(name)
        await self.until(lambda: self.running(name))
        return str(self.get("persistentvolumeclaims", f"{name}-data", "default")["spec"]["volumeName"])

    def deploy(self, name: str) -> None:
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": f"{name}-data"}}
        pod = {"containers": [{"name": "main", "image": "example/app:1"}], "volumes": [volume],
               "terminationGracePeriodSeconds": 1}  # fmt: skip
        body = {"selector": {"matchLabels": {"app": name}}, "replicas": 1, "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}  # fmt: skip
        self.api.create("deployments.apps", {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
            "spec": body,
        })  # fmt: skip

    def pods(self, name: str) -> list[Object]:
        return self.api.list("pods", "default", {"app": name})  # type: ignore[no-any-return]

    def running(self, name: str) -> bool:
        return any(p["status"].get("phase") == "Running" for p in self.pods(name))

    def scale(self, name: str, replicas: int) -> None:
        self.api.patch("deployments.apps", name, {"spec": {"replicas": replicas}}, "default")

    async def until(self, check: Callable[[], Any], within: float = 15.0) -> Any:
        deadline = asyncio.get_running_loop().time() + within
        while not (found := check()):
            assert asyncio.get_running_loop().time() < deadline, "what the test waits for did not come"
            await asyncio.sleep(0.004)
        return found

    async def backup(self, volume: str, *, state: str = "Completed") -> str:
        """Back up a volume as the API does; return the backup's name when it has come to that state."""
        snapshot = self.longhorn.actions.snapshot(volume)["metadata"]["name"]
        await self.until(lambda: self.status("snapshots.longhorn.io", snapshot).get("readyToUse"))
        name = self.longhorn.actions.backup(volume, snapshot)
        await self.until(lambda: self.status("backups.longhorn.io", name).get("state") == state)
        return name

    async def target(self, *, available: bool = True) -> None:
        def seen() -> bool:
            status = self.status("backuptargets.longhorn.io", "default")
            return status.get("available") is available and (not available or bool(status.get("lastSyncedAt")))

        await self.until(seen)

    async def attached(self, name: str, robustness: str = "healthy") -> None:
        def is_so() -> bool:
            status = self.volume(name)
            return (status.get("state"), status.get("robustness")) == ("attached", robustness)

        await self.until(is_so)

    def attach(self, name: str, node: str = "n1") -> None:
        self.hub.ticket(name, "test", "longhorn-api", node)

    async def fault(self, text: str) -> None:
        self.faults.set(text)
        await self.faults.settle()

    async def clear(self, text: str) -> None:
        self.faults.clear(text)
        await self.faults.settle()


@asynccontextmanager
async def running(
    folder: Path, *, nodes: int = 3, zones: tuple[str, ...] = (), version: str = "1.10.2", url: str = URL, **more: Any
) -> AsyncIterator[Lab]:
    """Run a cluster of some nodes with Longhorn in it."""
    clock, faults = TwinClock(SCALE), Faults()
    server = KubeServer(clock=clock)
    kubelets = Kubelets(server.door, clock)
    nas = Exports(folder / "nas", [URL], faults, clock)
    disks = FolderDisks(folder / "disks")
    tasks = controllers.start(
        server.door, clock, scheduler=True, kubelets=kubelets,
        provisioners={"driver.longhorn.io": LonghornProvisioner(server.door, clock)},
    )  # fmt: skip
    longhorn, own = start(server.door, clock, nas, folder=folder / "longhorn", server=server, kubelets=kubelets,
                          faults=faults, disks=disks)  # fmt: skip
    lab = Lab(server, longhorn, clock, nas, faults, disks, kubelets)
    for number in range(nodes):
        name = f"n{number + 1}"
        labels = {"topology.kubernetes.io/zone": zones[number]} if zones else {}
        lab.nodes[name] = LivingNode(kubelets, name, f"10.0.0.{number + 1}", "v1.33.4+k3s1", labels=labels)
        lab.nodes[name].start()
    install(server.door, version, backup_target=url, **more)
    await lab.until(lambda: longhorn.running and len(longhorn.hub.nodes()) == nodes)
    await lab.until(lambda: all(n["status"].get("diskStatus") for n in longhorn.hub.nodes()))
    try:
        yield lab
    finally:
        for node in lab.nodes.values():
            node.stop()
        await nas.stop()
        for task in [*own, *tasks]:
            task.cancel()
        await asyncio.gather(*own, *tasks, return_exceptions=True)


@pytest.fixture(name="running")
def fixture_running() -> Any:
    return running
