"""A small lab that is lost, its twin, and the recovery of all of it as a function."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.restore import recovery_preflight
from labkit.plan import Plan
from labkit.rules.needed import recovery_goal
from labkit.rules.recovery import plan_recovery, recovery_reads
from labkit.run import start
from labkit.run.recovery import verify_store
from labkit.runbooks.loss import compare
from labkit.twin.client import TwinHandle, start_twin

SOURCE = Path(__file__).parents[1] / "data" / "disaster" / "lab.yaml"
SCALE = 0.01
MakeTwin = Callable[..., TwinHandle]


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "parameters"
    folder.mkdir(parents=True)
    return Path(shutil.copy(SOURCE, folder / "lab.yaml"))


@pytest.fixture
def make_twin(tmp_path: Path, lab_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeTwin]:
    started: list[TwinHandle] = []

    def make(*faults: str, **more: Any) -> TwinHandle:
        state = tmp_path / f"twin-{len(started)}"
        twin = start_twin(lab_file, state=state, scenario="disaster", scale=SCALE, faults=faults, parent=os.getpid(),
                          **more)  # fmt: skip
        started.append(twin)
        monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
        return twin

    yield make
    for twin in started:
        twin.stop(remove=True)


def recover(lab_file: Path, **asked: Any) -> Plan:
    """Do what the notebook 60-disaster-recovery does with scope lab; returns its plan."""
    run = start("disaster-recovery", lab=lab_file)
    goal = recovery_goal(scope="lab", confirm=run.lab.name, **asked)
    try:
        facts = verify_store(run, run.read(*recovery_reads(goal)), goal)
        run.verify(*recovery_preflight(run.lab, goal, protected=True))
        plan = run.plan(plan_recovery, facts, goal=goal)
        run.apply(plan)
        run.verify()
        run.finish()
    finally:
        run.close()
    return plan


def problems(twin: TwinHandle) -> list[str]:
    """Say what of the backed-up data is not there, or was restored more than once."""
    past = twin.past()
    found = [f"{row.claim}: {row.problem}" for row in compare(past, twin.data()) if not row.ok]
    volumes = [volume for volume, _ in past["restores"]]
    return found + [f"{name}: restored {volumes.count(name)} times" for name in sorted(set(volumes))
                    if volumes.count(name) > 1]  # fmt: skip
