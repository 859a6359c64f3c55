"""Stand-ins for what runs in pods: one address on loopback for each port of a Service, answered for a ready pod."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from labkit.twin.controllers.objects import is_ready, labels_of, matches, name_of, namespace_of, spec_of
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Place = tuple[str, str, str]
"""Namespace and name of a Service, and one of its ports by name or number."""
LOOPBACK = "127.0.0.1"


@dataclass
class _Door:
    port: int
    runner: web.ServerRunner
    count: itertools.count[int] = field(default_factory=itertools.count)


class Backends:
    """Open doors for Services as they are asked for.

    Args:
        api: tells which pods are behind a Service now.
        tls: what a door with TLS shows; made by the twin's authority.
        special: a handler for the pods of an image, None for an app that only echoes.
    """

    def __init__(self, api: LocalApi, tls: ssl.SSLContext | None, special: Callable[[Object], Handler | None]) -> None:
        self._api = api
        self._tls = tls
        self._special = special
        self._doors: dict[tuple[Place, bool], _Door] = {}
        self._opening = asyncio.Lock()

    async def port(self, place: Place, *, tls: bool = False) -> int:
        """Return the port on loopback that answers for a Service's port."""
        async with self._opening:
            door = self._doors.get((place, tls))
            if door is None:
                door = self._doors[(place, tls)] = await self._open(place, self._tls if tls else None)
        return door.port

    async def stop(self) -> None:
        """Close all doors."""
        for door in self._doors.values():
            await door.runner.cleanup()
        self._doors.clear()

    async def _open(self, place: Place, context: ssl.SSLContext | None) -> _Door:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self._answer(place, request)

        runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0, ssl_context=context).start()
        return _Door(runner.addresses[0][1], runner)

    async def _answer(self, place: Place, request: web.BaseRequest) -> web.StreamResponse:
        service = self._api.get("services", place[1], place[0])
        if service is None:
            return web.Response(status=503, text="no such service")
        if spec_of(service).get("type") == "ExternalName":
            return self._echo(request, {"service": place[1], "host": spec_of(service)["externalName"]})
        pods = ready_pods(self._api, service)
        if not pods:
            return web.Response(status=503, text="no ready pod")
        doors = [door for (known, _), door in self._doors.items() if known == place]
        pod = pods[next(doors[0].count) % len(pods)] if doors else pods[0]
        handler = self._special(pod)
        if handler is not None:
            return await handler(request)
        image = (spec_of(pod).get("containers") or [{}])[0].get("image", "")
        return self._echo(request, {"service": place[1], "namespace": place[0], "pod": name_of(pod), "image": image})

    def _echo(self, request: web.BaseRequest, about: dict[str, Any]) -> web.Response:
        seen = {name: request.headers[name] for name in request.headers if name.startswith("Remote-")}
        body = {**about, "host": request.headers.get("X-Forwarded-Host") or request.headers.get("Host", ""),
                "path": request.path_qs, "method": request.method, "headers": seen}  # fmt: skip
        if "host" in about:
            body["host"] = about["host"]
        return web.Response(text=json.dumps(body) + "\n", content_type="application/json")


def ready_pods(api: LocalApi, service: Object) -> list[Object]:
    """Return the ready pods that a Service selects."""
    selector = spec_of(service).get("selector")
    if not selector:
        return []
    pods = api.list("pods", namespace_of(service))
    return [pod for pod in pods if matches({"matchLabels": selector}, labels_of(pod)) and is_ready(pod)]
