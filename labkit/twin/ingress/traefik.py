"""The real Traefik as a child process: it runs while the chart's Deployment has a pod and its Service an address."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from labkit.errors import LabError
from labkit.process import run_program, start_program
from labkit.twin import launch
from labkit.twin.controllers import Controller
from labkit.twin.controllers.loadbalancer import ingress
from labkit.twin.controllers.objects import namespace_of, spec_of, status_of
from labkit.twin.flux.gate import DEPLOYMENTS, has_labels
from labkit.twin.ingress.authelia import Authelia
from labkit.twin.ingress.backends import Backends, Handler
from labkit.twin.ingress.view import View
from labkit.twin.kube.door import Clock, Event, Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.kube.server import KubeServer

_ADDRESS = re.compile(r"--entry[pP]oints\.([a-zA-Z0-9_-]+)\.address=:(\d+)(/tcp)?")
_PROVIDER = re.compile(r"--providers\.(kubernetescrd|kubernetesingress)$", re.IGNORECASE)
_THROTTLE = 2.0
"""Twin seconds that Traefik gathers changes for, as is its default."""
_SHOWN = {"web": 80, "websecure": 443}
_log = logging.getLogger(__name__)
_KEY = "traefik"


class Ingress(Controller):
    """Start and end Traefik, and give it its view of the cluster.

    Args:
        api: the door of the cluster.
        clock: the twin's time.
        folder: for Traefik's log.
        listen: gives the port on loopback that stands for `address:port` of the LAN.
        tls: what stand-ins show that are spoken to by TLS; None when there are none.

    Attributes:
        view: the copy of the API that Traefik reads.
        problem: why Traefik cannot run on this machine; "" when it can.
        running: whether it runs now.
    """

    name = "traefik"
    watches = (DEPLOYMENTS, "services")
    width = 1

    def __init__(
        self, api: LocalApi, clock: Clock, folder: Path, listen: Callable[[str], int], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(api, clock)
        self._folder = folder
        self._listen = listen
        self._authelia: dict[str, Authelia] = {}
        self.backends = Backends(api, tls, self._special)
        self.view = View(api, clock, self.backends)
        self.problem = ""
        self._server: KubeServer | None = None
        self._token = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._words: list[str] = []

    @property
    def controllers(self) -> list[Controller]:
        """What has to be started: this and its view."""
        return [self.view, self]

    @property
    def running(self) -> bool:
        """Whether Traefik runs."""
        return self._process is not None and self._process.poll() is None

    def keys(self, event: Event) -> list[str]:
        """Everything about the chart's Deployment and Service concerns the one process."""
        return [_KEY] if has_labels(event.object, name="traefik") else []

    async def reconcile(self, _key: str) -> float | None:
        """Have the process run with the arguments that the Deployment has now, or not at all."""
        words = self._wanted()
        if words is None or self.problem:
            await self._end()
            return None
        if words != self._words or not self.running:
            await self._end()
            await self._begin(words)
        return 5.0

    async def run(self) -> None:
        """Work until cancelled; then nothing of it is left."""
        try:
            await super().run()
        finally:
            self._kill()
            await self.backends.stop()
            if self._server is not None:
                await self._server.stop()

    def _wanted(self) -> list[str] | None:
        """Return the arguments of the process; None while it must not run."""
        running = [one for one in self.api.list(DEPLOYMENTS) if has_labels(one, name="traefik")
                   and status_of(one).get("availableReplicas")]  # fmt: skip
        for deployment in running:
            space = namespace_of(deployment)
            services = [one for one in self.api.list("services", space) if has_labels(one, name="traefik")]
            address = next((found[0] for one in services if (found := ingress(one))), "")
            if address:
                args = spec_of(spec_of(deployment)["template"])["containers"][0].get("args") or []
                return self._arguments([str(one) for one in args], services, address)
        return None

    def _arguments(self, args: list[str], services: list[Object], address: str) -> list[str]:
        """Put the entry points on loopback and point the providers at the view; all else stays."""
        shown = {str(port.get("targetPort")): int(port["port"]) for one in services
                 for port in spec_of(one).get("ports") or []}  # fmt: skip
        self.view.external_names = any("allowexternalnameservices=true" in one.lower() for one in args)
        words = []
        for arg in args:
            if found := _ADDRESS.match(arg):
                public = shown.get(found[1]) or _SHOWN.get(found[1])
                port = self._listen(f"{address}:{public}") if public else 0
                words.append(f"--entryPoints.{found[1]}.address=127.0.0.1:{port}")
            elif not arg.lower().startswith(("--providers.kubernetesingress.ingressendpoint", "--global.")):
                words.append(arg)
        return [*words, "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]

    async def _begin(self, words: list[str]) -> None:
        program = Path(sys.executable).parent / "traefik"
        try:
            await asyncio.to_thread(run_program, [program, "version"], timeout=30.0)
        except LabError as exc:
            self.problem = f"Traefik cannot run on this machine, so no route of the twin answers: {exc.message}"
            _log.warning(self.problem)
            return
        server = await self._api_server()
        options = [f"--providers.providersThrottleDuration={max(_THROTTLE * self.clock.scale, 0.01):.3f}s"]
        for word in words:
            if found := _PROVIDER.match(word):
                options += [
                    f"--providers.{found[1]}.endpoint={server.url}",
                    f"--providers.{found[1]}.token={self._token}",
                ]
        argv = [sys.executable, "-I", launch.__file__, str(os.getpid()), str(program), *words, *options]
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder)}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = await asyncio.to_thread(
            start_program, argv, env=env, cwd=self._folder, log=self._folder / "traefik.log"
        )
        self._words = words

    async def _api_server(self) -> KubeServer:
        if self._server is None:
            self._server = KubeServer(self.view.core, clock=self.clock)
            self._token = self._server.issue("traefik", "traefik")
            self._server.closed = True
            await self._server.start()
        return self._server

    async def _end(self) -> None:
        process = self._process
        self._kill()
        if process is not None:
            await asyncio.to_thread(process.wait)

    def _kill(self) -> None:
        process, self._process, self._words = self._process, None, []
        if process is not None and process.poll() is None:
            process.kill()

    def _special(self, pod: Object) -> Handler | None:
        """Return Authelia's stand-in for its pods."""
        containers = spec_of(pod).get("containers") or [{}]
        if "authelia/authelia" not in str(containers[0].get("image", "")):
            return None
        space = namespace_of(pod)
        if space not in self._authelia:
            self._authelia[space] = Authelia(
                lambda: self._text(space, "configmaps", "configuration.yml"),
                lambda: (
                    self._text(space, "secrets", "users_database.yml")
                    or self._text(space, "configmaps", "users_database.yml")
                ),
            )
        return self._authelia[space].answer

    def _text(self, space: str, resource: str, key: str) -> str:
        for one in self.api.list(resource, space):
            value = (one.get("data") or {}).get(key)
            if value is not None:
                return base64.b64decode(value).decode() if resource == "secrets" else str(value)
        return ""
