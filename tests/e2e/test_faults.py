"""Each fault of Proxmox and of the guests is overcome, or ends clearly and the next run finishes the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.errors import LabError, Refused, StepFailed, SystemDown
from tests.e2e.conftest import MakeTwin, provision

OVERCOME = [
    "template-locked:2",
    "no-worker:2",
    "no-worker-done:1",
    "gateway-timeout:1",
    "vmid-taken:1",
    "clone-dies:1",
    "task-warnings",
    "closing:7",
    "slow:20",
]
ENDS = [
    ("clone-fails:1", StepFailed, "clone"),
    ("no-quorum", Refused, "quorum"),
    ("storage-full:local-lvm:north", Refused, "local-lvm"),
    ("missing-privilege:VM.Clone", LabError, "VM.Clone"),
    ("wrong-token", SystemDown, "token"),
    ("host-down:south", Refused, "south"),
    ("agent-silent:two", StepFailed, "agent"),
    ("wrong-address:two", StepFailed, "10.9.0.12"),
    ("cloud-init-error:two", StepFailed, "cloud-init"),
    ("ssh-silent:two", StepFailed, "SSH"),
]


@pytest.mark.parametrize("fault", OVERCOME)
def test_overcome(fault: str, make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = make_twin(fault)
    monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
    provision(lab_file)
    plan, _ = provision(lab_file)
    assert len(plan) == 0


@pytest.mark.parametrize(("fault", "error", "said"), ENDS, ids=[fault for fault, _, _ in ENDS])
def test_ends_clearly_and_the_next_run_finishes(
    fault: str, error: type[LabError], said: str, make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = make_twin(fault)
    monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
    with pytest.raises(error, match=said) as caught:
        provision(lab_file)
    assert "next:" in str(caught.value) or "; " in str(caught.value), str(caught.value)
    twin.clear(fault.partition(":")[0])
    if "may be deleted in Proxmox" in str(caught.value):
        twin.delete_vm("two")  # the person follows the advice
    provision(lab_file)
    plan, _ = provision(lab_file)
    assert len(plan) == 0
