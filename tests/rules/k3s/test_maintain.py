"""The plan of a host's maintenance: each state that an interruption can leave, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.facts.kubernetes import CORDONED_BY, DOWN, MAINTAINED, VolumeRow
from labkit.lab import Lab
from labkit.plan import Plan
from labkit.rules.maintain import plan_maintain

HOST = "atlas"
SERVER, ONE, TWO = "k3s-master-03", "k3s-worker-02", "k3s-worker-03"
ALL = [ONE, TWO, SERVER]
MARKED = {"schedulable": False, "annotations": {CORDONED_BY: "maintain-host"}}
FOR_THIS = {"schedulable": False, "annotations": {CORDONED_BY: "maintain-host", DOWN: HOST}}
JUST_NOW = {"annotations": {MAINTAINED: "2026-08-10T19:55:00+00:00"}}


def ids(plan: Plan) -> list[str]:
    return [change.id for change in plan.changes]


def blockers(plan: Plan) -> set[str]:
    return {finding.id for finding in plan.blockers}


def off(seen: Any, *names: str) -> Any:
    vms = tuple(vm.model_copy(update={"status": "stopped"}) if vm.name in names else vm for vm in seen.proxmox.vms)
    seen.proxmox = seen.proxmox.model_copy(update={"vms": vms})
    for name in names:
        if name in seen.nodes:
            seen.node(name, ready=False)
    return seen


def steps(kind: str, names: list[str]) -> list[str]:
    return [f"{kind}/{name}/act" for name in names]


def test_everything_goes_down_and_comes_back(lab: Lab, built: Any) -> None:
    plan = plan_maintain(lab, built.facts(), host=HOST)
    back = [f"{kind}/{name}/act" for name in (SERVER, ONE, TWO) for kind in ("vm-up", "node-return")]
    assert ids(plan) == [*steps("node-drain", ALL), *steps("vm-down", ALL), *back]
    assert not plan.blockers
    by_id = {change.id: change for change in plan.changes}
    assert by_id[f"vm-down/{ONE}/act"].needs == (f"node-drain/{SERVER}/act",)  # the last drain
    assert set(by_id[f"vm-up/{ONE}/act"].needs) == set(steps("vm-down", ALL))
    assert by_id[f"node-return/{ONE}/act"].needs == (f"vm-up/{ONE}/act",)


def test_nothing_is_left_right_after_it(lab: Lab, built: Any) -> None:
    for name in ALL:
        built.node(name, **JUST_NOW)
    plan = plan_maintain(lab, built.facts(), host=HOST)
    assert ids(plan) == []
    assert [finding.id for finding in plan.findings] == ["maintain.done"]


def test_a_week_later_it_is_due_again(lab: Lab, built: Any) -> None:
    for name in ALL:
        built.node(name, annotations={MAINTAINED: "2026-08-03T19:55:00+00:00"})
    assert len(plan_maintain(lab, built.facts(), host=HOST)) == 12


def test_phases(lab: Lab, built: Any) -> None:
    assert ids(plan_maintain(lab, built.facts(), host=HOST, phase="down")) == [
        *steps("node-drain", ALL), *steps("vm-down", ALL),
    ]  # fmt: skip
    assert ids(plan_maintain(lab, built.facts(), host=HOST, phase="up")) == []
    for name in ALL:
        built.node(name, **FOR_THIS)
    off(built, *ALL)
    assert ids(plan_maintain(lab, built.facts(), host=HOST, phase="down")) == []
    up = plan_maintain(lab, built.facts(), host=HOST, phase="up")
    assert len(up) == 6
    assert not up.blockers


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        # drained, not yet shut down: the same again
        (lambda s: s.node(ONE, **MARKED), 12),
        # one is off and unmarked: it went down right before the end of the run
        (lambda s: off(s.node(ONE, **MARKED), ONE), 4 + 4 + 2),
        # all are off: bring them back
        (lambda s: off(s.node(ONE, **FOR_THIS).node(TWO, **FOR_THIS).node(SERVER, **FOR_THIS), *ALL), 6),
        # all run again and one was uncordoned
        (lambda s: s.node(ONE, **FOR_THIS).node(TWO, **FOR_THIS).node(SERVER, **JUST_NOW), 2),
    ],
)
def test_an_interrupted_run_goes_on(lab: Lab, built: Any, edit: Any, expected: int) -> None:
    plan = plan_maintain(lab, edit(built).facts(), host=HOST)
    assert len(plan) == expected, ids(plan)
    assert not plan.blockers


def test_refused_when_it_takes_the_quorum(lab: Lab, built: Any) -> None:
    plan = plan_maintain(lab, built.facts(), host="hades")
    assert blockers(plan) == {"k3s.quorum"}
    assert "k3s-master-01, k3s-master-02" in str(plan.blockers[0])


def test_the_first_host_that_can_be_spared_when_none_is_named(lab: Lab, built: Any) -> None:
    plan = plan_maintain(lab, built.facts())
    assert plan.changes[0].target == ONE
    assert plan.digest == plan_maintain(lab, built.facts(), host=HOST).digest
    for name in ALL:
        built.node(name, **JUST_NOW)
    assert ids(plan_maintain(lab, built.facts())) == []


def test_a_host_under_way_is_taken_first(lab: Lab, built: Any) -> None:
    venus = "k3s-worker-04"
    built.node(venus, schedulable=False, annotations={CORDONED_BY: "maintain-host", DOWN: "venus"})
    plan = plan_maintain(lab, built.facts())
    assert {change.target for change in plan.changes} == {"k3s-master-04", "k3s-worker-04", "k3s-worker-05"}
    assert "maintain.other" in blockers(plan_maintain(lab, built.facts(), host=HOST))


def test_no_host_can_be_spared(lab: Lab, built: Any) -> None:
    built.without("k3s-master-04", SERVER)
    names = {"k3s-master-01": "atlas", "k3s-master-02": "hades"}
    vms = tuple(vm.model_copy(update={"node": names[vm.name]}) if vm.name in names else vm for vm in built.proxmox.vms)
    built.proxmox = built.proxmox.model_copy(update={"vms": tuple(vm for vm in vms if vm.node != "venus")})
    plan = plan_maintain(lab, built.facts())
    assert ids(plan) == []
    assert not plan.blockers
    assert plan.findings[0].id == "maintain.host"


@pytest.mark.parametrize(
    ("replicas", "expected"), [((ONE,), {"longhorn.last-replica"}), ((ONE, "k3s-worker-01"), set())]
)
def test_no_volume_loses_its_last_replica(lab: Lab, built: Any, replicas: tuple[str, ...], expected: set[str]) -> None:
    volume = VolumeRow(name="data", state="attached", robustness="healthy", replicas=replicas)
    assert blockers(plan_maintain(lab, built.cluster(volumes=(volume,)).facts(), host=HOST)) == expected


def test_never_a_second_node_out(lab: Lab, built: Any) -> None:
    built.node("k3s-worker-01", ready=False)
    assert blockers(plan_maintain(lab, built.facts(), host=HOST)) == {"k3s.node-out"}


def test_it_is_about_where_the_vms_are_now(lab: Lab, built: Any) -> None:
    vms = tuple(vm.model_copy(update={"node": "venus"}) if vm.name == ONE else vm for vm in built.proxmox.vms)
    built.proxmox = built.proxmox.model_copy(update={"vms": vms})
    assert ONE not in {change.target for change in plan_maintain(lab, built.facts(), host=HOST).changes}


def test_parameters_are_checked(lab: Lab, built: Any) -> None:
    with pytest.raises(InputError, match="3 mistakes"):
        plan_maintain(lab, built.facts(), host="olymp", phase="sideways", again_after_hours=0)
