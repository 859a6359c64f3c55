"""One connection to TrueNAS: JSON-RPC 2.0 over WebSocket, as its releases 25.04 and later speak it.

The key is only ever sent inside TLS that was verified: TrueNAS revokes a key that it sees on an open line.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from labkit.errors import InputError, LabError, Mistake, SystemDown
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.proxmox.transport import make_context

NO_METHOD = -32601
_OPEN, _ANSWER = 10.0, 30.0
_AT_ONCE = 8
"""TrueNAS runs ten calls of a connection at once, and refuses the twenty-first in flight."""
_MOST = 64 * 1024 * 1024


class NasError(LabError):
    """Report what TrueNAS refused, with the code and name of its error."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        data = error.get("data") or {}
        reason = str(data.get("reason") or error.get("message") or "no reason given").strip()
        super().__init__(
            f"TrueNAS {method}: expected an answer, got {data.get('errname') or error.get('code')}: {reason}"
        )
        self.code = int(error.get("code") or 0)


class NasClient:
    """A connection that is logged in; calls may be made side by side."""

    def __init__(self, socket: ClientConnection, host: str) -> None:
        self._socket = socket
        self._host = host
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._listener = asyncio.create_task(self._listen())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.cancel()

    async def call(self, method: str, *params: Any) -> Any:
        """Return the result of a method.

        Raises:
            NasError: TrueNAS refused it; its code is `NO_METHOD` where the release has no such method.
            SystemDown: the connection broke, or no answer came.
        """
        async with self._turns:
            ident = next(self._numbers)
            self._waiting[ident] = answer = asyncio.get_running_loop().create_future()
            frame = {"jsonrpc": "2.0", "id": ident, "method": method, "params": list(params)}
            try:
                await self._socket.send(json.dumps(frame))
                found = await asyncio.wait_for(answer, _ANSWER)
            except (ConnectionClosed, TimeoutError) as exc:
                what = str(exc) or f"none within {_ANSWER:g} s"
                raise SystemDown(f"TrueNAS {self._host}: expected an answer to {method}, got {what}") from exc
            finally:
                del self._waiting[ident]
        if "error" in found:
            raise NasError(method, found["error"])
        return found.get("result")

    async def find(self, method: str, *params: Any) -> Any:
        """Return the result of a method, or None where the release has no such method."""
        try:
            return await self.call(method, *params)
        except NasError as exc:
            if exc.code == NO_METHOD:
                return None
            raise

    async def _listen(self) -> None:
        try:
            async for text in self._socket:
                frame = json.loads(text)
                waiting = self._waiting.get(frame.get("id"))
                if waiting is not None and not waiting.done():
                    waiting.set_result(frame)
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(TimeoutError("the connection ended"))


@asynccontextmanager
async def open_nas(lab: Lab, access: Access) -> AsyncIterator[NasClient]:
    """Connect, verify the certificate, log in.

    Raises:
        SystemDown: it cannot be reached, or its certificate is not the expected one.
        InputError: it does not take the key.
    """
    url = lab.nas.api or f"wss://{lab.nas.host}/api/current"
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or 443
    there, number = access.route(host, port)
    tls = access.tls(host, port, lab.nas.tls)
    try:
        async with connect(
            url, host=there, port=number, ssl=make_context(tls), server_hostname=host, proxy=None, open_timeout=_OPEN,
            max_size=_MOST, close_timeout=1,
        ) as socket:  # fmt: skip
            _compare(socket, host, tls.fingerprint)
            async with NasClient(socket, host) as client:
                await _log_in(client, lab, access)
                yield client
    except (OSError, InvalidHandshake, InvalidMessage, TimeoutError) as exc:
        raise SystemDown(
            f"TrueNAS {host}:{port}: expected an answer, got {type(exc).__name__}: {exc}",
            next_step="look whether it is up, and at nas.tls in the lab file when its certificate is not trusted",
        ) from exc


def _compare(socket: ClientConnection, host: str, fingerprint: str | None) -> None:
    """Refuse a certificate that is not the pinned one, before anything is sent."""
    if not fingerprint:
        return
    tls = socket.transport.get_extra_info("ssl_object")
    seen = hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()
    if seen != fingerprint.replace(":", "").lower():
        shown = ":".join(seen[at : at + 2] for at in range(0, len(seen), 2)).upper()
        raise SystemDown(
            f"TrueNAS {host}: expected the certificate with fingerprint {fingerprint}, got {shown}",
            next_step="compare it with the one that the box shows, then change nas.tls in the lab file",
        )


async def _log_in(client: NasClient, lab: Lab, access: Access) -> None:
    reference = lab.nas.api_key or ""
    key = access.secrets.resolve(reference)
    given = {"mechanism": "API_KEY_PLAIN", "username": lab.nas.api_user, "api_key": key,
             "login_options": {"user_info": False}}  # fmt: skip
    answer = await client.call("auth.login_ex", given)
    said = str((answer or {}).get("response_type"))
    if said != "SUCCESS":
        expected = f"an API key that TrueNAS takes for user {lab.nas.api_user}"
        raise InputError([Mistake("lab file", 0, 0, "nas.api_key", expected, f"{reference}: {said}")])
