"""Each fault of guests, k3s and its API is overcome, or ends clearly; the next run finishes the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.errors import CheckFailed, LabError, Refused, StepFailed
from labkit.systems.k3s.waiting import find_node
from labkit.twin.client import TwinHandle
from tests.e2e.k3s.conftest import bootstrap, enter, targets

MakeTwin = Callable[..., TwinHandle]

WHILE_FETCHING = [
    ("disk-full:two", CheckFailed, "free at least"),
    ("clock-off:three:-100000", CheckFailed, "clock"),
    ("ssh-silent:four", CheckFailed, "four"),
    ("ssh-drops:two", StepFailed, "two.*expected the connection to hold"),
    ("installer-download-fails:1", StepFailed, "Download|download"),
]
WHILE_JOINING = [
    ("k3s-dies-after-install:one", StepFailed, "swap"),
    ("k3s-wrong-token:two", StepFailed, "token"),
    ("k3s-dies-after-install:three", StepFailed, "swap"),
    ("k3s-wrong-token:four", StepFailed, "token"),
    ("node-not-ready:five", StepFailed, "cni plugin"),
]


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(WHILE_FETCHING, id="while fetching"),
        pytest.param(WHILE_JOINING[:2], id="while joining"),
        pytest.param(WHILE_JOINING[2:], id="while joining, later", marks=pytest.mark.thorough),
    ],
)
def test_each_ends_clearly_and_the_next_run_finishes(
    make_twin: MakeTwin, lab_file: Path, faults: list[tuple[str, type[LabError], str]]
) -> None:
    """They come in the order in which a bootstrap meets them: each run goes on where the one before had to stop."""
    twin = make_twin()
    for fault, error, said in faults:
        before = twin.status()["writes"].get("guests", 0)
        twin.fault(fault)
        with pytest.raises(error, match=said) as caught:
            until_answered(lab_file)
        assert "next:" in str(caught.value) or "; " in str(caught.value), str(caught.value)
        if error is CheckFailed:
            assert twin.status()["writes"].get("guests", 0) == before, fault
        twin.clear(fault.partition(":")[0])
    until_answered(lab_file)
    assert targets(bootstrap(lab_file)) == []


def until_answered(lab_file: Path) -> None:
    """Run it as a person would: again, when k3s has come up by itself while its guest was being read."""
    for _ in range(3):
        try:
            bootstrap(lab_file)
        except Refused as exc:
            if "what is there or what is wanted has changed since" not in str(exc):
                raise
        else:
            return
    bootstrap(lab_file)


def test_overcome(make_twin: MakeTwin, lab_file: Path) -> None:
    """An API that answers slowly and closes connections."""
    make_twin("api-slow:60", "api-closing:4")
    bootstrap(lab_file)
    assert targets(bootstrap(lab_file)) == []


def test_two_hosts_gone(make_twin: MakeTwin, lab_file: Path) -> None:
    """Quorum is lost: nothing is founded, a person is told; when the hosts are back, all is well."""
    twin = make_twin(scenario="k3s")
    for host in ("south", "west"):
        twin.fault(f"host-down:{host}")
    with pytest.raises(CheckFailed, match=r"quorum may be lost.*nothing new is founded"):
        bootstrap(lab_file)
    twin.clear("host-down")
    for name in ("two", "three", "five"):
        twin.power_vm(name, on=True)
    bootstrap(lab_file)
    assert targets(bootstrap(lab_file)) == []


def test_one_host_gone_is_no_reason_to_stop(make_twin: MakeTwin, lab_file: Path) -> None:
    """A server that is away is told, and the others can still be worked on."""
    twin = make_twin(scenario="k3s")
    lab, access, cluster = enter(lab_file)
    twin.fault("host-down:west")

    def is_missed() -> bool | None:
        node = find_node(cluster, "three")
        return None if node is None or node.ready else True

    access.wait(is_missed, what=f"{lab.name} misses three", deadline=600)
    with pytest.raises((CheckFailed, Refused), match="three"):
        bootstrap(lab_file)
    assert targets(bootstrap(lab_file, only=("four",))) == []
