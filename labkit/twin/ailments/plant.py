"""Plant what ails a lab, in a twin: by the fault `ailing:NAME`, or all of it for the scenario `ailing`."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from labkit.errors import StepFailed
from labkit.twin.ailments import AILMENTS, Ailment
from labkit.twin.ailments.ailment import fill, names_of
from labkit.twin.controllers.objects import name_of, spec_of, status_of
from labkit.twin.flux.system import GitOps
from labkit.twin.k3s.system import K3s
from labkit.twin.kube.local import LocalApi
from labkit.twin.longhorn.names import VOLUMES
from labkit.twin.world import World

FAULT = "ailing"
Actions = Mapping[str, Callable[[dict[str, Any]], Awaitable[Any]]]


class Ailments:
    """Carry out the steps of ailments.

    Args:
        world: what the parts share.
        actions: of the other parts, by name.
        k3s: its clusters.
        gitops: its repository.

    Attributes:
        actions: for the control server: `ailments`, what was planted and what a report must say of it; `make` any
            object (`resource`, `object`), `commit` a file (`path`, `text`), `certificate`, a TLS Secret of no
            Certificate (`name`, `namespace`, `hosts`, `days`); `bad-image`, by a pattern (`image`).
    """

    def __init__(self, world: World, actions: Actions, k3s: K3s, gitops: GitOps) -> None:
        self._world = world
        self._k3s = k3s
        self._gitops = gitops
        self._planted: list[str] = []
        self.actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "ailments": self.view, "make": self.make, "commit": self.commit, "certificate": self.certificate,
            "bad-image": self.bad_image,
        }  # fmt: skip
        self._known = {**actions, **self.actions, "fault": self._fault}
        world.faults.follow(self.follow)

    async def follow(self) -> None:
        """Plant what the faults ask for and is not there yet; what was planted stays when its fault is cleared."""
        for (name,) in self._world.faults.arguments(FAULT):
            if name not in self._planted and (AILMENTS[name].early or self._k3s.cluster is not None):
                await self.plant([AILMENTS[name]])

    async def plant(self, ailments: Iterable[Ailment]) -> None:
        """Carry out the steps of some ailments, one after the other."""
        for one in ailments:
            if one.name in self._planted:
                continue
            self._planted.append(one.name)
            cast = self._cast()
            for step in one.steps:
                await self._known[step.action](fill(step.given, cast))

    async def view(self, _given: dict[str, Any]) -> dict[str, list[list[str]]]:
        """Return the check and subject of every finding that each planted ailment must make."""
        cast = self._cast()
        found = {}
        for name in self._planted:
            one = AILMENTS[name]
            found[name] = [[check, fill(subject, cast)] for check, subject in (one.finds, *one.also)]
        return found

    async def make(self, given: dict[str, Any]) -> None:
        """Make an object, with the status that it carries."""
        body = given["object"]
        self._api.create(str(given["resource"]), {key: value for key, value in body.items() if key != "status"})
        if "status" in body:
            about = body["metadata"]
            self._api.patch(str(given["resource"]), about["name"], {"status": body["status"]},
                            about.get("namespace", ""), subresource="status")  # fmt: skip

    async def commit(self, given: dict[str, Any]) -> str:
        """Commit a file as somebody else does; return the commit."""
        await self._gitops.prepare()
        return self._gitops.bare.commit({str(given["path"]): str(given["text"]).encode()}, "Somebody else: a change")

    async def certificate(self, given: dict[str, Any]) -> None:
        """Make a TLS Secret by hand, which nothing renews."""
        issued = self._gitops.issue(list(given["hosts"]), float(given["days"]))
        data = {"tls.crt": issued.chain, "tls.key": issued.key}
        self._api.create("secrets", {
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": given["name"], "namespace": given["namespace"]},
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        })  # fmt: skip

    async def bad_image(self, given: dict[str, Any]) -> None:
        """Have images like this not found from now on."""
        cluster = self._k3s.cluster
        if cluster is not None:
            cluster.kubelets.behaviours.break_image(str(given["image"]))

    async def _fault(self, given: dict[str, Any]) -> None:
        self._world.faults.set(str(given["name"]))
        await self._world.faults.settle()

    @property
    def _api(self) -> LocalApi:
        cluster = self._k3s.cluster
        if cluster is None:
            raise StepFailed("expected a cluster that serves, got none")
        return cluster.api

    def _cast(self) -> dict[str, str]:
        """Return what placeholders stand for; volumes by number, those in use first."""
        names = names_of(self._world.lab)
        volumes = self._api.list(VOLUMES) if self._k3s.cluster is not None else []
        for number, volume in enumerate(sorted(volumes, key=name_of), 1):
            known = status_of(volume).get("kubernetesStatus") or {}
            claim = f"{known.get('namespace', '')}/{known.get('pvcName', '')}"
            names |= {f"volume{number}": name_of(volume), f"claim{number}": claim,
                      f"replicas{number}": str(spec_of(volume).get("numberOfReplicas") or "")}  # fmt: skip
        return names
