"""A session with fakepve, as root."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp

from labkit.errors import StepFailed
from labkit.twin.proxmox.daemon import USER, Daemon
from labkit.twin.proxmox.errors import PveError

_START_SECONDS = 20.0


class FakePve:
    """Ask fakepve; `ready` first waits until it is up."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._url = ""
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}

    async def ready(self) -> None:
        """Wait until it listens, and log in; raise StepFailed with what it said when it does not come up."""
        end = asyncio.get_running_loop().time() + _START_SECONDS
        while (url := self._daemon.url()) is None:
            if self._daemon.has_ended() or asyncio.get_running_loop().time() > end:
                said = self._daemon.said().strip()[-2000:]
                raise StepFailed(f"fakepve: expected that it listens, got: {said or 'silence'}")
            await asyncio.sleep(0.01)
        self._url = url
        tls = ssl.create_default_context(cafile=str(self._daemon.ca))
        connector = aiohttp.TCPConnector(ssl=tls, limit=8, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(connector=connector)
        await self._log_in()

    async def ask(self, method: str, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Send one request as root and return its `data`; raise PveError with its answer else."""
        try:
            return await self._send(method, path, params or {})
        except PveError as exc:
            if exc.status != 401:
                raise
        await self._log_in()  # the ticket was two hours old
        return await self._send(method, path, params or {})

    async def stop(self) -> None:
        """End the session and the process."""
        if self._session is not None:
            await self._session.close()
        self._daemon.stop()

    async def _log_in(self) -> None:
        self._headers = {}
        data = await self._send("POST", "/access/ticket", {"username": USER, "password": self._daemon.password})
        self._headers = {
            "Cookie": f"PVEAuthCookie={data['ticket']}",
            "CSRFPreventionToken": data["CSRFPreventionToken"],
        }

    async def _send(self, method: str, path: str, params: Mapping[str, Any]) -> Any:
        if self._session is None:
            raise StepFailed("fakepve: expected a session, got none; it is not ready yet")
        pairs = [(k, str(v)) for k, vs in params.items() for v in (vs if isinstance(vs, list) else [vs])]
        in_body = method in {"POST", "PUT"}
        async with self._session.request(
            method,
            self._url + path,
            headers=self._headers,
            params=None if in_body or not pairs else pairs,
            data=aiohttp.FormData(pairs) if in_body and pairs else None,
        ) as answer:
            body = await answer.json()
        if answer.status >= 400:
            message = str(body.get("message") or answer.reason or "").strip()
            raise PveError(answer.status, message, body.get("errors"))
        return body.get("data")
