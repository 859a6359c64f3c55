"""Plans: order, digest, counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.plan import Action, Change, Finding, Plan, Risk, Severity, worst


def change(target: str, action: Action = Action.CREATE, **more: object) -> Change:
    return Change.model_validate({"system": "proxmox", "kind": "vm", "target": target, "action": action, **more})


def plan(*changes: Change, **more: object) -> Plan:
    return Plan.model_validate({"runbook": "provision-vms", "lab": "lab", "changes": changes, **more})


def test_prerequisites_come_first_and_deletes_last() -> None:
    made = plan(
        change("old", Action.DELETE),
        change("c", needs=("vm/b/create",)),
        change("a"),
        change("b", needs=("vm/a/create",)),
    )
    assert [one.target for one in made.changes] == ["a", "b", "c", "old"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([change("a"), change("a")], "got twice: vm/a/create"),
        ([change("a", needs=("vm/x/create",))], "got vm/x/create"),
        (
            [change("a", needs=("vm/b/create",)), change("b", needs=("vm/a/create",))],
            "without a circle, got one among vm/a/create, vm/b/create",
        ),
    ],
    ids=["twice", "unknown", "circle"],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: list[Change], said: str) -> None:
    with pytest.raises(LabError, match=said):
        plan(*changes)


def test_how_a_change_is_carried_out_is_no_part_of_the_digest() -> None:
    assert plan(change("a")).digest == plan(change("a", width=5, apart=True)).digest
    assert plan(change("a")).digest == "9fddf3afa935"
    after = plan(change("a"), change("b", follows=("vm/a/create",)))
    assert after.digest != plan(change("a"), change("b")).digest
    assert [one.target for one in plan(change("b", follows=("vm/a/create",)), change("a")).changes] == ["a", "b"]


names = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)


@given(names, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_order_notes_or_findings(targets: list[str], chance: random.Random) -> None:
    changes = [change(name, after={"cores": 2}) for name in targets]
    shuffled = [one.model_copy(update={"note": str(chance.random())}) for one in changes]
    chance.shuffle(shuffled)
    finding = Finding(id="x", severity=Severity.INFO, subject="x", expected="x", got="x")
    assert plan(*changes).digest == plan(*shuffled, findings=(finding,)).digest


@pytest.mark.parametrize(
    "other",
    [
        change("a", after={"cores": 4}),
        change("a", before={"cores": 1}, after={"cores": 2}),
        change("a", after={"cores": 2}, risk=Risk.DISRUPTIVE),
        change("b", after={"cores": 2}),
        change("a", Action.UPDATE, after={"cores": 2}),
    ],
)
def test_the_digest_depends_on_every_part_of_a_change(other: Change) -> None:
    assert plan(change("a", after={"cores": 2})).digest != plan(other).digest


def test_a_plan_survives_json() -> None:
    made = plan(change("a", after={"cores": 2}), change("b", needs=("vm/a/create",)))
    again = Plan.model_validate_json(Plan.model_validate_json(made.model_dump_json()).model_dump_json())
    assert again == made
    assert again.digest == made.digest


def test_summary_risk_and_counts() -> None:
    made = plan(change("a"), change("b", Action.UPDATE, risk=Risk.DISRUPTIVE))
    assert made.risk is Risk.DISRUPTIVE
    assert made.counts() == {Action.CREATE: 1, Action.UPDATE: 1, Action.ACT: 0, Action.DELETE: 0}
    assert made.summary() == f"1 to create, 1 to update; risk disruptive; digest {made.digest}"
    assert plan().summary() == "nothing to change: what is there is what is wanted"
    assert not plan()
    assert made


def test_worst_of_findings() -> None:
    def finding(severity: Severity) -> Finding:
        return Finding(id="x", severity=severity, subject="x", expected="x", got="x")

    assert worst([]) is None
    assert worst([finding(Severity.INFO), finding(Severity.ERROR), finding(Severity.WARNING)]) is Severity.ERROR
