"""A cluster in memory with nodes and the programs that charts bring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit.twin.charts import Catalogue
from labkit.twin.charts.issuing import Issuer
from labkit.twin.charts.programs import programs
from labkit.twin.clock import TwinClock
from labkit.twin.controllers import Controller, Kubelets, LivingNode, start
from labkit.twin.flux.applying import Applier, ordered
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi

SCALE = 0.004


@dataclass
class Lab:
    """What a test holds of it."""

    api: LocalApi
    clock: TwinClock
    issuer: Issuer

    async def install(self, chart: str, version: str, values: Mapping[str, Any] | None = None, space: str = "") -> None:
        """Apply what a chart makes, as a release of its name in a namespace of its name."""
        space = space or chart
        if self.api.get("namespaces", space) is None:
            self.api.create("namespaces", {"metadata": {"name": space}})
        found = Catalogue().find(chart, version)
        release = found.release(chart, space, values or {})
        applier = Applier(self.api, "helm-controller")
        await applier.apply(ordered(found.chart.crds(release)))
        await applier.apply(ordered(found.chart.render(release)))

    def apply(self, *objects: Object) -> None:
        for one in objects:
            self.api.apply(one, manager="tests", force=True)

    def get(self, resource: str, name: str, namespace: str = "default") -> Object | None:
        return self.api.get(resource, name, namespace)

    async def until(self, check: Callable[[], Any], within: float = 20.0) -> Any:
        deadline = asyncio.get_running_loop().time() + within
        while not (found := check()):
            assert asyncio.get_running_loop().time() < deadline, "what the test waits for did not come"
            await asyncio.sleep(0.005)
        return found


def condition(obj: Object | None, kind: str) -> tuple[str, str]:
    found = [one for one in (obj or {}).get("status", {}).get("conditions") or [] if one["type"] == kind]
    return (found[0]["status"], found[0].get("reason", "")) if found else ("", "")


@pytest.fixture
def lab(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def running(
        *, scale: float = SCALE, more: Callable[[Lab], list[Controller]] = lambda _lab: []
    ) -> AsyncIterator[Lab]:
        clock = TwinClock(scale)
        api = LocalApi(new_core(clock))
        made = Lab(api, clock, Issuer(tmp_path / "ca.pem", "test authority"))
        kubelets = Kubelets(api, clock)
        own = [*programs(api, clock, made.issuer), *more(made)]
        tasks = start(api, clock, scheduler=True, kubelets=kubelets, more=own)
        nodes = [LivingNode(kubelets, f"n{n}", f"192.168.5.2{n}", "v1.33.4+k3s1") for n in (1, 2)]
        for node in nodes:
            node.start()
        if api.get("namespaces", "default") is None:
            api.create("namespaces", {"metadata": {"name": "default"}})
        try:
            yield made
        finally:
            for node in nodes:
                node.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return running
