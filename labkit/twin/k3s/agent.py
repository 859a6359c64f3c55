"""A k3s agent from its start to its end: it asks until a server lets it in, then its node lives."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from labkit.twin.k3s import places
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.node import Node, make_living
from labkit.twin.k3s.server import check_clock
from labkit.twin.k3s.tokens import read_token

if TYPE_CHECKING:
    from labkit.twin.k3s.cluster import Cluster
    from labkit.twin.k3s.host import Host
    from labkit.twin.k3s.service import Service
    from labkit.twin.k3s.settings import Settings


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
        self._write_files(cluster)
        guest, clock = self.host.guest, self.host.system.world.clock
        living = make_living(cluster, guest, self.settings, version=self.version, roles=())
        await clock.sleep(self.host.system.pace.k3s_agent)
        self.node = Node(
            cluster, guest, living, voter=None, fresh=self.host.pods_gone, pause=self.host.system.pace.k3s_node
        )
        self.host.pods_gone = False
        self.host.check_alive()
        self.service.log("k3s agent is up and running")
        self.service.ready()
        await self.node.run(self.service)

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

    def _write_files(self, cluster: Cluster) -> None:
        files, pki = self.host.guest.files, cluster.pki
        for name, text in (("server-ca.crt", pki.server_ca), ("client-ca.crt", pki.client_ca)):
            files.put(f"{places.AGENT}/{name}", text)
