"""Two whole twins: in a lab that is well nothing is found, in one that ails exactly what was planted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labkit.checks.health import HISTORY, Scene, all_checks, needed_systems
from labkit.checks.health.runner import examine
from labkit.errors import InputError
from labkit.facts.history import HistoryFacts
from labkit.health import HealthReport, Outcome
from labkit.lab.loader import load_lab
from labkit.run.connect import _of_twin
from labkit.run.survey import survey
from labkit.twin.ailments import AILMENTS
from labkit.twin.client import TwinHandle, start_twin

LAB_FILE = Path(__file__).parents[2] / "parameters" / "lab.yaml"
TRUE_OF_THE_SEED = {
    ("kubernetes.quorum", "host hades"),  # it holds two of four etcd members
    ("kubernetes.single-replica", "Deployment authelia/authelia"),
    ("kubernetes.single-replica", "Deployment kube-system/coredns"),
}
SETTLED = 90.0


@contextmanager
def twin_of(scenario: str, *faults: str) -> Iterator[TwinHandle]:
    twin = start_twin(LAB_FILE, scenario=scenario, faults=faults, parent=os.getpid())
    try:
        yield twin
    finally:
        twin.stop(remove=True)


def report_on(twin: TwinHandle) -> HealthReport:
    lab, access = load_lab(LAB_FILE), _of_twin(twin).access
    seen = survey(lab, access, needed_systems())
    assert not seen.unread
    return examine(Scene(lab, {**seen.facts, HISTORY: HistoryFacts()}, datetime.now(UTC)), checks=all_checks())


def found(report: HealthReport) -> set[tuple[str, str]]:
    return {(one.id, one.subject) for one in report.findings}


@pytest.fixture(scope="module")
def running() -> Iterator[TwinHandle]:
    with twin_of("running") as twin:
        yield twin


def test_a_lab_that_is_well_has_nothing_to_mend(running: TwinHandle) -> None:
    report = report_on(running)
    assert found(report) == TRUE_OF_THE_SEED
    assert all(one.outcome in (Outcome.PASSED, Outcome.FOUND) for one in report.checks)
    assert len(report.checks) >= 60
    assert not any(running.status()["writes"].values())


def test_a_fault_by_name_on_a_lab_that_runs(running: TwinHandle) -> None:
    running.fault("ailing:nas-pool-fills")
    assert found(report_on(running)) - TRUE_OF_THE_SEED == {("nas.pool-room", "pool tank")}
    with pytest.raises(InputError, match="did you mean `nas-pool-fills`"):
        running.fault("ailing:nas-pool-fill")


def test_everything_that_was_planted_is_found_and_nothing_else() -> None:
    with twin_of("ailing") as twin:
        planted = {name: {tuple(one) for one in told} for name, told in twin.ask("ailments").items()}
        assert planted.keys() == AILMENTS.keys()
        assert len(planted) >= 40
        wanted = set().union(*planted.values()) | TRUE_OF_THE_SEED
        end = time.monotonic() + SETTLED
        while found(report := report_on(twin)) != wanted and time.monotonic() < end:
            pass  # Flux is at work on what was committed, kubelets on what crashes
        assert found(report) == wanted
        areas = {check.partition(".")[0] for check, _ in wanted}
        assert len(areas) >= 9, "over all areas"
