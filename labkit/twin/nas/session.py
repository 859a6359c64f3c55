"""One WebSocket connection to the NAS: JSON-RPC frames, login, events, and the limits that a client meets."""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from labkit.twin.kube.door import Clock
from labkit.twin.nas.content import USER
from labkit.twin.nas.errors import RpcError, call_error, invalid_params
from labkit.twin.nas.methods import Methods

BEFORE_LOGIN, AFTER_LOGIN = 8 * 1024, 64 * 1024  # bytes of a message
_AT_ONCE, _IN_FLIGHT = 10, 20
_FAILED_LOGIN, _JOB = 1.0, 2.0  # twin seconds
_TOO_BIG = 1009


class Session:
    """Serve one client.

    Args:
        methods: of the NAS.
        key: the API key that is let in.
        clock: of the twin.
        on_write: told of every call that changes something.
    """

    def __init__(self, methods: Methods, key: str, clock: Clock, on_write: Callable[[], None]) -> None:
        self._methods = methods
        self._key = key
        self._clock = clock
        self._on_write = on_write
        self._user = ""
        self._events: dict[str, str] = {}
        self._legacy_jobs = True
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._calls: set[asyncio.Task[None]] = set()
        self._socket = web.WebSocketResponse(max_msg_size=AFTER_LOGIN)
        self._own: dict[str, Callable[[list[Any]], Awaitable[Any]]] = {
            "auth.login_ex": self._login_ex, "auth.login_with_api_key": self._login_with_key, "auth.me": self._me,
            "auth.logout": self._logout, "auth.mechanism_choices": self._mechanisms,
            "core.subscribe": self._subscribe, "core.unsubscribe": self._unsubscribe,
        }  # fmt: skip
        if methods.version == "25.10":
            self._own["core.set_options"] = self._set_options

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer until the connection ends."""
        await self._socket.prepare(request)
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                if not self._user and len(message.data) > BEFORE_LOGIN:
                    await self._socket.close(code=_TOO_BIG, message=b"Max message length is 8 kB")
                    break
                await self._take(message.data)
        finally:
            for task in self._calls:
                task.cancel()
        return self._socket

    async def close(self) -> None:
        """End the connection."""
        await self._socket.close(code=1001)

    async def _take(self, text: str) -> None:
        ident: Any = None
        try:
            frame = _frame(text)
            ident = frame.get("id")
        except RpcError as exc:
            await self._send({"id": ident, "error": exc.view()})
            return
        if len(self._calls) >= _IN_FLIGHT:
            await self._send({"id": ident, "error": RpcError(-32000, "Too many concurrent calls", _too_many()).view()})
            return
        task = asyncio.create_task(self._answer(frame))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, frame: dict[str, Any]) -> None:
        async with self._turns:
            try:
                found = {"result": await self._call(frame["method"], frame.get("params") or [])}
            except RpcError as exc:
                found = {"error": exc.view()}
            except (IndexError, KeyError, TypeError, AttributeError) as exc:
                found = {"error": invalid_params("", f"{type(exc).__name__}: {exc}").view()}
        if "id" in frame:
            await self._send({"id": frame["id"], **found})

    async def _call(self, name: str, params: list[Any]) -> Any:
        if name in self._own:
            if not name.startswith("auth.") and not self._user:
                raise call_error("ENOTAUTHENTICATED", "Not authenticated")
            return await self._own[name](params)
        method = self._methods.find(name)
        if not method.public and not self._user:
            raise call_error("ENOTAUTHENTICATED", "Not authenticated")
        if method.writes:
            self._on_write()
        if not method.job:
            found = method.call(params)
            return {**found, **dict.fromkeys(self._own, _plain_method())} if name == "core.get_methods" else found
        job = self._methods.begin_job(name, params)
        await self._tell("added", job)
        work = asyncio.create_task(self._work(name, params, job))
        if self._legacy_jobs:
            self._calls.add(work)
            work.add_done_callback(self._calls.discard)
            return job["id"]
        await work
        if job["state"] == "FAILED":
            raise call_error("EFAULT", str(job["error"]))
        return job["result"]

    async def _work(self, name: str, params: list[Any], job: dict[str, Any]) -> None:
        await self._clock.sleep(_JOB)
        try:
            self._methods.end_job(job, self._methods.find(name).call(params))
        except RpcError as exc:
            reason = (exc.data or {}).get("reason", str(exc))
            job |= {"state": "FAILED", "error": reason,
                    "exc_info": {"repr": reason, "type": "CallError", "errno": 14, "extra": None}}  # fmt: skip
        await self._tell("changed", job)

    async def _tell(self, kind: str, job: dict[str, Any]) -> None:
        if "core.get_jobs" in self._events.values():
            fields = {"msg": kind, "collection": "core.get_jobs", "id": job["id"], "fields": job}
            await self._send({"method": "collection_update", "params": fields})

    async def _send(self, frame: dict[str, Any]) -> None:
        if not self._socket.closed:
            await self._socket.send_str(json.dumps({"jsonrpc": "2.0", **frame}))

    async def _login_ex(self, params: list[Any]) -> dict[str, Any]:
        given = params[0] if params and isinstance(params[0], dict) else {}
        if given.get("mechanism") != "API_KEY_PLAIN":
            raise invalid_params("login_data.mechanism", "Only API_KEY_PLAIN is set up for this user")
        for field in ("username", "api_key"):
            if not isinstance(given.get(field), str):
                raise invalid_params(f"login_data.API_KEY_PLAIN.{field}", "Field required")
        if given["username"] != USER or not self._is_key(given["api_key"]):
            await self._clock.sleep(_FAILED_LOGIN)
            return {"response_type": "AUTH_ERR"}
        self._user = USER
        wants = (given.get("login_options") or {}).get("user_info", True)
        info = await self._me([]) if wants else None
        return {"response_type": "SUCCESS", "user_info": info, "authenticator": "LEVEL_1"}

    async def _login_with_key(self, params: list[Any]) -> bool:
        if not self._is_key(str(params[0])):
            await self._clock.sleep(_FAILED_LOGIN)
            return False
        self._user = USER
        return True

    def _is_key(self, text: str) -> bool:
        return bool(self._key) and hmac.compare_digest(text.encode(), self._key.encode())

    async def _me(self, _params: list[Any]) -> dict[str, Any]:
        if not self._user:
            raise call_error("ENOTAUTHENTICATED", "Not authenticated")
        return {
            "pw_name": USER, "pw_uid": 3000, "pw_gid": 3000, "pw_gecos": "labkit", "pw_dir": "/var/empty",
            "pw_shell": "/usr/sbin/nologin", "source": "LOCAL", "local": True, "account_attributes": ["LOCAL"],
            "two_factor_config": None, "attributes": {},
            "privilege": {"roles": {"$set": ["FULL_ADMIN"]}, "web_shell": False, "webui_access": False},
        }  # fmt: skip

    async def _logout(self, _params: list[Any]) -> bool:
        self._user = ""
        return True

    async def _mechanisms(self, _params: list[Any]) -> list[str]:
        return ["API_KEY_PLAIN", "TOKEN_PLAIN", "PASSWORD_PLAIN"]

    async def _subscribe(self, params: list[Any]) -> str:
        ident = str(uuid.uuid4())
        self._events[ident] = str(params[0])
        return ident

    async def _unsubscribe(self, params: list[Any]) -> None:
        self._events.pop(str(params[0]), None)

    async def _set_options(self, params: list[Any]) -> None:
        self._legacy_jobs = bool(params[0].get("legacy_jobs", True))


def _frame(text: str) -> dict[str, Any]:
    """Read one request; raise RpcError."""
    try:
        frame = json.loads(text)
    except ValueError as exc:
        raise RpcError(-32700, "Parse error", _reason(str(exc))) from exc
    if not isinstance(frame, dict) or frame.get("jsonrpc") != "2.0" or not isinstance(frame.get("method"), str):
        raise RpcError(-32600, "Invalid Request", _reason("Missing or wrong jsonrpc or method"))
    if not isinstance(frame.get("params", []), list):
        raise RpcError(-32600, "Invalid Request", _reason("`params` must be an array"))
    if not isinstance(frame.get("id"), int | str | None):
        raise RpcError(-32600, "Invalid Request", _reason("`id` must be null, a number or a string"))
    return frame


def _reason(text: str) -> dict[str, Any]:
    return {"error": 22, "errname": "EINVAL", "reason": text, "extra": None, "trace": None}


def _too_many() -> dict[str, Any]:
    text = f"Maximum number of concurrent calls ({_IN_FLIGHT}) has exceeded."
    return {"error": 16, "errname": "EBUSY", "reason": text, "extra": None, "trace": None}


def _plain_method() -> dict[str, Any]:
    return {"description": "", "job": False, "filterable": False, "roles": [], "item_method": False,
            "downloadable": False, "uploadable": False}  # fmt: skip
