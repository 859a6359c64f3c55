"""Each fault of guests, k3s and its API is overcome, or ends clearly; the next run finishes the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.errors import CheckFailed, LabError, Refused, StepFailed
from labkit.twin.client import TwinHandle
from tests.e2e.k3s.conftest import bootstrap, targets

MakeTwin = Callable[..., TwinHandle]

ENDS = [
    ("k3s-wrong-token:two", StepFailed, "token"),
    ("k3s-wrong-token:four", StepFailed, "token"),
    ("k3s-dies-after-install:one", StepFailed, "swap"),
    ("k3s-dies-after-install:three", StepFailed, "swap"),
    ("ssh-drops:two", StepFailed, "connection"),
    ("disk-full:two", Refused, "free at least"),
    ("installer-download-fails:1", StepFailed, "Download|download"),
    ("node-not-ready:four", StepFailed, "cni plugin"),
    ("clock-off:three:-100000", Refused, "clock"),
    ("ssh-silent:four", Refused, "four"),
]


@pytest.mark.parametrize(("fault", "error", "said"), ENDS, ids=[fault for fault, _, _ in ENDS])
def test_ends_clearly_and_the_next_run_finishes(
    fault: str, error: type[LabError], said: str, make_twin: MakeTwin, lab_file: Path
) -> None:
    twin = make_twin(fault)
    with pytest.raises(error, match=said) as caught:
        bootstrap(lab_file)
    assert "next:" in str(caught.value) or "; " in str(caught.value), str(caught.value)
    twin.clear(fault.partition(":")[0])
    bootstrap(lab_file)
    assert targets(bootstrap(lab_file)) == []


@pytest.mark.parametrize("fault", ["api-slow:60", "api-closing:4"])
def test_overcome(fault: str, make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(fault)
    bootstrap(lab_file)
    assert targets(bootstrap(lab_file)) == []


def test_two_hosts_gone(make_twin: MakeTwin, lab_file: Path) -> None:
    """Quorum is lost: nothing is founded, a person is told; when the hosts are back, all is well."""
    twin = make_twin(scenario="k3s")
    for host in ("south", "west"):
        twin.fault(f"host-down:{host}")
    with pytest.raises(Refused, match="nothing new is founded"):
        bootstrap(lab_file)
    twin.clear("host-down")
    for name in ("two", "three", "five"):
        twin.power_vm(name, on=True)
    bootstrap(lab_file)
    assert targets(bootstrap(lab_file)) == []


def test_one_host_gone_is_no_reason_to_stop(make_twin: MakeTwin, lab_file: Path) -> None:
    """A server that is away is told, and the others can still be worked on."""
    twin = make_twin(scenario="k3s")
    twin.fault("host-down:west")
    with pytest.raises((CheckFailed, Refused), match="three"):
        bootstrap(lab_file)
    assert targets(bootstrap(lab_file, only=("four",))) == []
