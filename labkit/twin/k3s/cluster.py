"""One k3s cluster: its data, its etcd members, its API and controllers, the nodes that report to it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.twin.controllers import (
    Balancer,
    Controller,
    Kubelets,
    LivingNode,
    LocalPath,
    NodeAddresses,
    Provisioner,
    start,
)
from labkit.twin.controllers.addons import install, k3s_addons
from labkit.twin.k3s.api import ApiServer
from labkit.twin.k3s.controllers import NodeEnd
from labkit.twin.k3s.crds import k3s_crds
from labkit.twin.k3s.data import Content, dump_core, load_core, seal
from labkit.twin.k3s.members import Members
from labkit.twin.k3s.pki import Pki
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import ApiError, Object

if TYPE_CHECKING:
    from labkit.twin.k3s.node import Node
    from labkit.twin.k3s.server import Server
    from labkit.twin.k3s.settings import Settings
    from labkit.twin.world import World

_log = logging.getLogger(__name__)
CRD = "customresourcedefinitions.apiextensions.k8s.io"


class Cluster:
    """What all servers of one cluster share.

    Attributes that others use: `api` (the door for controllers), `server` (the API over HTTP), `kubelets`,
    `balancer` and `provisioners` (what gives addresses and volumes; may be changed before or while it runs),
    `members`, `nodes`, `more` (makers of further controllers).
    """

    def __init__(
        self,
        world: World,
        ident: str,
        *,
        pki: Pki,
        password: str,
        settings: Settings,
        content: Content | None = None,
    ) -> None:
        self.world = world
        self.id = ident
        self.pki = pki
        self.password = password
        self.agent_password = settings.one("agent-token") or password
        self.critical = settings.critical()
        self.cluster_cidr = self.critical["cluster-cidr"]
        self.etcd = settings.on("cluster-init") or content is not None
        seed = int(world.seed.hex("k3s", ident, length=8), 16)
        cidr = self.critical["service-cidr"]
        core = (
            new_core(world.clock, seed=seed, service_cidr=cidr)
            if content is None
            else load_core(content, world.clock, seed=seed, service_cidr=cidr)
        )
        self.members = Members()
        self.server = ApiServer(world, core, healthy=lambda: self.members.has_quorum)
        self.api = self.server.door
        self.kubelets = Kubelets(self.api, world.clock)
        self.balancer: Balancer | None = None
        self.provisioners: dict[str, Provisioner] = {}
        self.more: list[Callable[[Cluster], Sequence[Controller]]] = []
        self.nodes: dict[str, Node] = {}
        self.servers: dict[str, Server] = {}
        """The servers that run, by the name of their node."""
        self.doors: set[Server] = set()
        """Those that answer requests now."""
        self.hosts: list[str] = []
        """Names and addresses for the certificates of its servers."""
        self.virtual: set[str] = set()
        """The addresses of kube-vip at which a server answers now."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def first_address(self) -> str:
        """The cluster address of the API."""
        return str(ipaddress.ip_network(self.critical["service-cidr"])[1])

    @property
    def serves(self) -> bool:
        """Whether any server answers and etcd has its quorum."""
        return bool(self.doors) and self.members.has_quorum

    def settle(self) -> None:
        """Start or stop the controllers and nodes, as the members and servers allow."""
        if self.serves and not self._tasks:
            self._tasks = self._start_controllers()
            for node in self.nodes.values():
                node.follow()
        elif not self.serves and self._tasks:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            for node in self.nodes.values():
                node.follow()

    def found(self, settings: Settings) -> None:
        """Put into a new cluster what k3s puts there."""
        for crd in k3s_crds():
            self.api.create(CRD, crd)
        self.deploy(settings)

    def deploy(self, settings: Settings) -> None:
        """Apply the packaged components, as each server does at its start; take the disabled ones away."""
        disabled = settings.disabled
        install(self.api, k3s_addons(disabled, dns_address=self.critical["cluster-dns"]))
        if self.balancer is None and "servicelb" not in disabled:
            self.balancer = NodeAddresses()
        if "local-storage" not in disabled:
            self.provisioners.setdefault("rancher.io/local-path", LocalPath())
        kept = {_place(item) for item in k3s_addons(disabled)}
        for item in k3s_addons():
            if _place(item) not in kept:
                self._delete(item)

    def apply(self, item: Object) -> None:
        """Apply one object of the manifests folder; what the API refuses is logged and tried again later."""
        try:
            self.api.apply(item, manager="deploy@k3s", force=True)
        except ApiError as exc:
            _log.info("%s %s: %s", item.get("kind"), item.get("metadata", {}).get("name"), exc)

    def content(self) -> Content:
        """Return all of it as a snapshot holds it."""
        return {**dump_core(self.server.core), "bootstrap": seal(self.pki, self.password)}

    def forget(self, name: str) -> None:
        """Let go of a node that is deleted: its etcd member, and its kubelet, which does not register again."""
        self.members.remove(name)
        if name in self.servers:
            self.servers[name].removed.set()
        node = self.nodes.pop(name, None)
        if node is not None:
            node.end()
        self.settle()

    def living(self, name: str) -> LivingNode | None:
        """Return the living node of a name."""
        node = self.nodes.get(name)
        return node.living if node else None

    def stop(self) -> None:
        """End everything."""
        self.doors.clear()
        self.settle()

    def _start_controllers(self) -> list[asyncio.Task[None]]:
        more: list[Controller] = [NodeEnd(self.api, self.world.clock, self.forget)]
        more += [controller for make in self.more for controller in make(self)]
        provisioners: Mapping[str, Provisioner] = self.provisioners
        return start(
            self.api, self.world.clock, scheduler=True, kubelets=self.kubelets, balancer=self.balancer,
            provisioners=provisioners, ca=self.pki.server_ca, more=more,
        )  # fmt: skip

    def _delete(self, item: Object) -> None:
        meta = item["metadata"]
        resource = self.server.core.registry.of_kind(item["apiVersion"], item["kind"])
        if resource is not None:
            self.api.delete(resource.key, meta["name"], meta.get("namespace", ""))


def _place(item: Object) -> tuple[str, str, str]:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]
