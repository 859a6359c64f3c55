"""The control server: status, faults, counts, what a person does, and the end; with a token, on loopback."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from labkit.errors import InputError, LabError
from labkit.twin.person import Person
from labkit.twin.proxmox.errors import PveError
from labkit.twin.state import CONTROL_TOKEN, write_whole
from labkit.twin.world import World

_log = logging.getLogger(__name__)


class Control:
    """Answer the client's requests; each is a POST of JSON to `/name`, answered with JSON."""

    def __init__(self, world: World, person: Person, stopped: asyncio.Event) -> None:
        self._world = world
        self._person = person
        self._stopped = stopped
        self._started = time.time()
        self._token = secrets.token_hex(16)
        self._runner: web.AppRunner | None = None
        self._actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "status": self._status, "fault": self._fault, "clear": self._clear, "reset": self._reset,
            "stop": self._stop,
        }  # fmt: skip

    async def start(self) -> str:
        """Listen; return `host:port`."""
        write_whole(self._world.options.state / CONTROL_TOKEN, self._token)
        app = web.Application()
        app.router.add_post("/{action}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"{host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return web.json_response({"error": "expected the token of this twin"}, status=401)
        name = request.match_info["action"]
        action = self._actions.get(name) or self._person.actions.get(name)
        if action is None:
            return web.json_response({"error": f"{name}: no such action"}, status=404)
        try:
            return web.json_response(await action(await request.json()))
        except InputError as exc:
            return web.json_response({"mistakes": [asdict(one) for one in exc.mistakes]}, status=422)
        except (LabError, PveError, KeyError, TypeError, ValueError) as exc:
            return web.json_response({"error": f"{name}: {exc}"}, status=400)

    async def _status(self, _given: dict[str, Any]) -> dict[str, Any]:
        options = self._world.options
        return {
            "lab": self._world.lab.name, "scenario": options.scenario, "scale": options.scale,
            "seed": options.seed, "proxmox": options.proxmox, "faults": self._world.faults.active(),
            **self._world.counters.view(), "pace": asdict(options.pace),
            "uptime": round(time.time() - self._started, 3),
        }  # fmt: skip

    async def _fault(self, given: dict[str, Any]) -> list[str]:
        self._world.faults.set(str(given["name"]))
        await self._world.faults.settle()
        return self._world.faults.active()

    async def _clear(self, given: dict[str, Any]) -> bool:
        cleared = self._world.faults.clear(str(given["name"]))
        await self._world.faults.settle()
        return cleared

    async def _reset(self, _given: dict[str, Any]) -> None:
        self._world.counters.reset()

    async def _stop(self, _given: dict[str, Any]) -> None:
        asyncio.get_running_loop().call_later(0.02, self._stopped.set)
