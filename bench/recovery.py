"""Recovery of a whole lab on the twin: how near the apply comes to its critical path.

Everything is gone but Git, the keys and the NAS. The critical path is what the twin's own times allow, in the order
that the runbook keeps: VMs are cloned one after the other on each host; every machine fetches k3s; the first server
starts, the others follow one by one, then the agents; meanwhile Flux installs Longhorn; on all nodes, volumes are
restored side by side within Longhorn's limit, and looked at; when all controllers are there (one of them has a volume),
Flux brings everything else, and each volume is backed up. How long Flux and its charts take by themselves is measured
on another twin of the same lab and repository, on which nobody waits for a restore; a certificate that is kept in Git
is not asked for there either. Logins, questions, builds of the
repository on our side, plans and the looks that end a wait count nothing: what they take is what the ratio shows.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyrage

from bench.figure import Figure
from bench.labs import write_lab
from labkit.checks.restore import recovery_preflight
from labkit.lab import Lab
from labkit.lab.loader import load_lab
from labkit.rules.needed import recovery_goal
from labkit.rules.recovery import plan_recovery, recovery_reads
from labkit.run import start
from labkit.run.recovery import verify_store
from labkit.runbooks.loss import compare
from labkit.twin.charts.certificates import ACME
from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.longhorn.hub import Pace as LonghornPace
from labkit.twin.repository import lab_values, materialise

SEED_LAB = Path(__file__).parents[1] / "parameters" / "lab.yaml"
SCALE = 0.6
"""Real seconds per twin second: slow enough that two cores are a small part of the figure."""
MANY = 60
TEMPLATE_GIB = 3.5
_LIMIT = 5
_STAMP = re.compile(r"^(\S+ \S+?),(\d+) ")


@dataclass(frozen=True)
class Case:
    """One lab to be lost: its file, and the repository and age key when it is not the example."""

    name: str
    lab_file: Path
    repo: str = ""
    age_key: str = ""


def figures() -> Iterator[Figure]:
    """Yield the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seed").mkdir()
        seed = Path(shutil.copy(SEED_LAB, folder / "seed" / "lab.yaml"))
        yield from measure(Case("the seed's lab", seed), folder / "one")
        yield from measure(many_volumes(folder / "many"), folder / "two")


def measure(case: Case, folder: Path) -> Iterator[Figure]:
    """Yield the figures of one lab."""
    alone = times_of_flux(case, folder / "reference")
    with lost(case, folder / "twin") as twin:
        took, lab = recover(case.lab_file)
        rows = compare(twin.past(), twin.data())
        pace = twin.status()["pace"]
    path = critical_path(lab, pace, len(rows), alone) * SCALE
    note = f"{took:.1f} s / {path:.1f} s"
    yield Figure(f"makespan of the recovery of {case.name} / critical path", took / path, limit=1.2, note=note)
    good = sum(row.ok for row in rows)
    yield Figure(f"volumes of {case.name} that came back as they were backed up", good, limit=len(rows), least=True)


@contextlib.contextmanager
def lost(case: Case, state: Path) -> Iterator[TwinHandle]:
    """Keep a twin on which everything is lost for the time of the block; runs join it."""
    twin = start_twin(case.lab_file, state=state, scenario="disaster", scale=SCALE, parent=os.getpid(),
                      repo=case.repo, age_key=case.age_key)  # fmt: skip
    os.environ["LABKIT_TWIN"] = str(twin.state)
    try:
        yield twin
    finally:
        del os.environ["LABKIT_TWIN"]
        twin.stop(remove=True)


