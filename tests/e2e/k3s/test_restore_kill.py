"""Killed at a line of the journal, a restore of etcd goes on where it was, and never resets twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit.errors import CheckFailed
from labkit.twin.client import TwinHandle
from tests.e2e.k3s.conftest import bootstrap, enter, restore
from tests.e2e.k3s.test_restore_etcd import check_members, make, resets, there

pytestmark = pytest.mark.thorough
MakeTwin = Callable[..., TwinHandle]
ROOT = str(Path(__file__).parents[3])

# For each line of its input, runs the runbook in a process that kills itself: when its journal gets a line with a text,
# or after a part of the work (`after reset`). What is imported once serves all of them.
DIE = """
import json, os, signal, sys
from pathlib import Path
from labkit.run.journal import Journal
from labkit.systems.k3s import restore
from tests.e2e.k3s import conftest
def die(*_args, **_data):
    os.kill(os.getpid(), signal.SIGKILL)
def run(file, text, wants):
    if text.startswith("after "):
        name = text.removeprefix("after ")
        part = getattr(restore, name)
        setattr(restore, name, lambda *args, **more: die(part(*args, **more)))
    else:
        whole = Journal.write
        def write(self, event, **data):
            whole(self, event, **data)
            if text in event + json.dumps(data, default=str):
                die()
        Journal.write = write
    conftest.restore(Path(file), **wants)
for line in sys.stdin:
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr
        run(*json.loads(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Kill = Callable[..., None]


@pytest.fixture
def kill(lab_file: Path) -> Iterator[Kill]:
    """Run the runbook until a line of its journal, or after a part of its work."""
    running: list[subprocess.Popen[str]] = []

    def run(text: str, **wants: str) -> None:
        if not running:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-c", DIE], cwd=ROOT, env={**os.environ, "PYTHONPATH": ROOT}, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        process = running[0]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([str(lab_file), text, wants]) + "\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) == -signal.SIGKILL, text

    yield run
    for process in running:
        process.communicate()


def test_a_restore(make_twin: MakeTwin, lab_file: Path, kill: Kill) -> None:
    """Each run goes on where the one before was killed."""
    make_twin(scenario="k3s")
    lab, access, cluster = enter(lab_file)
    make(cluster, "kept")
    # Noted; reset and that not noted; started; moved aside; joined and that not noted; agents; noted in the cluster.
    points = ("noted on", "after reset", "after start", "after _set_aside", "after join", "agent/",
              "after _leave_evidence")  # fmt: skip
    for text in points:
        kill(text, snapshot="new")
        if text == "after reset":
            with pytest.raises(CheckFailed, match=r"expected no restore half done.*run restore-etcd again"):
                bootstrap(lab_file)
    restore(lab_file, snapshot="new")
    assert there(cluster, "kept")
    assert resets(lab, access, check_members(lab_file, 3)) == 1


def test_a_reset(make_twin: MakeTwin, lab_file: Path, kill: Kill) -> None:
    make_twin(scenario="quorum-lost")
    for text in ("resets etcd to one member", "after write_record", "installs v1"):
        kill(text)
    restore(lab_file)
    lab, access, _ = enter(lab_file)
    assert resets(lab, access, check_members(lab_file, 3)) == 1
