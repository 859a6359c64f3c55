"""Killed at a line of the journal and run again, a run ends in the same state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeTwin, provision

# Runs the runbook in a process that kills itself right after the Nth line of its journal.
DIE = """
import os, signal, sys
from pathlib import Path
from labkit.run.journal import Journal
from tests.e2e.conftest import provision
whole, lines = Journal.write, [0]
def write(self, event, **data):
    whole(self, event, **data)
    lines[0] += 1
    if lines[0] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
Journal.write = write
provision(Path(sys.argv[1]))
"""


LINES = (2, 4, 6, 7, 9, 12, 15, 18, 21, 25)


@pytest.mark.parametrize(
    "line", [*LINES[::3], *(pytest.param(n, marks=pytest.mark.thorough) for n in LINES if n not in LINES[::3])]
)
def test_killed_and_run_again(line: int, make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = make_twin()
    monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
    root = str(Path(__file__).parents[2])
    died = subprocess.run(
        [sys.executable, "-c", DIE, str(lab_file), str(line)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    provision(lab_file)
    plan, run = provision(lab_file)
    assert len(plan) == 0
    facts = run.latest("proxmox")
    assert sorted((vm.name, vm.node, vm.status) for vm in facts.vms if not vm.template) == [
        ("one", "north", "running"),
        ("three", "south", "running"),
        ("two", "north", "running"),
    ]