def recover(lab_file: Path) -> tuple[float, Lab]:
    """Recover without a word, as the runbook does; return the seconds of the apply, and the lab."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = start("disaster-recovery", lab=lab_file)
        goal = recovery_goal(scope="lab", confirm=run.lab.name)
        facts = verify_store(run, run.read(*recovery_reads(goal)), goal)
        run.verify(*recovery_preflight(run.lab, goal, protected=True))
        plan = run.plan(plan_recovery, facts, goal=goal)
        began = time.perf_counter()
        run.apply(plan)
        took = time.perf_counter() - began
        run.finish()
    return took, run.lab


@dataclass(frozen=True)
class Alone:
    """How many twin seconds Flux takes by itself: until Longhorn runs, all controllers are there, and everything is."""

    longhorn: float
    controllers: float
    everything: float


def times_of_flux(case: Case, state: Path) -> Alone:
    """Let Flux bring everything on a twin of its own, and return what it takes."""
    twin = start_twin(case.lab_file, state=state, scenario="flux", scale=SCALE, parent=os.getpid(),
                      repo=case.repo, age_key=case.age_key)  # fmt: skip
    log = (twin.state / "twin.log").read_text(encoding="utf-8")
    twin.stop(remove=True)
    began, *ends = (_moment(log, word) for word in
                    ("the cluster is up", "Longhorn ", "infrastructure-controllers is ready", "ready: "))  # fmt: skip
    return Alone(*((end - began) / SCALE for end in ends))


def _moment(log: str, word: str) -> float:
    line = next(line for line in log.splitlines() if f": {word}" in line)
    match = _STAMP.match(line)
    assert match is not None
    return datetime.fromisoformat(match[1]).timestamp() + int(match[2]) / 1000


def critical_path(lab: Lab, pace: dict[str, Any], volumes: int, alone: Alone) -> float:
    """Return the least time in twin seconds that the twin's own times allow."""
    made = _machines(lab, pace)
    fetched = {name: when + pace["k3s_download"] for name, when in made.items()}
    first, *others = lab.servers
    founded = last = fetched[first.name] + pace["k3s_start"]
    for server in others:
        last = max(last, fetched[server.name]) + pace["k3s_join"] + pace["k3s_promote"]
    agents = [fetched[m.name] for m in lab.machines if m.role == "agent"]
    joined = max([last, *(max(last, when) + pace["k3s_agent"] + pace["k3s_node"] for when in agents)])
    rounds = -(-volumes // (_LIMIT * len(lab.machines)))
    restored = max(founded + alone.longhorn, joined) + rounds * _restore()
    rest = alone.everything - alone.controllers - ACME
    return float(max(founded + alone.controllers, restored) + rest + _backup())


def _machines(lab: Lab, pace: dict[str, Any]) -> dict[str, float]:
    """When each VM can be logged in to: on a host, one clone after the other."""
    clone = pace["clone"] + pace["clone_per_gib"] * TEMPLATE_GIB
    rest = pace["resize"] + pace["start"] + pace["boot"] + pace["cloud_init"]
    cloned: dict[str, float] = {}
    found = {}
    for machine in lab.machines:
        cloned[machine.host] = cloned.get(machine.host, 0.0) + clone
        found[machine.name] = cloned[machine.host] + rest
    return found


def _restore() -> float:
    """A volume restored from two blocks, then attached for a look at its files and detached again."""
    pace = LonghornPace()
    return pace.create + pace.attach + pace.restore + 4 * pace.restore_per_mib + pace.detach + pace.attach + pace.detach


def _backup() -> float:
    pace = LonghornPace()
    return pace.snapshot + pace.backup + 4 * pace.backup_per_mib


def many_volumes(folder: Path) -> Case:
    """Write a lab of nine VMs whose repository has as many volumes as `MANY`, the example's among them."""
    lab_file = write_lab(folder / "parameters" / "lab.yaml", hosts=3, servers=3, agents=6)
    identity = pyrage.x25519.Identity.generate()
    tree = materialise(folder / "repository", age_recipient=str(identity.to_public()),
                       values=lab_values(load_lab(lab_file)), seed=b"bench", commit=False)  # fmt: skip
    have = sum("storageClassName: longhorn" in file.read_text() for file in tree.rglob("pvc.yaml"))
    have += sum(file.read_text().count("storageClassName: longhorn") - 1 for file in tree.rglob("pvc.yaml")
                if "storageClassName: longhorn" in file.read_text())  # fmt: skip
    apps = tree / "kubernetes" / "apps"
    for number in range(MANY - have):
        _write_app(apps / f"notes{number:02}", f"notes{number:02}", number)
    _commit(tree)
    return Case(f"a lab with {MANY} volumes", lab_file, str(tree), str(identity))


def _write_app(folder: Path, name: str, number: int) -> None:
    folder.mkdir()
    (folder / "app.yaml").write_text(_APP.format(name=name, volume=f"pvc-00000000-0000-4000-8000-{number:012}"))


def _commit(tree: Path) -> None:
    from labkit.twin.git.client import git  # noqa: PLC0415

    git(["-C", tree, "init", "--quiet", "--initial-branch=master"])
    git(["-C", tree, "add", "--all"])
    git(["-C", tree, "-c", "user.name=bench", "-c", "user.email=bench@bench.example", "commit", "--quiet", "-m", "Lab"])


_APP = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}-data, namespace: default}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: longhorn
  volumeName: {volume}
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: default}}
spec:
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: main
          image: docker.io/example/notes:1.0.0
          volumeMounts: [{{name: data, mountPath: /data}}]
      volumes: [{{name: data, persistentVolumeClaim: {{claimName: {name}-data}}}}]
"""
