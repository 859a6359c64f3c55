"""Provisioning against the twin: how near the apply comes to its critical path, and what a second run asks.

The critical path is what the twin's own times allow: on each host one clone after the other, and after the last
one the rest of a VM's way (start, boot, cloud-init). The longest host decides.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.labs import write_lab
from labkit.checks.vms import vms_are_ready
from labkit.lab import Lab
from labkit.rules.vms import plan_vms
from labkit.run import start
from labkit.twin.client import TwinHandle, start_twin

SCALE = 0.1  # real seconds per twin second: slow enough that two cores are no part of the figure
TEMPLATE_GIB = 3.5


def figures() -> Iterator[Figure]:
    """Yield the figures."""
    for hosts, servers, agents in ((3, 3, 27), (3, 4, 5)):
        with lab_and_twin(hosts, servers, agents, SCALE) as (lab_file, twin):
            took, lab = provision(lab_file)
            path = critical_path(lab, twin) * SCALE
            count = servers + agents
            note = f"{took:.1f} s / {path:.1f} s"
            yield Figure(
                f"makespan of {count} VMs over {hosts} hosts / critical path", took / path, limit=1.15, note=note
            )
            if count == 9:
                yield second_run(lab_file, twin, count)
    with lab_and_twin(3, 3, 87, 0.01) as (lab_file, twin):
        provision(lab_file)
        yield second_run(lab_file, twin, 90)


@contextlib.contextmanager
def lab_and_twin(hosts: int, servers: int, agents: int, scale: float) -> Iterator[tuple[Path, TwinHandle]]:
    """Keep a lab file and its twin for the time of the block; runs join that twin."""
    with tempfile.TemporaryDirectory() as folder:
        lab_file = write_lab(Path(folder, "parameters", "lab.yaml"), hosts=hosts, servers=servers, agents=agents)
        twin = start_twin(lab_file, state=Path(folder, "twin"), scale=scale, parent=os.getpid())
        os.environ["LABKIT_TWIN"] = str(twin.state)
        try:
            yield lab_file, twin
        finally:
            del os.environ["LABKIT_TWIN"]
            twin.stop()


def provision(lab_file: Path) -> tuple[float, Lab]:
    """Provision without a word; return the seconds of the apply, and the lab."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = start("provision-vms", lab=lab_file)
        plan = run.plan(plan_vms, run.read("proxmox"))
        began = time.perf_counter()
        run.apply(plan)
        took = time.perf_counter() - began
        run.verify(vms_are_ready(run.lab))
        run.finish()
    return took, run.lab


def critical_path(lab: Lab, twin: TwinHandle) -> float:
    """Return the least time in twin seconds that the twin's clones and boots allow."""
    pace = twin.status()["pace"]
    clone = pace["clone"] + pace["clone_per_gib"] * TEMPLATE_GIB
    rest = pace["resize"] + pace["start"] + pace["boot"] + pace["cloud_init"]
    busiest = max(Counter(machine.host for machine in lab.machines).values())
    return float(busiest * clone + rest)


def second_run(lab_file: Path, twin: TwinHandle, count: int) -> Figure:
    """Run once more with nothing to do, and count what was asked of Proxmox."""
    twin.reset()
    provision(lab_file)
    asked = twin.status()["requests"]["proxmox"]
    return Figure(f"requests of a run with nothing to do, {count} VMs", asked, limit=12 + count)
