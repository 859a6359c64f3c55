"""The proxy's front: one TLS listener per API URL of the lab, and what every request goes through."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from labkit.twin.proxmox.access import Caller
from labkit.twin.proxmox.calls import Call, Routes, not_implemented
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.errors import PveError, parameter_error

API = "/api2/json"
_AT = web.AppKey("at", str)
_CLOSING_EVERY = 5
_UNAUTHORIZED_SECONDS = 3.0
_WELCOME = "<!DOCTYPE html><html><head><title>Proxmox Virtual Environment</title></head><body></body></html>"
_log = logging.getLogger(__name__)


class Front:
    """Listen for the lab's API URLs and answer through the routes."""

    def __init__(self, core: Core, routes: Routes) -> None:
        self._core = core
        self._routes = routes
        self._runners: dict[str, web.AppRunner] = {}
        urls = [urlsplit(url) for url in core.world.lab.proxmox.api]
        self._places = {f"{url.hostname}:{url.port or 8006}": url.hostname or "" for url in urls}

    async def start(self) -> None:
        """Reserve all addresses, then listen on those whose host is up."""
        world = self._core.world
        world.endpoints.reserve(*self._places)
        world.trust.update(dict.fromkeys(self._places, world.authority.ca))
        self._certificates = {
            place: world.authority.issue(f"proxmox-{number}", [host])
            for number, (place, host) in enumerate(self._places.items())
        }
        await self.follow_hosts()

    async def follow_hosts(self) -> None:
        """Listen for hosts that are up, refuse for those that are down."""
        for place, host in self._places.items():
            node = self._node(host)
            if self._core.is_down(node) and place in self._runners:
                await self._runners.pop(place).cleanup()
            elif not self._core.is_down(node) and place not in self._runners:
                self._runners[place] = await self._listen(place, node)

    async def stop(self) -> None:
        """Stop listening."""
        while self._runners:
            await self._runners.popitem()[1].cleanup()

    async def _listen(self, place: str, node: str) -> web.AppRunner:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app[_AT] = node
        app.router.add_route("*", "/{tail:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=60, shutdown_timeout=0.1)
        await runner.setup()
        listener = self._core.world.endpoints.listen(place)
        await web.SockSite(runner, listener, ssl_context=self._certificates[place].server_context()).start()
        return runner

    def _node(self, host: str) -> str:
        hosts = self._core.world.lab.hosts
        return host.partition(".")[0] if host.partition(".")[0] in hosts else next(iter(hosts))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith(API):
            return web.Response(text=_WELCOME, content_type="text/html")
        number = self._core.world.counters.request("proxmox")
        for given in self._core.world.faults.arguments("slow"):
            await asyncio.sleep(int(given[0]) / 1000)
        if closes := self._closes(number):
            return await self._break_off(request, after=closes == "after")
        try:
            return _ok(await self._serve(request))
        except PveError as exc:
            return _error(exc)
        except Exception:  # noqa: BLE001  # whatever it is, the client must not wait for ever
            _log.exception("%s %s", request.method, request.path)
            return _error(PveError(500, "internal error of the twin, see its log"))

    async def _serve(self, request: web.Request) -> Any:
        path = request.path.removeprefix(API) or "/"
        caller = await self._authenticate(request)
        call = Call(request.method, path, await _parameters(request), caller, request.app[_AT])
        if call.writes:
            self._core.world.counters.write("proxmox")
        return await self.handle(call)

    async def handle(self, call: Call) -> Any:
        """Answer a call whose caller is known: the faults, the rights, then the handler."""
        found = self._routes.find(call.method, call.path)
        if found is None:
            raise not_implemented(call.method, API + call.path)
        route, call.names = found
        if (node := call.names.get("node")) is not None:
            self._check_node(node)
        call.caller.check(route.needs, {**call.params, **call.names})
        if not call.writes:
            return await route.handler(call)
        if not self._core.quorate:
            raise PveError(500, "cluster not ready - no quorum?")
        if self._core.world.faults.strike("no-worker"):
            raise PveError(500, "got no worker upid - start worker failed")
        data = await route.handler(call)
        if self._core.world.faults.strike("no-worker-done"):
            raise PveError(500, "got no worker upid - start worker failed")
        if self._core.world.faults.strike("gateway-timeout"):
            raise PveError(596, "Connection timed out")
        return data

    async def _authenticate(self, request: web.Request) -> Caller:
        try:
            return self._core.access.authenticate(request.headers.get("Authorization", ""))
        except PveError:
            await self._core.world.clock.sleep(_UNAUTHORIZED_SECONDS)
            raise

    def _check_node(self, node: str) -> None:
        if node not in self._core.world.lab.hosts:
            text = (
                f"hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
            )
            raise PveError(500, text)
        if self._core.is_down(node):
            raise PveError(595, "No route to host")

    def _closes(self, number: int) -> str:
        """Tell whether this request is broken off, and whether before or after it was carried out."""
        for given in self._core.world.faults.arguments("closing"):
            every = int(given[0]) if given else _CLOSING_EVERY
            if number % every == 0:
                return "after" if number // every % 2 == 0 else "before"
        return ""

    async def _break_off(self, request: web.Request, *, after: bool) -> web.StreamResponse:
        if after:
            try:
                await self._serve(request)
            except PveError as exc:
                _log.info("broken off, would have been %s %s", exc.status, exc.message)
        if request.transport is not None:
            request.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{"
            )
            request.transport.abort() if not after else request.transport.close()
        return web.Response()


async def _parameters(request: web.Request) -> dict[str, Any]:
    pairs = list(request.query.items())
    body = await request.read()
    if body and request.content_type == "application/json":
        try:
            data = json.loads(body)
        except ValueError:
            raise parameter_error(body="request body is not a JSON object") from None
        if not isinstance(data, dict):
            raise parameter_error(body="request body is not a JSON object")
        return {**_collect(pairs), **{key: _plain(value) for key, value in data.items()}}
    if body:
        pairs += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return _collect(pairs)


def _collect(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            found[key] = [*(found[key] if isinstance(found[key], list) else [found[key]]), value]
        else:
            found[key] = value
    return found


def _plain(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


def _ok(data: object) -> web.Response:
    return web.Response(text=json.dumps({"data": data}), content_type="application/json")


def _error(exc: PveError) -> web.Response:
    body: Mapping[str, object] = {"data": None, "message": exc.message + "\n"}
    if exc.errors:
        body = {**body, "errors": exc.errors}
    reason = exc.message.partition("\n")[0][:200]
    return web.Response(status=exc.status, reason=reason, text=json.dumps(body), content_type="application/json")
