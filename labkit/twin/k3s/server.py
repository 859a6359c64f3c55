"""A k3s server from its start to its end: how it founds, joins or returns to a cluster, and what it then does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from labkit.twin.k3s import places
from labkit.twin.k3s.api import Door
from labkit.twin.k3s.cluster import Cluster
from labkit.twin.k3s.data import OTHER_TOKEN
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.leaves import write_leaves
from labkit.twin.k3s.members import Member
from labkit.twin.k3s.node import Node, make_living, node_address, node_name
from labkit.twin.k3s.pki import Pki, make_pki
from labkit.twin.k3s.settings import Settings, kubeconfig_mode
from labkit.twin.k3s.snapshots import keep_schedule, tell_snapshots
from labkit.twin.k3s.tokens import Token, read_token
from labkit.twin.k3s.virtual import virtual_addresses

if TYPE_CHECKING:
    from labkit.twin.k3s.host import Host
    from labkit.twin.k3s.service import Service

_PREFIX = "Error: preparing server: "
_REMOVED = "the member has been permanently removed from the cluster"
_ROLES = ("control-plane", "etcd", "master")
_DEPLOY_EVERY, _VIP_EVERY = 15.0, 3.0


class Server:
    """One run of `k3s server` on a host."""

    def __init__(self, host: Host, service: Service, settings: Settings, version: str) -> None:
        self.host = host
        self.service = service
        self.settings = settings
        self.version = version
        self.guest = host.guest
        self.system = host.system
        self.name = node_name(self.guest, settings)
        self.address = node_address(self.guest, settings)
        self.removed = asyncio.Event()
        self.member: Member | None = None
        self.cluster: Cluster | None = None
        self.node: Node | None = None
        self._door: Door | None = None
        self._shown: ssl.SSLContext | None = None
        self._deployed: dict[str, float] = {}

    async def run(self) -> None:
        """Serve until cancelled; raise Fatal when that cannot go on."""
        if self.address not in {self.guest.address, ""}:
            raise Fatal(f"{_PREFIX}listen tcp {self.address}:2380: bind: cannot assign requested address")
        cluster, member = await self._enter()
        self.cluster, self.member = cluster, member
        member.up = True
        cluster.servers[self.name] = self
        cluster.settle()
        await self._wait_for_quorum(cluster)
        living = make_living(
            cluster,
            self.guest,
            self.settings,
            version=self.version,
            roles=_ROLES if cluster.etcd else (_ROLES[0], _ROLES[2]),
        )
        voter = member.voter if cluster.etcd else None
        self.node = Node(
            cluster, self.guest, living, voter=voter, fresh=self.host.pods_gone, pause=self.system.pace.k3s_node
        )
        self.host.pods_gone = False
        self._write_files(cluster)
        await self._open(cluster)
        self.host.check_alive()
        self.service.log("Kube API server is now running")
        self.service.log("k3s is up and running")
        self.service.ready()
        await self._go_on(cluster, member, self.node)

    async def end(self) -> None:
        """Take this server out of its cluster; the containers of its pods run on."""
        if self.node is not None:
            self.node.end()
        if self.cluster is None or self.member is None:
            return
        self.member.up = False
        if self.cluster.servers.get(self.name) is self:
            del self.cluster.servers[self.name]
        if self.node is not None and self.cluster.nodes.get(self.name) is self.node:
            del self.cluster.nodes[self.name]
        self.cluster.doors.discard(self)
        self.cluster.settle()
        if self._door is not None:
            await self._door.close()

    async def _enter(self) -> tuple[Cluster, Member]:
        """Become a member: one that returns, one that joins, or the first."""
        files = self.guest.files
        if files.exists(places.RESET_FLAG):
            files.remove(places.RESET_FLAG)
        if self.host.member_file() is not None:
            return await self._return()
        if self.settings.one("server"):
            return await self._join(self.settings.one("server"))
        return await self._found()

    async def _return(self) -> tuple[Cluster, Member]:
        cluster, member = self.host.membership()
        given = self._token()
        if given is not None and given.password != cluster.password:
            raise Fatal(_PREFIX + "failed to bootstrap cluster data: " + OTHER_TOKEN)
        if member is None:
            raise Fatal(f"{_PREFIX}start managed database: {_REMOVED}")
        if self.settings.on("cluster-init") and not cluster.etcd:
            cluster.etcd = True
            self.host.write_membership(cluster, member)
        self._compare(cluster)
        await self._sleep(self.system.pace.k3s_start)
        return cluster, member

    async def _found(self) -> tuple[Cluster, Member]:
        """Begin a cluster of one's own; certificates that lie on the disk are used again."""
        given = self._token()
        pki = self.host.disk_pki() or make_pki(self.guest.now())
        if given is not None and given.ca_hash and given.ca_hash != pki.ca_hash:
            raise Fatal(_PREFIX + _other_ca(given, pki))
        password = given.password if given else self.system.world.seed.hex("k3s token", self.guest.vmid, self.name)
        cluster = self.system.new_cluster(pki, password, self.settings)
        await self._sleep(self.system.pace.k3s_start)
        cluster.found(self.settings)
        member = cluster.members.add(Member(self.system.next_member(), self.name, self.address, voter=True))
        self.host.write_membership(cluster, member)
        return cluster, member

    async def _join(self, url: str) -> tuple[Cluster, Member]:
        cluster = self.system.dial(url, "cacerts").cluster_now
        given = self._token()
        if given is None:
            raise Fatal("--token is required")
        if given.ca_hash and given.ca_hash != cluster.pki.ca_hash:
            raise Fatal(_PREFIX + _other_ca(given, cluster.pki))
        check_clock(self.guest.now(), cluster.pki, url)
        if not self.system.accepts(cluster, "server", given.password, self.guest.name):
            where = f"https://{urlsplit(url).netloc}/v1-k3s/server-bootstrap"
            raise Fatal(f"{_PREFIX}failed to get bootstrap data: {where}: 401 Unauthorized")
        self._check_leftovers(cluster)
        self._compare(cluster)
        if not cluster.etcd:
            raise Fatal(f"{_PREFIX}https://{urlsplit(url).netloc}/db/info: 404 Not Found: etcd is disabled there")
        while (why := cluster.members.busy()) and self.name not in cluster.members.by_node:
            self.service.log(f"Waiting for other members to finish joining etcd cluster: {why}")
            await self._sleep(places.RETRY)
        member = cluster.members.add(Member(self.system.next_member(), self.name, self.address))
        self.host.write_membership(cluster, member)
        self.service.log(f"Adding member {self.name} to etcd cluster")
        await self._sleep(self.system.pace.k3s_join)
        return cluster, member

    def _token(self) -> Token | None:
        """Return the token of the settings, else the one that a former start left."""
        text, files = self.settings.one("token"), self.guest.files
        if not text and files.exists(places.TOKEN):
            text = files.read(places.TOKEN).decode()
        return read_token(text) if text.strip() else None

    def _check_leftovers(self, cluster: Cluster) -> None:
        files = self.guest.files
        if files.exists(places.TOKEN) and read_token(files.read(places.TOKEN).decode()).password != cluster.password:
            raise Fatal(_PREFIX + "failed to bootstrap cluster data: " + OTHER_TOKEN)
        old = self.host.disk_pki()
        if old is not None and old.server_ca != cluster.pki.server_ca:
            raise Fatal(
                f"{_PREFIX}failed to bootstrap cluster data: {places.TLS}/server-ca.crt newer than datastore and could "
                "cause a cluster outage. Remove the file(s) from disk and restart to be recreated from datastore."
            )

    def _compare(self, cluster: Cluster) -> None:
        """Compare the critical settings with those of the cluster."""
        mine = self.settings.critical()
        others = [key for key, value in cluster.critical.items() if mine.get(key) != value]
        alone = set(cluster.servers) <= {self.name} and len(cluster.members.by_node) <= 1
        if others and alone:
            cluster.critical = mine
        elif others:
            for key in others:
                self.service.log(f"critical configuration mismatched: {key}", "warning")
            raise Fatal(f"{_PREFIX}failed to validate server configuration: critical configuration value mismatch")

    async def _wait_for_quorum(self, cluster: Cluster) -> None:
        while not cluster.members.has_quorum:
            self.service.log("Failed to test etcd connection: failed to get etcd status: rpc error: code = "
                             "DeadlineExceeded desc = context deadline exceeded", "error")  # fmt: skip
            for peer in self._strangers(cluster):
                self.service.log(f"request sent was ignored (cluster ID mismatch: peer[{peer}]={peer}, "
                                 f"local={cluster.id})", "warning")  # fmt: skip
            await self._sleep(places.RETRY)

    def _strangers(self, cluster: Cluster) -> list[str]:
        """The clusters that former fellow members belong to by now: one of them was reset."""
        running = (server for other in self.system.clusters.values() for server in other.servers.values())
        return [s.cluster.id for s in running if s.cluster not in {None, cluster} and s.name in cluster.members.by_node]

    def _write_files(self, cluster: Cluster) -> None:
        """Write what k3s writes at every start."""
        files = self.guest.files
        full = Token(cluster.password, "server", cluster.pki.ca_hash).full
        files.put(places.TOKEN, full + "\n", mode=0o600)
        agent = cluster.agent_password
        if agent != cluster.password:
            files.put(f"{places.SERVER}/agent-token", Token(agent, "node", cluster.pki.ca_hash).full + "\n", mode=0o600)
        for link in ("node-token", *(["agent-token"] if agent == cluster.password else [])):
            if not files.exists(f"{places.SERVER}/{link}"):
                files.link(places.TOKEN, f"{places.SERVER}/{link}")
        self.host.write_pki(cluster.pki)
        write_leaves(files, cluster.pki, self.name, server=True, etcd=cluster.etcd)
        self.host.write_kubeconfig(cluster.pki, kubeconfig_mode(self.settings))

    async def _open(self, cluster: Cluster) -> None:
        """Serve the API at this node's address, and have the cluster know that it has one server more."""
        names = [self.name, self.address, *self.settings.all("tls-san")]
        cluster.hosts += [name for name in names if name not in cluster.hosts]
        self._door = Door(cluster, self.version, lambda user, secret: self.system.accepts(cluster, user, secret))
        try:
            self._shown = self._context(cluster)
            await self._door.listen(f"{self.guest.address}:{places.API_PORT}", self._shown)
        except OSError as exc:
            raise Fatal(f"{_PREFIX}listen tcp :{places.API_PORT}: bind: address already in use") from exc
        cluster.doors.add(self)
        cluster.settle()
        if cluster.serves:
            cluster.deploy(self.settings)
            if cluster.etcd:
                tell_snapshots(self)

    def show_for(self, days: float) -> None:
        """Show a certificate from now on that lasts so many days, as one that was never renewed."""
        if self.cluster is not None and self._shown is not None:
            self.cluster.pki.load_serving(self._shown, *self._identity(self.cluster), days=days)

    def _context(self, cluster: Cluster) -> ssl.SSLContext:
        return cluster.pki.server_context(*self._identity(cluster))

    def _identity(self, cluster: Cluster) -> tuple[Path, str, list[str]]:
        return self.system.folder, f"{cluster.id}-{self.name}", [*cluster.hosts, cluster.first_address]

    async def _go_on(self, cluster: Cluster, member: Member, node: Node) -> None:
        """Do everything that a running server does, until one part fails."""
        work: list[Coroutine[Any, Any, None]] = [
            self._promote(cluster, member), node.run(self.service), self._watch_removal(),
            self._deploy_manifests(cluster), self._answer_virtual(cluster),
        ]  # fmt: skip
        if cluster.etcd:
            work.append(keep_schedule(self))
        tasks = [asyncio.create_task(part) for part in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _promote(self, cluster: Cluster, member: Member) -> None:
        if member.voter:
            return
        await self._sleep(self.system.pace.k3s_promote)
        while not cluster.members.has_quorum:
            await self._sleep(places.RETRY)
        member.voter = True
        self.service.log(f"Promoted member {self.name} to voting member")
        if self.node is not None:
            self.node.update(voter=True)

    async def _watch_removal(self) -> None:
        await self.removed.wait()
        raise Fatal(f"{_PREFIX}start managed database: {_REMOVED}")

    async def _deploy_manifests(self, cluster: Cluster) -> None:
        """Apply what lies in the manifests folder, whenever it has changed."""
        while True:
            if cluster.serves:
                self._deploy_changed(cluster)
            await self._sleep(_DEPLOY_EVERY)

    def _deploy_changed(self, cluster: Cluster) -> None:
        folder = self.guest.files.locate(places.MANIFESTS)
        for file in sorted(folder.glob("*.y*ml")) if folder.is_dir() else ():
            changed = file.stat().st_mtime
            if self._deployed.get(file.name) == changed:
                continue
            self._deployed[file.name] = changed
            with contextlib.suppress(yaml.YAMLError):
                for item in yaml.safe_load_all(file.read_text()):
                    if isinstance(item, dict):
                        cluster.apply(item)

    async def _answer_virtual(self, cluster: Cluster) -> None:
        """Answer at kube-vip's address too, while this is the first of the servers."""
        door = Door(cluster, self.version, lambda user, secret: self.system.accepts(cluster, user, secret))
        shown: set[str] = set()
        try:
            while True:
                leads = cluster.serves and next(iter(sorted(s.name for s in cluster.doors))) == self.name
                wanted = virtual_addresses(cluster) if leads else set()
                if wanted != shown:
                    await door.close()
                    for address in wanted:
                        await door.listen(f"{address}:{places.API_PORT}", self._context(cluster))
                    cluster.virtual = (cluster.virtual - shown) | wanted
                    self.guest.virtual = shown = wanted
                await self._sleep(0.01 if self.system.at_once else _VIP_EVERY)
        finally:
            cluster.virtual = cluster.virtual - shown
            self.guest.virtual = set()
            await door.close()

    async def _sleep(self, seconds: float) -> None:
        await self.system.world.clock.sleep(seconds)


def check_clock(now: float, pki: Pki, url: str) -> None:
    """Raise Fatal when a certificate is not valid yet by a guest's clock."""
    if now < pki.made:
        here, there = (datetime.fromtimestamp(int(t), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for t in (now, pki.made))
        raise Fatal(
            f'{_PREFIX}failed to get CA certs: Get "https://{urlsplit(url).netloc}/cacerts": tls: failed to verify '
            f"certificate: x509: certificate has expired or is not yet valid: current time {here} is before {there}"
        )


def _other_ca(given: Token, pki: Pki) -> str:
    return f"token CA hash does not match the Cluster CA certificate hash: {given.ca_hash} != {pki.ca_hash}"


def read_member(data: bytes) -> tuple[str, str]:
    """Return cluster and member that a copy of the data belongs to."""
    found = json.loads(data)
    return found["cluster"], found["member"]
