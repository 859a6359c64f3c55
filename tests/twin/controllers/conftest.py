"""A cluster in memory: the real store, the real controllers, and nodes that live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from labkit.twin.clock import TwinClock
from labkit.twin.controllers import AddressPool, Behaviours, Kubelets, LivingNode, LocalPath, start
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi

SCALE = 0.002


@dataclass
class Cluster:
    """What a test holds of a cluster."""

    api: LocalApi
    clock: TwinClock
    kubelets: Kubelets | None = None
    nodes: dict[str, LivingNode] = field(default_factory=dict)

    def add_node(self, name: str, number: int, **fields: Any) -> LivingNode:
        assert self.kubelets is not None
        node = LivingNode(self.kubelets, name, f"192.168.5.{number}", "v1.33.4+k3s1", **fields)
        node.start()
        self.nodes[name] = node
        return node

    async def until(self, check: Callable[[], Any], within: float = 10.0) -> Any:
        """Wait until a check holds, and return what it gave."""
        deadline = asyncio.get_running_loop().time() + within
        while not (found := check()):
            assert asyncio.get_running_loop().time() < deadline, "what the test waits for did not come"
            await asyncio.sleep(0.002)
        return found

    async def settle(self, twin_seconds: float = 5.0) -> None:
        await self.clock.sleep(twin_seconds)

    @staticmethod
    def condition(obj: Object, kind: str, what: str = "status") -> Any:
        return condition(obj, kind, what)

    def get(self, resource: str, name: str, namespace: str = "default") -> Object:
        found = self.api.get(resource, name, namespace)
        assert found is not None, f"there is no {resource} {name}"
        return found

    def status(self, resource: str, name: str, namespace: str = "default") -> Any:
        return self.get(resource, name, namespace).get("status", {})

    def pods(self, **labels: str) -> list[Object]:
        return self.api.list("pods", labels=labels)

    def ready(self, **labels: str) -> list[Object]:
        return [p for p in self.pods(**labels) if condition(p, "Ready") == "True" and not deleted(p)]

    def events(self, reason: str) -> list[str]:
        return [e["message"] for e in self.api.list("events") if e["reason"] == reason]


def condition(obj: Object, kind: str, what: str = "status") -> Any:
    found = [c for c in obj.get("status", {}).get("conditions") or [] if c["type"] == kind]
    return found[0].get(what) if found else None


def deleted(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


@asynccontextmanager
async def running(nodes: int = 0, *, scale: float = SCALE, **options: Any) -> AsyncIterator[Cluster]:
    """Run the controllers; with nodes also the scheduler and the kubelets."""
    clock = TwinClock(scale)
    api = LocalApi(new_core(clock))
    cluster = Cluster(api, clock)
    if nodes or options.pop("living", False):
        cluster.kubelets = Kubelets(api, clock, options.pop("behaviours", None) or Behaviours())
        options = {
            "scheduler": True, "kubelets": cluster.kubelets, "balancer": AddressPool(["192.168.5.50-192.168.5.52"]),
            "provisioners": {"rancher.io/local-path": LocalPath()}, **options,
        }  # fmt: skip
    for index in range(nodes):
        cluster.add_node(f"n{index + 1}", 21 + index)
    tasks = start(api, clock, **options)
    try:
        yield cluster
    finally:
        for node in cluster.nodes.values():
            node.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(name="running")
def fixture_running() -> Any:
    return running


@pytest.fixture(name="workload")
def fixture_workload() -> Any:
    return workload


def workload(kind: str, name: str, replicas: int | None = 1, **spec: Any) -> Object:
    """Build a Deployment, StatefulSet, DaemonSet or ReplicaSet whose pods carry the label app=<name>."""
    pod = {"containers": [{"name": "main", "image": spec.pop("image", "registry.example/app:1")}]}
    pod |= spec.pop("pod", {})
    labels = {"app": name}
    body: dict[str, Any] = {"selector": {"matchLabels": labels}}
    metadata = {"labels": labels, **({"annotations": spec.pop("notes")} if "notes" in spec else {})}
    body["template"] = {"metadata": metadata, "spec": pod}
    if replicas is not None and kind != "DaemonSet":
        body["replicas"] = replicas
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
        "spec": {**body, **spec},
    }  # fmt: skip
