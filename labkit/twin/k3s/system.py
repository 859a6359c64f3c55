"""k3s in the whole twin: which clusters there are, who reaches whom, and what the faults do to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import labkit.twin.k3s.commands
import labkit.twin.k3s.curl
import labkit.twin.k3s.installer  # noqa: F401  # they register
from labkit.twin.controllers import Controller
from labkit.twin.guests import Guest, Guests
from labkit.twin.k3s.api import same
from labkit.twin.k3s.cluster import Cluster
from labkit.twin.k3s.data import Content
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.host import Host
from labkit.twin.k3s.hosts import enter
from labkit.twin.k3s.pki import Pki
from labkit.twin.k3s.places import API_PORT
from labkit.twin.k3s.settings import Settings
from labkit.twin.k3s.virtual import virtual_addresses
from labkit.twin.options import Pace
from labkit.twin.world import World

_AT_ONCE = {name: 0.0 for name in Pace.__dataclass_fields__ if name.startswith("k3s_")}


class K3s:
    """Everything of k3s in one twin.

    `more` are makers of further controllers: each is called with every cluster that comes about, before it starts.
    """

    def __init__(self, world: World, guests: Guests) -> None:
        self.world = world
        self.guests = guests
        self.folder = world.options.state / "k3s"
        self.clusters: dict[str, Cluster] = {}
        self.more: list[Callable[[Cluster], Sequence[Controller]]] = []
        self.on_cluster: list[Callable[[Cluster], None]] = []
        self.at_once = False
        """Whether everything happens without delay: while a scenario is built."""
        self._numbers = itertools.count(1)
        self._hosts: WeakKeyDictionary[Guest, Host] = WeakKeyDictionary()
        guests.on_create.append(self._meet)
        for guest in guests:
            self._meet(guest)
        world.faults.follow(self.settle)

    @property
    def pace(self) -> Pace:
        """How long things take now."""
        return replace(self.world.pace, **_AT_ONCE) if self.at_once else self.world.pace

    @property
    def cluster(self) -> Cluster | None:
        """The cluster that serves, if there is one; the first of several."""
        return next((cluster for cluster in self.clusters.values() if cluster.serves), None)

    def reserve(self) -> None:
        """Hold the addresses at which the API of the lab will be."""
        lab = self.world.lab
        addresses = [machine.address for machine in lab.servers] + ([lab.network.vip] if lab.network.vip else [])
        self.world.endpoints.reserve(*(f"{address}:{API_PORT}" for address in addresses))

    def host(self, guest: Guest) -> Host:
        """Return k3s on a guest."""
        return self._hosts[guest]

    def new_cluster(self, pki: Pki, password: str, settings: Settings, content: Content | None = None) -> Cluster:
        """Make a cluster, new or from the content of a snapshot; it has no members yet."""
        ident = self.world.seed.hex("k3s cluster", next(self._numbers), length=16)
        cluster = Cluster(self.world, ident, pki=pki, password=password, settings=settings, content=content)
        cluster.more = list(self.more)
        self.clusters[ident] = cluster
        for tell in self.on_cluster:
            tell(cluster)
        return cluster

    def next_member(self) -> str:
        """Return the id of a new etcd member."""
        return self.world.seed.hex("etcd member", next(self._numbers), length=16)

    def dial(self, url: str, what: str) -> Host:
        """Return the server that answers at a URL; raise Fatal as k3s says it when none does."""
        name, port = urlsplit(url).hostname or "", urlsplit(url).port or 443
        asked = f'failed to get CA certs: Get "https://{name}:{port}/{what}": '
        prefix = "Error: preparing server: "
        guest = self.guests.at(name) or next(
            (one for one in self.guests if one.phase == "up" and name.partition(".")[0] == one.hostname), None
        )
        if guest is not None:
            host = self._hosts[guest]
            if port == API_PORT and host.serves:
                return host
            raise Fatal(f"{prefix}{asked}dial tcp {guest.address}:{port}: connect: connection refused")
        if (server := self._behind_vip(name)) is not None and port == API_PORT:
            return server
        if any(character.isalpha() for character in name):
            raise Fatal(f"{prefix}{asked}dial tcp: lookup {name}: no such host")
        raise Fatal(f"{prefix}{asked}dial tcp {name}:{port}: connect: no route to host")

    def accepts(self, cluster: Cluster, user: str, password: str, name: str = "") -> bool:
        """Tell whether a cluster takes a password for the right one; `name` is the machine that shows it."""
        for given in self.world.faults.arguments("k3s-wrong-token"):
            if not given or given[0] == name:
                return False
        wanted = [cluster.password] + ([cluster.agent_password] if user == "node" else [])
        return any(same(password, one) for one in wanted)

    async def settle(self) -> None:
        """Bring the nodes in line with the faults."""
        for cluster in self.clusters.values():
            for node in list(cluster.nodes.values()):
                node.update()

    def forget(self) -> None:
        """End all clusters, whose data is on no disk any more."""
        for cluster in self.clusters.values():
            cluster.stop()
        self.clusters.clear()

    async def stop(self) -> None:
        """End all clusters."""
        for cluster in self.clusters.values():
            cluster.stop()

    def _behind_vip(self, name: str) -> Host | None:
        for cluster in self.clusters.values():
            if cluster.serves and name in virtual_addresses(cluster):
                return next((host for host in self._hosts.values() if host.run in cluster.doors), None)
        return None

    def _meet(self, guest: Guest) -> None:
        self._hosts[guest] = enter(guest, Host(self, guest))
