"""Twins with a NAS of each release, and a small client of JSON-RPC over WebSocket."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from labkit.twin.client import TwinHandle, start_twin

LAB = Path(__file__).parents[2] / "data" / "twin" / "lab.yaml"
PLACE = "nas.lan:443"
URL = "nfs://nas.lan:/mnt/tank/backups"


class Rpc:
    """One connection."""

    def __init__(self, socket: ClientConnection, key: str) -> None:
        self.socket = socket
        self.key = key
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    async def ask(self, method: str, *params: Any) -> dict[str, Any]:
        """Return the whole answer of a call."""
        ident = next(self._numbers)
        await self.send(id=ident, method=method, params=list(params))
        while (answer := await self.read()).get("id") != ident:
            self.events.append(answer)
        return answer

    async def call(self, method: str, *params: Any) -> Any:
        answer = await self.ask(method, *params)
        assert "result" in answer, answer
        return answer["result"]

    async def error(self, method: str, *params: Any) -> dict[str, Any]:
        answer = await self.ask(method, *params)
        assert "error" in answer, answer
        return answer["error"]  # type: ignore[no-any-return]

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps({"jsonrpc": "2.0", **frame}))

    async def read(self) -> dict[str, Any]:
        return json.loads(await asyncio.wait_for(self.socket.recv(), 5))  # type: ignore[no-any-return]

    async def login(self, user: str = "labkit", key: str = "") -> str:
        given = {"mechanism": "API_KEY_PLAIN", "username": user, "api_key": key or self.key,
                 "login_options": {"user_info": False}}  # fmt: skip
        return str((await self.call("auth.login_ex", given))["response_type"])


@asynccontextmanager
async def connected(twin: TwinHandle, path: str = "/api/current", *, login: bool = True) -> AsyncIterator[Rpc]:
    host, port = json.loads(twin.connect_file.read_text())[PLACE].split(":")
    context = ssl.create_default_context(cafile=twin.trust[PLACE]["ca"])
    where = {"host": host, "port": int(port), "ssl": context, "server_hostname": "nas.lan", "proxy": None}
    async with connect(f"wss://nas.lan{path}", **where) as socket:
        rpc = Rpc(socket, twin.secrets["env:BENCH_NAS"])
        if login:
            assert await rpc.login() == "SUCCESS"
        yield rpc


def run(twin: TwinHandle, work: Callable[[Rpc], Awaitable[Any]], **more: Any) -> Any:
    """Do something over one connection."""

    async def go() -> Any:
        async with connected(twin, **more) as rpc:
            return await work(rpc)

    return asyncio.run(go())


@pytest.fixture(scope="session")
def _twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TwinHandle]]:
    twins = {
        version: start_twin(LAB, state=tmp_path_factory.mktemp("nas"), scale=0.004, parent=os.getpid(), nas=version)
        for version in ("25.04", "25.10")
    }
    yield twins
    for twin in twins.values():
        twin.stop(remove=True)


@pytest.fixture
def twin(_twins: dict[str, TwinHandle]) -> TwinHandle:
    return _twins["25.10"]


@pytest.fixture(params=["25.04", "25.10"])
def each(request: pytest.FixtureRequest, _twins: dict[str, TwinHandle]) -> TwinHandle:
    return _twins[request.param]


@pytest.fixture
def old(_twins: dict[str, TwinHandle]) -> TwinHandle:
    return _twins["25.04"]


@pytest.fixture(name="run")
def fixture_run() -> Any:
    return run
