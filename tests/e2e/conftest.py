"""A small lab, its twins, and the provisioning runbook as a function, for runs from end to end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from labkit.checks.vms import vms_are_ready
from labkit.plan import Plan
from labkit.rules.vms import plan_vms
from labkit.run import Run, start
from labkit.twin.client import TwinHandle, start_twin

SOURCE = Path(__file__).parent.parent / "data" / "e2e" / "lab.yaml"
SCALE = 0.004
MakeTwin = Callable[..., TwinHandle]


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "parameters"
    folder.mkdir(parents=True)
    return Path(shutil.copy(SOURCE, folder / "lab.yaml"))


@pytest.fixture
def make_twin(tmp_path: Path, lab_file: Path) -> Iterator[MakeTwin]:
    started: list[TwinHandle] = []

    def make(*faults: str, scenario: str = "empty", scale: float = SCALE) -> TwinHandle:
        state = tmp_path / f"twin-{len(started)}"
        started.append(
            start_twin(lab_file, state=state, scenario=scenario, scale=scale, faults=faults, parent=os.getpid())
        )
        return started[-1]

    yield make
    for twin in started:
        twin.stop()


def lab_on(twin: TwinHandle, lab_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a lab file whose real systems are a twin's: ports are forwarded, secrets stand where the file says."""
    yaml = YAML()
    data = yaml.load(lab_file.read_text())
    data["connect_to"] = json.loads(twin.connect_file.read_text())
    data["proxmox"]["tls"] = {"ca": twin.trust["north.lan:8006"]["ca"]}
    target = lab_file.with_name("real.yaml")
    with target.open("w") as file:
        yaml.dump(data, file)
    for reference, value in twin.secrets.items():
        scheme, _, name = reference.partition(":")
        if scheme == "env":
            monkeypatch.setenv(name, value)
        else:
            (target.parent / name).write_text(value)
            (target.parent / name).chmod(0o600)
    monkeypatch.setenv("XDG_STATE_HOME", str(lab_file.parent.parent / "state"))
    monkeypatch.delenv("LABKIT_TWIN", raising=False)
    return target


def provision(
    lab_file: Path, *, on: str = "twin", approve: str = "", destroy: tuple[str, ...] = ()
) -> tuple[Plan, Run]:
    """Do what the notebook 10-provision-vms does; returns the plan and the finished run."""
    run = start("provision-vms", lab=lab_file, on=on, approve=approve)
    try:
        plan = run.plan(plan_vms, run.read("proxmox"), destroy=destroy)
        run.apply(plan, approve=approve)
        run.verify(vms_are_ready(run.lab))
        run.finish()
    finally:
        run.close()
    return plan, run


@pytest.fixture
def on_twin(monkeypatch: pytest.MonkeyPatch) -> Callable[[TwinHandle], None]:
    def join(twin: TwinHandle) -> None:
        monkeypatch.setenv("LABKIT_TWIN", str(twin.state))

    return join
