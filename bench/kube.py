"""Reading a large cluster against the official client and kubectl, and how quick the twin's own API is.

The API is the twin's, in a process of its own, with 5,000 pods of about 3 KB and 500 nodes. Every reading is a fresh
process that reads all once, as the runbooks do (raw nodes, a server-side Table of pods with metadata, and rows made of
both) or with typed objects (`list_pod_for_all_namespaces` and `list_node`). Its imports do not count as time, and do
as memory. Of several readings the quickest counts on both sides: what else the machine does is no part of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.figure import Figure
from bench.kube_read import connect

READ, TYPED = 5, 3
"""How often each way is measured."""
STARTS = 7
GETS, LISTS = 500, 20
_READY = 60.0
_Reading = dict[str, float]


def figures() -> Iterator[Figure]:
    """Yield the figures."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)):
        yield from read_figures(Path(folder))
        yield from request_figures(Path(folder))
    took = statistics.median([start_once() for _ in range(STARTS + 1)][1:])
    yield Figure("start to ready of python -m labkit.twin.kube", took, "s", limit=1.0, note=f"median of {STARTS}")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[None]:
    """Keep the full API running for the time of the block."""
    server = subprocess.Popen([sys.executable, "-m", "bench.kube_server", str(folder)])
    try:
        wait_until((folder / "server.json").exists, server)
        yield
    finally:
        server.terminate()
        server.wait()


def wait_until(probe: Callable[[], bool], server: subprocess.Popen[bytes]) -> None:
    """Wait until a server that was just started is ready."""
    end = time.monotonic() + _READY
    while not probe():
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"expected {server.args!r} to be ready within {_READY:g} s, got exit {server.poll()}")
        time.sleep(0.005)


def read_figures(folder: Path) -> Iterator[Figure]:
    """Compare the readings in time and memory."""
    mine, typed, kubectl = [], [], []
    for number in range(READ):
        mine.append(read("labkit", folder))
        if number < TYPED:
            typed.append(read("typed", folder))
            kubectl.append(get_pods(folder))
    quick, slow = (min(reading["seconds"] for reading in readings) for readings in (mine, typed))
    what = f"{int(mine[0]['rows']):,} pods and nodes"
    yield Figure(f"typed list of {what} / labkit's reading", slow / quick, "times", limit=10.0, least=True,
                 note=f"{slow:.2f} s / {quick:.2f} s")  # fmt: skip
    yield Figure("kubectl get pods -A / labkit's reading", min(kubectl) / quick, "times",
                 note=f"{min(kubectl):.2f} s / {quick:.2f} s, kubectl with its start and without nodes")  # fmt: skip
    small, large = (max(reading["mib"] for reading in readings) for readings in (mine, typed))
    yield Figure("peak memory of the typed list / of labkit's reading", large / small, "times",
                 note=f"{large:.0f} MiB / {small:.0f} MiB")  # fmt: skip


def read(way: str, folder: Path) -> _Reading:
    """Read once in a fresh process."""
    argv = [sys.executable, "-m", "bench.kube_read", way, str(folder)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE)
    reading: _Reading = json.loads(done.stdout)
    return reading


def get_pods(folder: Path) -> float:
    """Return the seconds of `kubectl get pods -A`."""
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    argv = [kubectl, "--kubeconfig", str(folder / "kubeconfig"), "get", "pods", "-A"]
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def request_figures(folder: Path) -> Iterator[Figure]:
    """Count the answers of the twin's API in a second, over one TLS connection that stays open."""
    cluster = connect(folder, json.loads((folder / "server.json").read_text()))
    one = rate(lambda: cluster.request("GET", "/api/v1/nodes/node-007"), GETS)
    many = rate(lambda: cluster.request("GET", "/api/v1/pods", query={"limit": 1000}), LISTS)
    yield Figure("the twin's API: GET of one object", one, "a second")
    yield Figure("the twin's API: LIST of 1,000 objects", many, "a second")


def rate(ask: Callable[[], Any], times: int) -> float:
    """Return how often a question is answered in a second; the first answer, which warms up, does not count."""
    ask()
    began = time.perf_counter()
    for _ in range(times):
        ask()
    return times / (time.perf_counter() - began)


def start_once() -> float:
    """Return the seconds from the start of an empty API to its first good answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As for a user, who keeps what Python compiled; the first start, which compiles, does not count.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "labkit.twin.kube", "--port", str(port)], env=env)
    try:
        wait_until(lambda: is_ready(port), server)
        return time.perf_counter() - began
    finally:
        server.terminate()
        server.wait()


def is_ready(port: int) -> bool:
    """Whether the API at that port says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
