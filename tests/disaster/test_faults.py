"""Faults on the way back: a recovery gets over them, or stops with the cause and the next run ends; nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.errors import LabError, StepFailed
from labkit.run.journal import Journal
from tests.disaster.conftest import MakeTwin, problems, recover

pytestmark = pytest.mark.slow


def during(monkeypatch: pytest.MonkeyPatch, word: str, act: Callable[[], None]) -> None:
    """Act once, beside the run, when its journal first tells of something."""
    write, done = Journal.write, threading.Event()

    def told(self: Journal, event: str, **data: object) -> None:
        write(self, event, **data)
        if word in str(data.get("change")) and not done.is_set():
            done.set()
            threading.Thread(target=act).start()

    monkeypatch.setattr(Journal, "write", told)


def test_what_is_wrong_before_the_start_is_refused_before_anything_is_built(
    make_twin: MakeTwin, lab_file: Path
) -> None:
    twin = make_twin("nas-unreachable")
    for fault, words in (
        ("nas-unreachable", "backup store"),
        ("nfs-empty:100000", "empty"),
        ("wrong-age-key", "git.age_key to open it"),
        ("git-unreachable", "Git git.small.example"),
    ):
        twin.fault(fault)
        with pytest.raises(LabError, match=words):
            recover(lab_file)
        twin.clear(fault)
    assert twin.status()["writes"]["proxmox"] == 0
    assert twin.past()["restores"] == []


def test_a_token_that_is_refused_stops_with_the_cause_and_the_next_run_goes_on(
    make_twin: MakeTwin, lab_file: Path
) -> None:
    twin = make_twin("k3s-wrong-token:three")
    with pytest.raises(StepFailed, match="token"):
        recover(lab_file)
    twin.clear("k3s-wrong-token")
    recover(lab_file)
    assert problems(twin) == []


def test_a_node_short_for_replicas_and_a_slow_longhorn_are_got_over(make_twin: MakeTwin, lab_file: Path) -> None:
    twin = make_twin("replica-short:two", "longhorn-slow:4")
    recover(lab_file)
    assert problems(twin) == []


def test_an_export_that_is_empty_for_a_minute_while_volumes_come_back(
    make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = make_twin()
    during(monkeypatch, "restored-volume/", lambda: twin.fault("nfs-empty:60"))
    for _ in range(3):
        try:
            recover(lab_file)
            break
        except LabError:
            continue
    past, seen = twin.past(), twin.data()
    assert {row["claim"] for row in seen.values() if row["from_backup"]} == {
        row["claim"] for row in past["end"].values()
    }
    assert not [text for text in problems(twin) if "times" not in text]
