"""The API server over HTTP, to be embedded in the twin."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from labkit.twin.kube import answers, status
from labkit.twin.kube.call import Call
from labkit.twin.kube.core import Core
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.dispatch import HEALTH, respond
from labkit.twin.kube.door import ApiError, Clock, Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.kube.paths import read_path

ProxyHandler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
LogSource = Callable[[Object, str], str]
LARGEST_BODY = 3 * 1024 * 1024  # bytes, as etcd takes them
_WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Faults:
    """What is wrong with the server's answers.

    `delay` is added to each answer, in real seconds; `closing` ends connections without an answer.
    """

    delay: float = 0.0
    closing: bool = False


class KubeServer:
    """Serve a Core's objects by HTTP.

    Args:
        core: the objects; a new and empty one when it is left out.
        clock: the time of a new core.
        tokens: bearer tokens that are let in, with the user that each stands for; servers of one cluster may
            share the dictionary, and tokens that are issued to service accounts go into it.
        client_ca: also let in who shows a certificate that the TLS context verified.
        version: what /version says.
        logs: the log of a pod's container.

    Without tokens and without `client_ca` everyone is let in.

    Attributes:
        writes: the number of requests of HTTP clients that may have changed something.
        writes_by: the same by method and resource, as in `("PATCH", "nodes")`.
        deprecated: group, version, resource and subresource of what was asked for in a version that is on its way out.
        faults: what to do wrong.
    """

    def __init__(
        self,
        core: Core | None = None,
        *,
        clock: Clock | None = None,
        tokens: dict[str, str] | None = None,
        client_ca: bool = False,
        version: str = "v1.36.2",
        logs: LogSource | None = None,
    ) -> None:
        self.core = core or new_core(clock)
        self.door = LocalApi(self.core)
        self.tokens = {} if tokens is None else tokens
        self.closed = tokens is not None or client_ca
        self.version = version
        self.log_of: LogSource = logs or _no_log
        self.faults = Faults()
        self.writes = 0
        self.writes_by: Counter[tuple[str, str]] = Counter()
        self.deprecated: set[tuple[str, str, str, str]] = set()
        self.ended = asyncio.Event()
        self.host, self.port = "127.0.0.1", 0
        self._context: ssl.SSLContext | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self._proxies: dict[tuple[str, str], ProxyHandler] = {}

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http{'s' if self._context else ''}://{self.address}"

    @property
    def address(self) -> str:
        """The host and port."""
        return f"{self.host}:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None) -> None:
        """Listen; port 0 takes a free one, which `port` then tells."""
        self._context, self.host, self.port = context, host, port
        self.ended.clear()
        await self._listen()

    async def stop(self) -> None:
        """End every connection and stop listening."""
        self.ended.set()
        for shelf in self.core.store.shelves.values():
            for waker in tuple(shelf.wakers):
                waker()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = self._site = None

    async def refuse(self) -> None:
        """Stop listening and cut every connection, as a host that is gone; `start` or `accept` ends that."""
        await self.stop()

    async def accept(self) -> None:
        """Listen again on the same port after `refuse`."""
        self.ended.clear()
        await self._listen()

    async def _listen(self) -> None:
        server = web.Server(
            self._handle,
            request_factory=_make_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=75.0,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        self._site = web.TCPSite(
            self._runner, self.host, self.port, ssl_context=self._context, backlog=1024, reuse_address=True
        )
        await self._site.start()
        if self.port == 0:
            self.port = self._runner.addresses[0][1]

    def serve_proxy(self, namespace: str, service: str, handler: ProxyHandler) -> None:
        """Let a function answer requests to a Service through the API's proxy.

        The handler gets the request and the path behind `/proxy`, with a leading slash.
        """
        self._proxies[(namespace, service)] = handler

    async def proxy(self, call: Call) -> web.StreamResponse:
        """Answer a request to `services/{name}:{port}/proxy/...`."""
        parts = call.place.name.split(":")
        name = parts[1] if len(parts) == 3 else parts[0]
        call.core.get(call.resource, call.place.namespace, name)
        handler = self._proxies.get((call.place.namespace, name))
        if handler is None:
            text = f'no endpoints available for service "{call.place.name}"'
            raise status.failure(503, "ServiceUnavailable", text)
        return await handler(call.request, f"/{call.place.rest}")

    def issue(self, namespace: str, account: str) -> str:
        """Make a bearer token for a service account."""
        token = f"sa.{self.core.dice.getrandbits(256):064x}"
        self.tokens[token] = f"system:serviceaccount:{namespace}:{account}"
        return token

    def user_of(self, request: web.BaseRequest) -> Object:
        """Return who sent a request."""
        name = self._user(request) or "system:anonymous"
        groups = ["system:masters", "system:authenticated"] if name != "system:anonymous" else []
        return {"username": name, "groups": groups or ["system:unauthenticated"]}

    def _user(self, request: web.BaseRequest) -> str:
        header = request.headers.get("Authorization", "")
        if header.startswith("Bearer "):
            return self.tokens.get(header.removeprefix("Bearer ").strip(), "")
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        if certificate:
            subject = dict(pair for parts in certificate.get("subject", ()) for pair in parts)
            return str(subject.get("commonName", ""))
        return ""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.faults.closing:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if self.faults.delay > 0:
            await asyncio.sleep(self.faults.delay)
        try:
            self._let_in(request)
            self._count(request)
            return await respond(self, request)
        except ApiError as error:
            return answers.answer_error(error)
        except web.HTTPRequestEntityTooLarge:
            text = f"Request entity too large: limit is {LARGEST_BODY}"
            return answers.answer_error(status.failure(413, "RequestEntityTooLarge", text, {}))

    def _let_in(self, request: web.BaseRequest) -> None:
        public = request.path.split("/")[1] in (*HEALTH, "version")
        if self.closed and not public and not self._user(request):
            raise status.unauthorized()
        if "Authorization" in request.headers and self.closed and not self._user(request):
            raise status.unauthorized()

    def _count(self, request: web.BaseRequest) -> None:
        path = request.path
        reviews = "/authorization.k8s.io/" in path or "/authentication.k8s.io/" in path
        if request.method in _WRITES and "dryRun" not in request.query and not reviews and "/proxy" not in path:
            self.writes += 1
            self.writes_by[(request.method, read_path(path).plural)] += 1


def _no_log(_pod: Object, _container: str) -> str:
    return ""


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
    """Make a request that may be as large as the real server takes them."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY)
