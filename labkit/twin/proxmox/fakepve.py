"""fakepve as its own process, and one session with it as root."""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from labkit.errors import StepFailed
from labkit.process import start_program
from labkit.twin import launch
from labkit.twin.certificates import Authority
from labkit.twin.proxmox.errors import PveError
from labkit.twin.state import write_json

_READY = "fakepve listening on "
_START_SECONDS = 20.0
_ROOT = "root@pam"


class FakePve:
    """The process: started early, since it takes a moment, and awaited with `ready`.

    Its own time scale is 0, so that what it is asked for has happened when it answers: all durations are the
    proxy's, which also holds the locks for that long.
    """

    def __init__(self, folder: Path, authority: Authority, guests: Sequence[Mapping[str, Any]]) -> None:
        self._log = folder / "fakepve.log"
        self._log.unlink(missing_ok=True)
        self._password = secrets.token_hex(16)
        self._tls = ssl.create_default_context(cafile=str(authority.ca))
        cert = authority.issue("fakepve", ["127.0.0.1"])
        write_json(folder / "fakepve.json", {"guests": guests})
        program = [sys.executable, "-m", "fakepve", folder / "fakepve.json", "--host", "127.0.0.1", "--port", "0"]
        program += ["--time-scale", "0", "--cert", cert.cert, "--key", cert.key]
        environment = {**os.environ, "PVE_USER": _ROOT, "PVE_PASS": self._password, "PYTHONUNBUFFERED": "1"}
        words = [sys.executable, "-I", launch.__file__, str(os.getpid()), *program]
        self._process: subprocess.Popen[bytes] = start_program(words, env=environment, log=self._log)
        self._url = ""
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}

    async def ready(self) -> None:
        """Wait until it listens, and log in; raise StepFailed with what it said when it does not come up."""
        end = asyncio.get_running_loop().time() + _START_SECONDS
        while _READY not in (said := self._log.read_text() if self._log.exists() else ""):
            if self._process.poll() is not None or asyncio.get_running_loop().time() > end:
                raise StepFailed(f"fakepve: expected that it listens, got: {said.strip()[-2000:] or 'silence'}")
            await asyncio.sleep(0.01)
        self._url = said.split(_READY, 1)[1].split()[0] + "/api2/json"
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=8, keepalive_timeout=60)
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
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def _log_in(self) -> None:
        self._headers = {}
        data = await self._send("POST", "/access/ticket", {"username": _ROOT, "password": self._password})
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
