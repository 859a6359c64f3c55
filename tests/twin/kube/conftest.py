"""A server with controllers on a thread of its own, and clients that reach it over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from labkit.twin.clock import TwinClock
from labkit.twin.controllers import Kubelets, LivingNode, start
from labkit.twin.kube.server import KubeServer

SCALE = 0.01


class Running:
    """A server on its own thread; `call` runs something on its loop."""

    def __init__(self, *, scheduler: bool = True) -> None:
        self.scheduler = scheduler
        self.loop = asyncio.new_event_loop()
        self.server: KubeServer
        self.kubelets: Kubelets
        self._tasks: list[asyncio.Task[None]] = []
        self._nodes: list[LivingNode] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    async def _start(self) -> None:
        clock = TwinClock(SCALE)
        self.server = KubeServer(
            clock=clock, logs=lambda pod, container: f"{pod['metadata']['name']} {container}\n" * 3
        )
        await self.server.start()
        self.kubelets = Kubelets(self.server.door, clock)
        self._tasks = start(
            self.server.door,
            clock,
            scheduler=self.scheduler,
            kubelets=self.kubelets if self.scheduler else None,
        )

    async def _stop(self) -> None:
        for node in self._nodes:
            node.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.stop()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's loop and return what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def do(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function on the server's loop."""

        async def work() -> Any:
            return function(*args, **options)

        return self.call(work())

    def add_node(self, name: str, number: int) -> None:
        """Let a node join that runs pods."""

        def join() -> None:
            node = LivingNode(self.kubelets, name, f"192.168.5.{number}", "v1.36.2+k3s1")
            node.start()
            self._nodes.append(node)

        self.do(join)

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """An empty server with controllers, for one module of tests."""
    with Running() as found:
        yield found


@pytest.fixture(scope="module")
def alone() -> Iterator[Running]:
    """An empty server as `python -m labkit.twin.kube` serves it: nothing schedules or runs pods."""
    with Running(scheduler=False) as found:
        yield found


@pytest.fixture(scope="module")
def web(running: Running) -> Iterator[httpx.Client]:
    """A plain HTTP client of the server."""
    with httpx.Client(base_url=running.url, timeout=20, trust_env=False) as client:
        yield client


class Kubectl:
    """The real kubectl, with a home of its own."""

    def __init__(self, url: str, home: Path) -> None:
        self.program = Path(sys.executable).parent / "kubectl"
        self.url = url
        self.home = home
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECACHEDIR": str(home / "cache")}

    def run(self, *words: str, stdin: str | None = None, status: int | None = 0) -> str:
        """Run one command and return what it printed; both streams when it is to fail."""
        argv = [str(self.program), "--server", self.url, *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=self.env, timeout=60, check=False)
        if status is not None:
            assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if status == 0 else done.stdout + done.stderr

    def json(self, *words: str) -> Any:
        """Run a command with `-o json` and return what it printed."""
        return json.loads(self.run(*words, "-o", "json"))


@pytest.fixture(scope="module")
def kubectl(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The real kubectl, pointed at the server."""
    assert shutil.which("kubectl", path=str(Path(sys.executable).parent))
    return Kubectl(running.url, tmp_path_factory.mktemp("kubectl"))


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait until a check holds, and return what it gave."""

    def wait(check: Callable[[], Any], within: float = 15.0) -> Any:
        deadline = time.monotonic() + within
        while not (found := check()):
            assert time.monotonic() < deadline, "what the test waits for did not come"
            time.sleep(0.02)
        return found

    return wait
