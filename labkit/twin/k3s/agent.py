"""A k3s agent from its start to its end: it asks until a server lets it in, then its node lives.

It knows all servers by then, and turns to another one, or to the cluster that a reset has made of its own.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from labkit.twin.k3s import places
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.leaves import write_leaves
from labkit.twin.k3s.node import Node, make_living
from labkit.twin.k3s.server import check_clock
from labkit.twin.k3s.tokens import read_token

if TYPE_CHECKING:
    from labkit.twin.k3s.cluster import Cluster
    from labkit.twin.k3s.host import Host
    from labkit.twin.k3s.service import Service
    from labkit.twin.k3s.settings import Settings


_SERVERS = f"{places.AGENT}/etc/k3s-agent-load-balancer.json"


class Agent:
    """One run of `k3s agent` on a host."""

    def __init__(self, host: Host, service: Service, settings: Settings, version: str) -> None:
        self.host = host
        self.service = service
        self.settings = settings
        self.version = version
        self.node: Node | None = None

    async def run(self) -> None:
        """Work until cancelled; raise Fatal when the settings are none to work with."""
        url = self.settings.one("server")
        if not url:
            raise Fatal("--server is required")
        if not self.settings.one("token"):
            raise Fatal("--token is required")
        cluster = await self._be_let_in(url)
        self._write_files(cluster, url)
        await self.host.system.world.clock.sleep(self.host.system.pace.k3s_agent)
        self.host.check_alive()
        while True:
            self._enter(cluster)
            self.service.log("k3s agent is up and running")
            self.service.ready()
            cluster = await self._live(cluster, url)
            await self.end()

    def _enter(self, cluster: Cluster) -> None:
        host = self.host
        living = make_living(cluster, host.guest, self.settings, version=self.version, roles=())
        self.node = Node(cluster, host.guest, living, voter=None, fresh=host.pods_gone, pause=host.system.pace.k3s_node)
        host.pods_gone = False

    async def _live(self, cluster: Cluster, url: str) -> Cluster:
        """Let the node live until another cluster has taken the place of this one; return that."""
        assert self.node is not None  # noqa: S101  # it has just been made
        life = asyncio.ensure_future(self.node.run(self.service))
        move = asyncio.ensure_future(self._watch(cluster, url))
        try:
            await asyncio.wait((life, move), return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
            return await move
        finally:
            life.cancel()
            move.cancel()
            await asyncio.gather(life, move, return_exceptions=True)

    async def _watch(self, cluster: Cluster, url: str) -> Cluster:
        """Wait until the servers that answer belong to another cluster of the same CA."""
        while True:
            await self.host.system.world.clock.sleep(places.RETRY)
            if not cluster.serves:
                try:
                    found = self._ask(url)
                except Fatal as exc:
                    self.service.log(str(exc).removeprefix("Error: preparing server: "), "error")
                    continue
                if found is not cluster and found.pki.ca_hash == cluster.pki.ca_hash:
                    return found

    async def end(self) -> None:
        """Let the node fall silent."""
        if self.node is not None:
            self.node.end()
            nodes = self.node.cluster.nodes
            if nodes.get(self.node.living.name) is self.node:
                del nodes[self.node.living.name]

    async def _be_let_in(self, url: str) -> Cluster:
        """Ask every few seconds, for ever: a unit of this kind never fails by itself."""
        system, guest = self.host.system, self.host.guest
        while True:
            try:
                return self._ask(url)
            except Fatal as exc:
                self.service.log(str(exc).removeprefix("Error: preparing server: "), "error")
            await system.world.clock.sleep(places.RETRY)
            if guest.phase != "up":
                raise Fatal("interrupted")

    def _ask(self, url: str) -> Cluster:
        """Ask the configured server, then those that were known before; raise Fatal as the first one makes it."""
        first: Fatal | None = None
        for one in dict.fromkeys([url, *self._known()]):
            try:
                return self._ask_at(one)
            except Fatal as exc:
                first = first or exc
        assert first is not None  # noqa: S101  # at least one was asked
        raise first

    def _known(self) -> list[str]:
        files = self.host.guest.files
        return list(json.loads(files.read(_SERVERS))["ServerAddresses"]) if files.exists(_SERVERS) else []

    def _ask_at(self, url: str) -> Cluster:
        system, guest = self.host.system, self.host.guest
        cluster = system.dial(url, "cacerts").cluster_now
        given = read_token(self.settings.one("token"))
        if given.ca_hash and given.ca_hash != cluster.pki.ca_hash:
            raise Fatal(f"token CA hash does not match the Cluster CA certificate hash: {given.ca_hash} != "
                        f"{cluster.pki.ca_hash}")  # fmt: skip
        check_clock(guest.now(), cluster.pki, url)
        where = f"https://{urlsplit(url).netloc}/v1-k3s"
        if not system.accepts(cluster, "node", given.password, guest.name):
            raise Fatal(f"failed to retrieve configuration from server: {where}/config: 401 Unauthorized")
        if not cluster.serves:
            raise Fatal(
                f'failed to retrieve configuration from server: Get "{where}/config": context deadline exceeded'
            )
        return cluster

    def _write_files(self, cluster: Cluster, url: str) -> None:
        files, pki = self.host.guest.files, cluster.pki
        servers = [f"https://{server.address}:{places.API_PORT}" for server in cluster.doors]
        files.put(_SERVERS, json.dumps({"ServerURL": url, "ServerAddresses": sorted(servers)}))
        for name, text in (("server-ca.crt", pki.server_ca), ("client-ca.crt", pki.client_ca)):
            files.put(f"{places.AGENT}/{name}", text)
        write_leaves(files, pki, self.host.guest.hostname, server=False, etcd=False)
