"""A lab of three servers and two agents, its twins, and the k3s runbooks as functions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from labkit.checks.etcd import cluster_is_restored, objects_are_restored, restore_can_start
from labkit.checks.guests import guests_are_fit
from labkit.checks.k3s import certificates_last, cluster_is_ready, door_is_shut, nodes_are_in, quorum_by_host
from labkit.checks.maintain import host_is_maintained
from labkit.lab import Lab, load_lab
from labkit.plan import Plan
from labkit.rules.etcd_restore import plan_etcd_restore
from labkit.rules.k3s import plan_k3s
from labkit.rules.maintain import plan_maintain
from labkit.rules.upgrade import plan_upgrade
from labkit.run import Run, start
from labkit.systems.access import Access
from labkit.systems.k3s import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.twin.client import TwinHandle, start_twin

SOURCE = Path(__file__).parents[2] / "data" / "e2e" / "k3s" / "lab.yaml"
SCALE = 0.004


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "parameters"
    folder.mkdir(parents=True)
    return Path(shutil.copy(SOURCE, folder / "lab.yaml"))


@pytest.fixture
def make_twin(tmp_path: Path, lab_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TwinHandle]]:
    started: list[TwinHandle] = []

    def make(*faults: str, scenario: str = "provisioned") -> TwinHandle:
        state = tmp_path / f"twin-{len(started)}"
        twin = start_twin(lab_file, state=state, scenario=scenario, scale=SCALE, faults=faults, parent=os.getpid())
        started.append(twin)
        monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
        return twin

    yield make
    for twin in started:
        twin.stop()


def carry_out(run: Run, plan: Plan, *checks: Any) -> Plan:
    """Do what every notebook does after its plan; returns the plan."""
    try:
        run.apply(plan)
        run.verify(*checks)
        run.finish()
    finally:
        run.close()
    return plan


def bootstrap(lab_file: Path, **wants: Any) -> Plan:
    """Do what the notebook 20-bootstrap-k3s does."""
    run = start("bootstrap-k3s", lab=lab_file)
    only = wants.get("only", ())
    checks = (cluster_is_ready(run.lab, only=only), nodes_are_in(run.lab), quorum_by_host(run.lab),
              certificates_last(run.lab), door_is_shut(run.lab))  # fmt: skip
    try:
        facts = run.read("guests", "k3s")
        run.verify(guests_are_fit(run.lab, only=only))
        return carry_out(run, run.plan(plan_k3s, facts, **wants), *checks)
    finally:
        run.close()


def upgrade(lab_file: Path, **wants: Any) -> Plan:
    """Do what the notebook 70-upgrade-k3s does."""
    run = start("upgrade-k3s", lab=lab_file)
    plan = run.plan(plan_upgrade, run.read("guests", "k3s"), **wants)
    version = wants.get("version") or run.lab.k3s.version
    return carry_out(run, plan, cluster_is_ready(run.lab, version=version), nodes_are_in(run.lab))


def maintain(lab_file: Path, *, phase: str = "both", **wants: Any) -> Plan:
    """Do what the notebook 71-maintain-host does."""
    run = start("maintain-host", lab=lab_file)
    plan = run.plan(plan_maintain, run.read("proxmox", "k3s"), phase=phase, **wants)
    return carry_out(run, plan, *host_is_maintained(run.lab, phase=phase))


def restore(lab_file: Path, *, on: str = "twin", approve: str = "", **wants: Any) -> Plan:
    """Do what the notebook 61-restore-etcd does."""
    run = start("restore-etcd", lab=lab_file, on=on, approve=approve, scenario="quorum-lost")
    asked = {name: wants.get(name, "") for name in ("snapshot", "restore_as_of")}
    more = {name: wants[name] for name in ("server", "replace") if name in wants}
    try:
        facts = run.read("guests", "k3s", "etcd", **asked)
        run.verify(restore_can_start(run.lab, **asked, **more))
        plan = run.plan(plan_etcd_restore, facts, **wants)
        run.apply(plan, approve=approve)
        run.verify(cluster_is_restored(run.lab), objects_are_restored())
        run.finish()
        return plan
    finally:
        run.close()


def look(lab_file: Path, *systems: str) -> Any:
    """Read systems as a run does."""
    run = start("look", lab=lab_file)
    try:
        return run.read(*systems)
    finally:
        run.close()


def enter(lab_file: Path) -> tuple[Lab, Access, Cluster]:
    """Return the lab, the way to it, and its cluster."""
    run = start("look", lab=lab_file)
    try:
        return run.lab, run.access, open_cluster(run.lab, run.access)
    finally:
        run.close()


def edit_lab(lab_file: Path, change: Callable[[Any], None]) -> Lab:
    """Change the lab file; returns the lab that it now describes."""
    yaml = YAML()
    data = yaml.load(lab_file.read_text())
    change(data)
    with lab_file.open("w") as file:
        yaml.dump(data, file)
    return load_lab(lab_file)


def targets(plan: Plan) -> list[str]:
    return [change.id for change in plan.changes]
