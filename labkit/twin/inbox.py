"""Who gets the messages of a twin: a receiver on loopback behind every reference of `messages.to`."""

from __future__ import annotations

import json
import os

from aiohttp import BasicAuth, web

from labkit.twin.endpoints import LOOPBACK
from labkit.twin.world import World

FILE = "inbox.jsonl"
"""In the twin's state: one JSON line per message, `{"to", "title", "message", "attachments"}`."""
_LARGEST = 32 * 1024 * 1024


class Inbox:
    """Receive what labkit tells people; each reference has a user of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        messages = world.lab.messages
        self._references = messages.to if messages is not None else ()
        self._users = {f"reader{number}": reference for number, reference in enumerate(self._references)}
        self._file = world.options.state / FILE
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, and put the URLs among the twin's secrets; nothing for a lab that tells nobody."""
        if not self._users:
            return
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0)
        await site.start()
        port = self._runner.addresses[0][1]
        for user, reference in self._users.items():
            password = self._world.seed.hex("inbox", reference)
            self._world.secrets[reference] = f"json://{user}:{password}@{LOOPBACK}:{port}/"

    async def stop(self) -> None:
        """End it."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        reference = self._whose(request.headers.get("Authorization", ""))
        if reference is None:
            return web.Response(status=401)
        data = await request.json()
        kept = {key: data.get(key) for key in ("title", "message", "attachments")}
        with os.fdopen(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(json.dumps({"to": reference, **kept}) + "\n")
        return web.Response()

    def _whose(self, header: str) -> str | None:
        try:
            shown = BasicAuth.decode(header)
        except ValueError:
            return None
        reference = self._users.get(shown.login)
        good = reference is not None and shown.password == self._world.seed.hex("inbox", reference)
        return reference if good else None
