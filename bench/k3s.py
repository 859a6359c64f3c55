"""Bootstrapping k3s against the twin: how near the apply comes to its critical path.

The critical path is what the twin's own times allow, in the order that the runbook keeps. Every machine fetches its
binary, all side by side. The first server starts until its API answers. The other servers follow one by one: each
starts, and must be promoted to a voting member before the next may join. Then the agents start side by side, and the
last thing awaited is a node that becomes Ready. Packages, settings, logins, questions and the final look at the
cluster's health count nothing: what they take is what the ratio shows.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.labs import write_lab
from labkit.checks.guests import guests_are_fit
from labkit.checks.k3s import cluster_is_ready
from labkit.lab import Lab
from labkit.rules.k3s import plan_k3s
from labkit.run import start
from labkit.twin.client import TwinHandle, start_twin

HOSTS = 3
SIZES = ((4, 5, 0.2), (3, 27, 0.45))
"""Servers, agents, and real seconds per twin second: slow enough that two cores, which carry both sides of every
login and command of all machines, are next to no part of the figure."""


def figures() -> Iterator[Figure]:
    """Yield the figures."""
    for servers, agents, scale in SIZES:
        with provisioned(servers, agents, scale) as (lab_file, twin):
            took, lab = bootstrap(lab_file)
            path = critical_path(lab, twin) * scale
        yield Figure(
            f"makespan of k3s on {servers} servers and {agents} agents over {HOSTS} hosts / critical path",
            took / path,
            limit=1.2,
            note=f"{took:.1f} s / {path:.1f} s",
        )


@contextlib.contextmanager
def provisioned(servers: int, agents: int, scale: float) -> Iterator[tuple[Path, TwinHandle]]:
    """Keep a lab file and its twin, whose VMs run, for the time of the block; runs join that twin."""
    with tempfile.TemporaryDirectory() as folder:
        lab_file = write_lab(Path(folder, "parameters", "lab.yaml"), hosts=HOSTS, servers=servers, agents=agents)
        twin = start_twin(lab_file, state=Path(folder, "twin"), scenario="provisioned", scale=scale, parent=os.getpid())
        os.environ["LABKIT_TWIN"] = str(twin.state)
        try:
            yield lab_file, twin
        finally:
            del os.environ["LABKIT_TWIN"]
            twin.stop()


def bootstrap(lab_file: Path) -> tuple[float, Lab]:
    """Bootstrap k3s without a word, as the runbook does; return the seconds of the apply, and the lab."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = start("bootstrap-k3s", lab=lab_file)
        facts = run.read("guests", "k3s")
        run.verify(guests_are_fit(run.lab))
        plan = run.plan(plan_k3s, facts)
        began = time.perf_counter()
        run.apply(plan)
        took = time.perf_counter() - began
        run.verify(cluster_is_ready(run.lab))
        run.finish()
    return took, run.lab


def critical_path(lab: Lab, twin: TwinHandle) -> float:
    """Return the least time in twin seconds that the twin's download, starts, joins and promotions allow."""
    pace = twin.status()["pace"]
    chain = pace["k3s_start"] + (len(lab.servers) - 1) * (pace["k3s_join"] + pace["k3s_promote"])
    has_agents = len(lab.servers) < len(lab.machines)
    rest = pace["k3s_agent"] + pace["k3s_node"] if has_agents else 0.0
    return float(pace["k3s_download"] + chain + rest)
