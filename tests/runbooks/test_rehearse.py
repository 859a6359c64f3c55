"""Faults that come late, and the hand that kills a recovery."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.errors import InputError
from labkit.lab import Lab
from labkit.lab.loader import load_lab
from labkit.run.connect import split_faults
from labkit.runbooks.rehearse import Killer

LAB = Path(__file__).parents[1] / "data" / "disaster" / "lab.yaml"


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(LAB)


@pytest.mark.parametrize(
    ("given", "early", "late"),
    [
        ((), [], []),
        (("clone-fails",), ["clone-fails"], []),
        (("backup-corrupt", "slow:5"), ["slow:5"], ["backup-corrupt"]),
        (("loss/wrong-age-key", "nfs-empty:60"), [], ["wrong-age-key", "nfs-empty:60"]),
        (("replica-short:two", "k3s-wrong-token:two"), ["k3s-wrong-token:two"], ["replica-short:two"]),
    ],
)
def test_faults_of_backups_come_with_the_loss(
    lab: Lab, given: tuple[str, ...], early: list[str], late: list[str]
) -> None:
    assert split_faults(lab, given) == (early, late)


@pytest.mark.parametrize("wrong", ["loss/backup-corupt", "loss/replica-short:four", "no-such-fault", "loss/"])
def test_a_slip_in_a_late_fault_is_told_before_the_start(lab: Lab, wrong: str) -> None:
    with pytest.raises(InputError):
        split_faults(lab, [wrong])


def test_the_holder_of_the_lock_is_killed_after_so_many_events(tmp_path: Path) -> None:
    told: list[str] = []
    lock = tmp_path / "labkit" / "run.lock"
    lock.parent.mkdir()
    killer = Killer(tmp_path, 2, lambda event: told.append(event["event"]))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as victim:
        killer({"event": "one"})
        killer({"event": "two"})
        assert not killer.struck  # nobody holds the lock yet
        lock.write_text(json.dumps({"pid": victim.pid}))
        killer({"event": "three"})
        assert victim.wait(10) == -signal.SIGKILL
    assert killer.struck
    assert told == ["one", "two", "three"]
