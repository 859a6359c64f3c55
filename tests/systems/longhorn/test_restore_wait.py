"""What ends the wait for a restore, and how it is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.errors import StepFailed
from labkit.facts.longhorn import RestoreProgress, Volume
from labkit.secrets import Secrets
from labkit.systems.access import Access, Clock, Step
from labkit.systems.longhorn.restore import RestoreWatch

URL = "nfs://nas:/x?backup=backup-1&volume=pvc-1"


class Time(Clock):
    """A clock that only a test moves on."""

    now = 0.0

    def monotonic(self) -> float:
        return Time.now


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def watch(told: list[str], tmp_path: Path) -> RestoreWatch:
    Time.now = 0.0
    access = Access(on="twin", secrets=Secrets({}), state=tmp_path, clock=Time())
    return RestoreWatch(access, Step(say=lambda text, _data: told.append(text)), "pvc-1")


def volume(**more: object) -> Volume:
    given = {"name": "pvc-1", "size": 1 << 30, "replicas": 3, "from_backup": URL, "restore_required": True,
             "restore_initiated": True, "state": "attached"}  # fmt: skip
    return Volume.model_validate(given | more)


@pytest.mark.parametrize(
    ("more", "done"),
    [
        ({"restore_required": False, "state": "detached"}, True),
        ({"restore_required": False, "state": "detaching"}, False),
        ({"restore_required": False, "restore_initiated": False, "state": "detached"}, False),
        ({}, False),
    ],
    ids=["restored", "still detaching", "before the first pass both flags are off", "under way"],
)
def test_when_it_is_over(watch: RestoreWatch, more: dict[str, object], done: bool) -> None:
    assert (watch.look(volume(**more)) is not None) is done


def test_progress_is_told_once(watch: RestoreWatch, told: list[str]) -> None:
    for percent in (10, 10, 40):
        watch.look(volume(restore=RestoreProgress(percent=percent)))
    assert told == ["pvc-1: 10 %", "pvc-1: 40 %"]


def test_a_failure_has_the_words_of_the_replicas(watch: RestoreWatch) -> None:
    bad = volume(restore_failed="all failed", restore=RestoreProgress(error="block 1 has another checksum"))
    with pytest.raises(StepFailed, match=r"from nfs://nas.*, got: block 1 has another checksum") as failure:
        watch.look(bad)
    assert "the failed volume pvc-1 stays" in failure.value.next_step


def test_no_room_ends_the_wait_only_when_it_lasts(watch: RestoreWatch) -> None:
    cramped = volume(scheduled=False, unscheduled_because="insufficient storage")
    assert watch.look(cramped) is None
    Time.now = 200.0
    assert watch.look(cramped) is None
    assert watch.look(volume()) is None, "a node came back"
    Time.now = 600.0
    assert watch.look(cramped) is None
    Time.now = 901.0
    with pytest.raises(StepFailed, match="room for 3 replicas of 1 GiB, got: insufficient storage"):
        watch.look(cramped)


def test_a_volume_that_somebody_deletes_ends_the_wait(watch: RestoreWatch) -> None:
    for _ in range(3):
        assert watch.look(None) is None
    with pytest.raises(StepFailed, match="expected it to be restored, got none: somebody has deleted it"):
        watch.look(None)
