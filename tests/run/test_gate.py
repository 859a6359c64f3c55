"""What `approve` lets through, on the twin and on the lab."""

from __future__ import annotations

import pytest

from labkit.errors import InputError, LabError, NotApproved, Refused
from labkit.plan import Action, Change, Finding, Plan, Risk, Severity
from labkit.run.gate import pass_gate


def make(risk: Risk | None = Risk.SAFE, *, blocked: bool = False) -> Plan:
    changes = (
        () if risk is None else (Change(system="proxmox", kind="vm", target="a", action=Action.CREATE, risk=risk),)
    )
    severity = Severity.ERROR if blocked else Severity.WARNING
    finding = Finding(id="x", severity=severity, subject="a", expected="room", got="none")
    return Plan(runbook="r", lab="l", changes=changes, findings=(finding,))


SAFE, RISKY, EMPTY, BLOCKED = make(), make(Risk.DESTRUCTIVE), make(None), make(blocked=True)
TABLE = [
    (SAFE, "", "twin", None),
    (SAFE, "", "lab", NotApproved),
    (SAFE, "none", "twin", NotApproved),
    (SAFE, "none", "lab", NotApproved),
    (SAFE, "safe", "twin", None),
    (SAFE, "safe", "lab", None),
    (SAFE, SAFE.digest, "twin", None),
    (SAFE, SAFE.digest, "lab", None),
    (SAFE, RISKY.digest, "twin", Refused),
    (SAFE, RISKY.digest, "lab", Refused),
    (RISKY, "", "twin", None),
    (RISKY, "safe", "twin", NotApproved),
    (RISKY, "safe", "lab", NotApproved),
    (RISKY, RISKY.digest, "lab", None),
    (EMPTY, "", "lab", None),
    (EMPTY, "none", "lab", None),
    (EMPTY, SAFE.digest, "lab", None),
    (BLOCKED, BLOCKED.digest, "lab", Refused),
    (BLOCKED, "", "twin", Refused),
    (SAFE, "yes", "twin", InputError),
    (SAFE, "SAFE", "lab", InputError),
]


@pytest.mark.parametrize(("plan", "approve", "on", "error"), TABLE)
def test_gate(plan: Plan, approve: str, on: str, error: type[LabError] | None) -> None:
    if error is None:
        pass_gate(plan, approve=approve, on=on)  # type: ignore[arg-type]
        return
    with pytest.raises(error) as caught:
        pass_gate(plan, approve=approve, on=on)  # type: ignore[arg-type]
    assert type(caught.value) is error


def test_not_approved_names_the_digest_and_how_to_approve() -> None:
    with pytest.raises(NotApproved) as caught:
        pass_gate(SAFE, approve="", on="lab")
    assert caught.value.digest == SAFE.digest
    assert caught.value.exit_status == 3
    assert f"approve={SAFE.digest}" in str(caught.value)
    assert "nothing was written" in str(caught.value)


def test_a_blocked_plan_says_why() -> None:
    with pytest.raises(Refused, match="a: expected room, got none"):
        pass_gate(BLOCKED, approve="", on="twin")
