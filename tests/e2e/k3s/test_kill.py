"""Killed at a line of the journal and run again, the k3s runbooks end in the same state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from labkit.twin.client import TwinHandle
from tests.e2e.k3s.conftest import bootstrap, look, maintain, targets, upgrade

MakeTwin = Callable[..., TwinHandle]
ROOT = str(Path(__file__).parents[3])

# Runs a runbook in a process that kills itself right after a line of its journal: the Nth that holds a text.
DIE = """
import json, os, signal, sys
from pathlib import Path
from labkit.run.journal import Journal
from tests.e2e.k3s import conftest
whole, seen = Journal.write, [0]
def write(self, event, **data):
    whole(self, event, **data)
    seen[0] += sys.argv[3] in event + json.dumps(data, default=str)
    if seen[0] == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
Journal.write = write
getattr(conftest, sys.argv[1])(Path(sys.argv[2]))
"""


def kill(runbook: str, lab_file: Path, text: str, number: int) -> None:
    died = subprocess.run(
        [sys.executable, "-c", DIE, runbook, str(lab_file), text, str(number)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()


def test_a_bootstrap(make_twin: MakeTwin, lab_file: Path) -> None:
    """Each run goes on where the one before was killed."""
    make_twin()
    for text, number in (("applying", 1), ("started", 2), ("agent/", 5)):
        kill("bootstrap", lab_file, text, number)
    bootstrap(lab_file)
    assert targets(bootstrap(lab_file)) == []
    k3s = look(lab_file, "k3s")
    assert len(k3s.nodes) == 5
    assert len(k3s.voters) == 3


def test_an_upgrade(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="k3s-behind")
    for text, number in (("drains", 1), ("restarted", 2)):
        kill("upgrade", lab_file, text, number)
    upgrade(lab_file)
    nodes = look(lab_file, "k3s").nodes
    assert {(node.version, node.schedulable, node.ready) for node in nodes} == {("v1.33.4+k3s1", True, True)}
    assert targets(upgrade(lab_file)) == []


def test_a_maintenance(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="k3s")
    for text, number in (("shuts it down", 1), ("waits for cloud-init", 1)):
        kill("maintain", lab_file, text, number)
    maintain(lab_file)
    assert all(node.schedulable and node.ready for node in look(lab_file, "k3s").nodes)
    assert targets(maintain(lab_file)) == []
