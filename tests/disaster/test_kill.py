"""Killed at a line of its journal and run again, a recovery ends in the same state, and restores nothing twice.

Four kills within one recovery by default; LABKIT_KILL_POINTS=25 tries as many points, each in a recovery of its own:
`LABKIT_KILL_POINTS=25 pytest -s tests/disaster/test_kill.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.errors import Refused, SystemDown
from labkit.plan import Plan
from tests.disaster.conftest import MakeTwin, problems, recover

ROOT = str(Path(__file__).parents[2])
POINTS = int(os.environ.get("LABKIT_KILL_POINTS") or 0)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 240 * POINTS)]
LINES = 250
"""About how many lines the journal of a recovery of this lab has."""

# Runs the recovery in a process that kills itself right after the Nth line of its journal.
DIE = """
import os, signal, sys
from pathlib import Path
from labkit.run.journal import Journal
from tests.disaster.conftest import recover
whole, lines = Journal.write, [0]
def write(self, event, **data):
    whole(self, event, **data)
    lines[0] += 1
    if lines[0] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
Journal.write = write
recover(Path(sys.argv[1]))
"""


def killed(lab_file: Path, line: int) -> bool:
    """Run the recovery until that line; return whether it was killed before its end."""
    done = subprocess.run(
        [sys.executable, "-c", DIE, str(lab_file), str(line)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


def until_answered(lab_file: Path) -> Plan:
    """Run the recovery as a person would: again, when it says that something has changed while it read.

    What was begun before the kill goes on by itself, on guests and in the cluster; and on a busy machine a question
    may time out.
    """
    for _ in range(4):
        try:
            return recover(lab_file)
        except (Refused, SystemDown):
            continue
    return recover(lab_file)


@pytest.mark.skipif(POINTS < 2, reason="LABKIT_KILL_POINTS says how many points to try")
def test_killed_anywhere_and_run_again(make_twin: MakeTwin, lab_file: Path) -> None:
    """Everything is lost anew before each point; the backups of before are there beside newer ones."""
    twin = make_twin()
    for number in range(POINTS):
        line = 2 + (LINES - 2) * number // (POINTS - 1)
        twin.destroy() if number else None
        was_killed = killed(lab_file, line)
        until_answered(lab_file)
        assert problems(twin) == [], f"killed at line {line}"
        assert not until_answered(lab_file), f"killed at line {line}"
        sys.stderr.write(f"line {line}: {'killed' if was_killed else 'ended before'}, all volumes as backed up\n")


@pytest.mark.thorough
def test_killed_again_and_again(make_twin: MakeTwin, lab_file: Path) -> None:
    """Each run goes on where the one before was killed."""
    twin = make_twin()
    for line in (40, 40, 60, 60):
        killed(lab_file, line)
    until_answered(lab_file)
    assert problems(twin) == []
    assert not until_answered(lab_file)
