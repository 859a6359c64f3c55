"""The NAS of a twin: its exports, and its API behind TLS at the address of the lab file."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from labkit.twin.nas.content import Content, make_content
from labkit.twin.nas.exports import Exports
from labkit.twin.nas.methods import Methods
from labkit.twin.nas.session import Session
from labkit.twin.world import World

SYSTEM = "nas"


class Nas:
    """Serve wss://HOST/api/current and /api/vXX, and keep the exports; silent under `nas-unreachable`.

    Attributes:
        exports: what backup targets mount.
        content: pools, snapshots and so on, as the API shows them.
    """

    def __init__(self, world: World) -> None:
        lab = world.lab
        self._world = world
        url = urlsplit(lab.nas.api or f"wss://{lab.nas.host}/api/current")
        self._host = url.hostname or lab.nas.host
        self.place = f"{self._host}:{url.port or 443}"
        target = lab.nas.backup_target
        urls = [target] if target.startswith("nfs://") else []
        self.exports = Exports(world.options.state / "nas", urls, world.faults, world.clock)
        self.content: Content = make_content(target, str(lab.network.cidr), world.seed, world.clock.now())
        self.methods = Methods(self.content, world.options.nas, self._host, world.clock)
        self._sessions: set[Session] = set()
        self._runner: web.AppRunner | None = None
        world.faults.follow(self.follow)

    async def start(self) -> None:
        """Take the address, and listen."""
        world = self._world
        world.endpoints.reserve(self.place)
        world.trust[self.place] = world.authority.ca
        self._context = world.authority.issue("nas", [self._host]).server_context()
        await self.exports.follow()
        await self.follow()

    async def stop(self) -> None:
        """End everything."""
        await self._silence()
        await self.exports.stop()

    async def follow(self) -> None:
        """Listen, or not, as the faults say."""
        if not self.exports.reachable:
            await self._silence()
        elif self._runner is None and self.place in self._world.trust:
            app = web.Application()
            app.router.add_get("/api/versions", self._versions)
            app.router.add_get("/api/{version}", self._connect)
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await self._runner.setup()
            listener = self._world.endpoints.listen(self.place)
            await web.SockSite(self._runner, listener, ssl_context=self._context).start()

    async def _silence(self) -> None:
        for session in list(self._sessions):
            await session.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _versions(self, _request: web.Request) -> web.Response:
        return web.json_response(self.methods.api_versions)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        version = request.match_info["version"]
        if version not in {"current", *self.methods.api_versions}:
            return web.Response(status=404)
        world = self._world
        world.counters.request(SYSTEM)
        ref = world.lab.nas.api_key
        key = world.secrets.get(ref, "") if ref else ""
        session = Session(self.methods, key, world.clock, lambda: world.counters.write(SYSTEM))
        self._sessions.add(session)
        try:
            return await session.serve(request)
        finally:
            self._sessions.discard(session)
