"""All systems side by side: what fails, hangs or is a mistake of ours is told, and holds nothing up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from labkit.errors import SystemDown
from labkit.facts.survey import Unread
from labkit.lab import Lab, load_lab
from labkit.run import registry
from labkit.run.survey import survey
from labkit.secrets import Secrets
from labkit.systems.access import Access

LAB = load_lab(Path(__file__).parents[1] / "data" / "e2e" / "lab.yaml")
_met = threading.Barrier(2)
_release = threading.Event()


def read_well(lab: Lab, access: Access) -> str:
    """Ask a few addresses."""
    for host, port in (("north.lan", 8006), ("10.0.0.1", 6443), ("10.0.0.1", 6443), (lab.nas.host, 443), ("x.lan", 81)):
        access.route(host, port)
    return f"facts of {lab.name}"


def read_together(_lab: Lab, _access: Access) -> str:
    """Go on only when the other one is there too."""
    _met.wait(timeout=10)
    return "met"


def read_down(_lab: Lab, _access: Access) -> str:
    raise SystemDown("the box: expected an answer, got none", next_step="look whether it is on")


def read_wrong(_lab: Lab, _access: Access) -> str:
    raise KeyError("metadata")


def read_never(_lab: Lab, _access: Access) -> str:
    _release.wait(timeout=30)
    return "too late"


@pytest.fixture(autouse=True)
def readers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"well": "read_well", "one": "read_together", "two": "read_together", "down": "read_down",
             "wrong": "read_wrong", "never": "read_never"}  # fmt: skip
    for name, function in names.items():
        monkeypatch.setitem(registry.READERS, name, f"{__name__}:{function}")


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(on="lab", secrets=Secrets({}), state=tmp_path)


def test_systems_are_read_side_by_side_and_requests_are_counted(access: Access) -> None:
    result = survey(LAB, access, ["well", "one", "two"])
    assert dict(result.facts) == {"well": f"facts of {LAB.name}", "one": "met", "two": "met"}
    assert result.unread == ()
    assert result.cost.requests == {"kubernetes": 2, "nas": 1, "proxmox": 1, "x.lan:81": 1}
    assert [one.system for one in result.cost.readings] == ["well", "one", "two"]
    assert survey(LAB, access, ["well"]).cost.requests["kubernetes"] == 2  # of this survey alone


def test_what_does_not_answer_is_told_with_its_next_step(access: Access) -> None:
    told: list[tuple[str, str]] = []
    result = survey(
        LAB, access, ["down", "wrong", "well"], tell=lambda name, exc: told.append((name, type(exc).__name__))
    )
    assert result.facts["well"]
    down, wrong = result.unread
    assert down == Unread(
        system="down", reason="the box: expected an answer, got none", next_step="look whether it is on"
    )
    assert wrong.reason.startswith("KeyError: 'metadata' (read_wrong, line ")
    assert "a fault of labkit" in wrong.next_step
    assert sorted(told) == [("down", "SystemDown"), ("wrong", "KeyError")]
    assert [bool(one.problem) for one in result.cost.readings] == [True, True, False]


def test_an_unknown_name_is_told_like_the_others(access: Access) -> None:
    (unread,) = survey(LAB, access, ["no-such-system"]).unread
    assert "expected one of" in unread.reason


def test_one_that_hangs_is_given_up(access: Access) -> None:
    began = time.monotonic()
    result = survey(LAB, access, ["never", "well"], patience=0.2)
    assert time.monotonic() - began < 10
    assert result.facts["well"]
    assert [(one.system, one.reason) for one in result.unread] == [("never", "no answer within 0.2 s")]
    _release.set()
