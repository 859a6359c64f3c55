"""The health report: all systems read side by side against the slowest alone, and the notebook from start to HTML.

Every answer of every system is held back for 50 ms on its way: a plain relay stands before each of the twin's ports, so
that TLS, SSH and Git pay it for each of their round trips as they would on a network. "Alone" is a reading
of one system with connections of its own; of several readings the quickest counts, on both sides.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.figure import Figure
from labkit.checks.health import needed_systems
from labkit.lab import Lab
from labkit.run import Run, registry, start
from labkit.run.survey import Survey, survey
from labkit.systems.access import Access
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.twin.client import TwinHandle, start_twin

DELAY = 0.05
LARGE = (30, 3000)
"""Nodes and pods of a cluster that the lab of nine nodes and some sixty pods is compared with."""
TIMES = 3
LAB = Path("parameters/lab.yaml")


def figures() -> Iterator[Figure]:
    """Yield the figures."""
    with tempfile.TemporaryDirectory() as folder, twin_of(Path(folder)) as twin:
        yield from reading(twin, Path(folder))
        yield from notebook(twin, Path(folder))
        yield from growing(twin, Path(folder))


@contextlib.contextmanager
def twin_of(folder: Path) -> Iterator[TwinHandle]:
    """Keep a twin of the lab with everything in it for the time of the block; runs join it."""
    twin = start_twin(LAB, state=folder / "twin", scenario="flux", parent=os.getpid())
    os.environ["LABKIT_TWIN"] = str(twin.state)
    try:
        yield twin
    finally:
        del os.environ["LABKIT_TWIN"]
        twin.stop()


def reading(twin: TwinHandle, folder: Path) -> Iterator[Figure]:
    """Yield the time of the whole reading against its slowest part, and how many requests it sends."""
    os.environ["LABKIT_OUTPUT"] = str(folder / "reading")
    with contextlib.redirect_stdout(io.StringIO()):
        run = start("health-report", lab=LAB)
    names = needed_systems()
    with relays(twin.connect_file, DELAY) as connect_file:
        slow = replace(run.access, connect_file=connect_file)
        whole(run.lab, slow, names)  # imports, sessions and Git's first clone are no part of the figure
        alone = {name: best(partial(whole, run.lab, slow, [name])) for name in names}
        took = best(partial(whole, run.lab, slow, names))
        requests = whole(run.lab, slow, names).cost.requests
    run.finish()
    worst = max(alone, key=lambda name: alone[name])
    yield Figure(
        f"reading {len(names)} systems, 50 ms on each answer / the slowest alone",
        took / alone[worst],
        limit=1.5,
        note=f"{took:.2f} s / {alone[worst]:.2f} s for {worst}",
    )
    asked = ", ".join(f"{count} {name}" for name, count in requests.items())
    yield Figure("requests of a report", sum(requests.values()), note=asked)


def growing(twin: TwinHandle, folder: Path) -> Iterator[Figure]:
    """Yield how many more requests to the API a larger cluster needs, pages aside; its further nodes are no VMs."""
    del twin
    os.environ["LABKIT_OUTPUT"] = str(folder / "growing")
    with contextlib.redirect_stdout(io.StringIO()):
        run = start("health-report", lab=LAB)
    cluster = open_cluster(run.lab, run.access)
    ask_api(run)  # finding out which server answers is no part of the figure
    small, small_size = ask_api(run)
    fill(cluster, *LARGE)
    large, large_size = ask_api(run)
    run.finish()
    yield Figure(
        f"requests to the API, pages aside: {large_size} / {small_size}",
        large[0] / small[0],
        limit=1.0,
        note=f"{large[0]} / {small[0]}; with further pages {sum(large)} / {sum(small)}",
    )


def ask_api(run: Run) -> tuple[tuple[int, int], str]:
    """Return the requests to the API of a whole reading, first pages and further ones, and how much there is."""
    plain = Cluster.request
    asked: list[bool] = []

    def counted(self: Cluster, method: str, path: str, **options: Any) -> bytes:
        asked.append("continue" in (options.get("query") or ()))
        return plain(self, method, path, **options)

    with patch.object(Cluster, "request", counted):
        facts = whole(run.lab, run.access, needed_systems()).facts["kubernetes"]
    return (asked.count(False), asked.count(True)), f"{len(facts.nodes)} nodes, {len(facts.pods):,} pods"


def fill(cluster: Cluster, nodes: int, pods: int) -> None:
    """Make nodes and pods until there are that many; the pods run on nodes that the lab has."""
    there = [str(one["metadata"]["name"]) for one in cluster.items("/api/v1/nodes")]
    taint = {"key": "bench", "effect": "NoExecute"}  # no pod is missed on them
    for number in range(len(there), nodes):
        node = {"metadata": {"name": f"more-{number}"}, "spec": {"taints": [taint]}}
        cluster.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", **node})
    for number in range(len(list(cluster.items("/api/v1/pods"))), pods):
        spec = {"containers": [{"name": "one", "image": "example/one:1"}], "nodeName": there[number % len(there)]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"more-{number}"}, "spec": spec}
        cluster.post("/api/v1/namespaces/default/pods", pod)


def whole(lab: Lab, access: Access, names: Sequence[str]) -> Survey:
    """Read systems side by side over connections of their own; one that does not answer would make it worthless."""
    result = survey(lab, replace(access), names)
    if result.unread:
        raise RuntimeError(f"expected every system to be read, got {result.unread}")
    return result


def best(work: Callable[[], object]) -> float:
    """Return the least time of some work in seconds: what else the machine does only adds to it."""
    took = []
    for _ in range(2 * TIMES):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def median(work: Callable[[], object]) -> float:
    """Return the median time of some work in seconds."""
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def notebook(twin: TwinHandle, folder: Path) -> Iterator[Figure]:
    """Yield the time of the notebook from start to its files, and how much of that is kernel and libraries."""
    del twin
    out = folder / "run"
    words = [sys.executable, "-m", "labkit", "run", "health-report", "--lab", str(LAB.resolve()), "--json"]
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, "LABKIT_OUTPUT": str(out)})
        took.append(time.perf_counter() - began)
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    survey_seconds = next(one["seconds"] for one in reversed(events) if one["event"] == "surveyed")
    begins = median(empty_kernel) + median(libraries)
    total = statistics.median(took)
    yield Figure("health-report from start to HTML", total, unit="s", note=f"of these {survey_seconds:.1f} s reading")
    yield Figure("of that, kernel and library start", begins, unit="s", note=f"{100 * begins / total:.0f} %")
    size = (out / "health.html").stat().st_size
    yield Figure("health.html", size / 1024, unit="KiB", limit=1024)


def empty_kernel() -> None:
    """Execute a notebook with nothing in it, as papermill does."""
    code = (
        "import nbformat, papermill, sys; from labkit.runbooks.kernel import SocketKernelManager as K;"
        "nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('1')]), sys.argv[1]);"
        "papermill.execute_notebook(sys.argv[1], sys.argv[1], kernel_name='python3', progress_bar=False,"
        " kernel_manager_class=K)"
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, f"{folder}/empty.ipynb"], check=True, capture_output=True)


def libraries() -> None:
    """Import what the notebook and all readers import, less the start of Python itself."""
    modules = sorted({"labkit.run.health", *(registry.READERS[name].partition(":")[0] for name in needed_systems())})
    drawing = ["matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image"]
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules + drawing)}"], check=True, capture_output=True)


@contextlib.contextmanager
def relays(connect_file: Path, delay: float) -> Iterator[Path]:
    """Stand a relay before every port of a twin; yields the file that leads to them."""
    slow = connect_file.with_name("connect-slow.json")
    words = [sys.executable, "-m", "bench.relay", str(connect_file), str(slow), str(delay)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        while not slow.exists():
            time.sleep(0.02)
        yield slow
        assert process.stdin is not None
        process.stdin.close()
