"""The API of a cluster as its servers serve it: TLS, client certificates, etcd's health, faults, and counts."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.twin.kube import answers, discovery, status
from labkit.twin.kube.core import Core
from labkit.twin.kube.server import LARGEST_BODY, KubeServer
from labkit.twin.kube.store import dump

if TYPE_CHECKING:
    from labkit.twin.k3s.cluster import Cluster
    from labkit.twin.world import World

SYSTEM = "kubernetes"
_HEALTH = frozenset({"healthz", "livez", "readyz"})
_NO_LEADER = 7.0
"""Twin seconds until a request gives up on etcd."""
_CLOSES_EVERY = 3
_log = logging.getLogger(__name__)


class ApiServer(KubeServer):
    """The API of one cluster; `healthy` says whether etcd has its quorum."""

    def __init__(self, world: World, core: Core, *, healthy: Callable[[], bool]) -> None:
        super().__init__(core, client_ca=True)
        self._world = world
        self._healthy = healthy

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that came in at any of the servers."""
        number = self._world.counters.request(SYSTEM)
        for given in self._world.faults.arguments("api-slow"):
            await asyncio.sleep(int(given[0]) / 1000)
        for given in self._world.faults.arguments("api-closing"):
            if number % (int(given[0]) if given else _CLOSES_EVERY) == 0 and request.transport is not None:
                request.transport.abort()
                return web.Response(status=503)
        if not self._healthy():
            return await self._without_etcd(request)
        return await self._handle(request)

    async def _without_etcd(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._user(request):
            return answers.answer_error(status.unauthorized())
        first = request.path.strip("/").split("/")[0]
        if first in _HEALTH:
            lines = ["[+]ping ok", "[+]log ok", "[-]etcd failed: reason withheld", f"{first} check failed", ""]
            return answers.text("\n".join(lines), 500)
        await self._world.clock.sleep(_NO_LEADER)
        return answers.answer_error(status.failure(500, "", "etcdserver: request timed out"))

    def _let_in(self, request: web.BaseRequest) -> None:
        if not self._user(request):
            raise status.unauthorized()

    def _count(self, request: web.BaseRequest) -> None:
        before = self.writes
        super()._count(request)
        if self.writes > before:
            self._world.counters.write(SYSTEM)


class Door:
    """One server's port 6443: what k3s itself answers there, and the API behind it.

    Args:
        cluster: whose API.
        version: of the k3s that serves here.
        accepts: tells whether a user of the supervisor (`server` or `node`) has shown the right password.
    """

    def __init__(self, cluster: Cluster, version: str, accepts: Callable[[str, str], bool]) -> None:
        self._cluster = cluster
        self._version = version
        self._accepts = accepts
        self._servers: list[tuple[web.Server, web.ServerRunner]] = []

    async def listen(self, name: str, context: ssl.SSLContext) -> None:
        """Listen at an `address:port` of the lab."""
        server = web.Server(
            self._answer, request_factory=_make_request, handler_cancellation=True, access_log=None,
            keepalive_timeout=75.0,
        )  # fmt: skip
        runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await runner.setup()
        listener = self._cluster.world.endpoints.listen(name)
        await web.SockSite(runner, listener, ssl_context=context, backlog=1024).start()
        self._servers.append((server, runner))

    async def close(self) -> None:
        """Cut all connections and stop listening."""
        servers, self._servers = self._servers, []
        for server, runner in servers:
            for site in list(runner.sites):
                await site.stop()
            for connection in list(server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/ping":
            return web.Response(text="pong")
        if path == "/cacerts":
            return web.Response(text=self._cluster.pki.server_ca, content_type="text/plain")
        if path.startswith("/v1-k3s/"):
            return self._supervise(request)
        try:
            if path == "/version" and self._cluster.server.user_of(request)["username"] != "system:anonymous":
                return answers.answer(dump(discovery.version_info(self._version)))
            return await self._cluster.server.answer(request)
        except Exception:
            _log.exception("%s %s", request.method, path)
            raise

    def _supervise(self, request: web.BaseRequest) -> web.Response:
        """Answer what joiners ask: they show `user:password`."""
        user, password = _basic(request)
        what = request.path.removeprefix("/v1-k3s/")
        if not user or not self._accepts(user, password) or (what == "server-bootstrap" and user != "server"):
            return web.Response(status=401, text="401 Unauthorized")
        pki = self._cluster.pki
        texts = {"client-ca.crt": pki.client_ca, "server-ca.crt": pki.server_ca, "readyz": "ok",
                 "config": json.dumps(self._cluster.critical), "apiservers": json.dumps(self._addresses()),
                 "server-bootstrap": json.dumps({"ServerCA": pki.server_ca, "ClientCA": pki.client_ca})}  # fmt: skip
        if what not in texts:
            return web.Response(status=404, text="404 page not found")
        return web.Response(text=texts[what])

    def _addresses(self) -> list[str]:
        return [f"{member.address}:6443" for member in self._cluster.members.by_node.values()]


def same(one: str, other: str) -> bool:
    """Compare two passwords."""
    return hmac.compare_digest(one.encode(), other.encode())


def _basic(request: web.BaseRequest) -> tuple[str, str]:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(text).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY)
