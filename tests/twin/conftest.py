"""Twins for tests: one with VMs and one without, shared by all tests of a worker, and clients of its protocols."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncssh
import pytest
import requests
from requests.adapters import HTTPAdapter

from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.secrets import ssh_public_key

LAB = Path(__file__).parent.parent / "data" / "twin" / "lab.yaml"
SCALE = 0.004


class _Named(HTTPAdapter):
    """Verify the certificate of the name that was meant, not of the address that is connected to."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, assert_hostname=self._name, server_hostname=self._name, **kwargs)


class Api:
    """Proxmox's API of a twin, as a script would call it; a failure is returned as (status, text)."""

    def __init__(self, twin: TwinHandle, *, host: str = "north.lan", user: str = "runbooks", secret: str = "") -> None:
        self.twin = twin
        ref = {"runbooks": "env:BENCH_TOKEN", "reader": "env:BENCH_READ_TOKEN"}[user]
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = twin.trust[f"{host}:8006"]["ca"]
        self._session.headers["Authorization"] = f"PVEAPIToken=labkit@pve!{user}={secret or twin.secrets[ref]}"
        self._session.mount("https://", _Named(host))
        place = json.loads(twin.connect_file.read_text())[f"{host}:8006"]
        self._base = f"https://{place}/api2/json"

    def ask(self, method: str, path: str, **data: Any) -> requests.Response:
        how = {"params": data} if method == "GET" else {"data": data or None}
        return self._session.request(method, self._base + path, timeout=20, **how)

    def get(self, path: str, **params: Any) -> Any:
        return self.data("GET", path, **params)

    def data(self, method: str, path: str, **params: Any) -> Any:
        answer = self.ask(method, path, **params)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()["data"]

    def refusal(self, method: str, path: str, **params: Any) -> tuple[int, str]:
        answer = self.ask(method, path, **params)
        assert answer.status_code >= 400, f"{method} {path} went through"
        return answer.status_code, answer.json()["message"].strip()

    def task(self, method: str, path: str, **params: Any) -> str:
        """Do something that makes a task, and return how it ended."""
        return self.wait(self.data(method, path, **params))

    def wait(self, upid: str) -> str:
        node = upid.split(":")[1]
        status = until(
            lambda: seen if (seen := self.get(f"/nodes/{node}/tasks/{upid}/status"))["status"] == "stopped" else None
        )
        return str(status["exitstatus"])

    def vm(self, name: str) -> dict[str, Any] | None:
        return next((row for row in self.get("/cluster/resources", type="vm") if row["name"] == name), None)

    def path(self, name: str) -> str:
        row = self.vm(name)
        assert row is not None, f"no VM {name}"
        return f"/nodes/{row['node']}/qemu/{row['vmid']}"

    def clone(self, name: str, *, node: str = "north", template: int = 9000, **more: Any) -> tuple[int, str]:
        vmid = int(self.get("/cluster/nextid"))
        storage = "local-lvm" if node == "north" else "tank-zfs"
        status = self.task(
            "POST", f"/nodes/{node}/qemu/{template}/clone", newid=vmid, name=name, full=1, storage=storage, **more
        )
        return vmid, status

    def make(self, name: str, address: str, *, node: str = "north", template: int = 9000, fault: str = "") -> str:
        """Make a VM that is up, and return its path; the fault is on before its first boot."""
        vmid, status = self.clone(name, node=node, template=template)
        assert status == "OK", status
        path = f"/nodes/{node}/qemu/{vmid}"
        self.data("PUT", f"{path}/config", **cloud_init(self.twin, address))
        if fault:
            self.twin.fault(fault)
        assert self.task("POST", f"{path}/status/start") == "OK"
        self.agent(path)
        return path

    def agent(self, path: str) -> None:
        until(lambda: self.ask("POST", f"{path}/agent/ping").status_code == 200 or None)

    def run(self, path: str, *words: str) -> dict[str, Any]:
        pid = self.data("POST", f"{path}/agent/exec", command=list(words))["pid"]
        return until(lambda: seen if (seen := self.get(f"{path}/agent/exec-status", pid=pid))["exited"] else None)  # type: ignore[no-any-return]


def cloud_init(twin: TwinHandle, address: str) -> dict[str, str]:
    key = ssh_public_key(twin.secrets["file:~/.ssh/bench"])
    return {
        "ciuser": "admin", "sshkeys": quote(key + "\n", safe=""), "ipconfig0": f"ip={address}/24,gw=10.20.0.1",
        "agent": "enabled=1", "searchdomain": "lan", "nameserver": "10.20.0.1", "ciupgrade": "0",
    }  # fmt: skip


def until(probe: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Ask until there is something."""
    end = time.monotonic() + seconds
    while (value := probe()) is None:
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
    return value


def place(twin: TwinHandle, address: str) -> tuple[str, int]:
    host, port = json.loads(twin.connect_file.read_text())[f"{address}:22"].split(":")
    return host, int(port)


async def connect(twin: TwinHandle, address: str, **more: Any) -> asyncssh.SSHClientConnection:
    host, port = place(twin, address)
    key = asyncssh.import_private_key(twin.secrets["file:~/.ssh/bench"])
    given = {"username": "admin", "client_keys": [key], "known_hosts": None, "config": None, **more}
    return await asyncssh.connect(host, port, login_timeout=5, **given)


def ssh(twin: TwinHandle, address: str, *lines: str, **more: Any) -> list[tuple[int, str, str]]:
    """Run lines in a guest, and return exit status, output and errors of each."""

    async def go() -> list[tuple[int, str, str]]:
        async with await connect(twin, address) as conn:
            done = [await conn.run(line, **more) for line in lines]
            return [(int(d.exit_status or 0), str(d.stdout), str(d.stderr)) for d in done]

    return asyncio.run(go())


@pytest.fixture(scope="session")
def _slow_twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinHandle]:
    twin = start_twin(LAB, state=tmp_path_factory.mktemp("slow"), scale=0.06, parent=os.getpid())
    yield twin
    twin.stop(remove=True)


@pytest.fixture
def slow_api(_slow_twin: TwinHandle) -> Api:
    """A twin that is slow enough to look at something while it goes on."""
    return Api(_slow_twin)


@pytest.fixture(scope="session")
def lab_file() -> Path:
    return LAB


@pytest.fixture(scope="session")
def _twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinHandle]:
    state = tmp_path_factory.mktemp("twin")
    twin = start_twin(LAB, state=state, scenario="provisioned", scale=SCALE, parent=os.getpid())
    yield twin
    log = (state / "twin.log").read_text()
    twin.stop(remove=True)
    assert "Traceback" not in log, log


@pytest.fixture
def twin(_twin: TwinHandle) -> Iterator[TwinHandle]:
    """The shared twin: a test may add VMs and faults; the faults are cleared after it."""
    yield _twin
    for name in _twin.status()["faults"]:
        _twin.clear(name)


@pytest.fixture
def api(twin: TwinHandle) -> Api:
    return Api(twin)
