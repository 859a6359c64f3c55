"""The plan of an upgrade: order, one minor at a time, what an interrupted run left, what speaks against it."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.facts.kubernetes import CORDONED_BY, BudgetRow, PodRow, VolumeRow
from labkit.lab import Lab
from labkit.plan import Plan, Risk
from labkit.rules.upgrade import plan_upgrade

NEW = "v1.34.1+k3s1"
FIRST, SECOND, WORKER = "k3s-master-01", "k3s-master-02", "k3s-worker-01"
OURS = {"schedulable": False, "annotations": {CORDONED_BY: "upgrade-k3s"}}


def ids(plan: Plan) -> list[str]:
    return [change.id for change in plan.changes]


def found(plan: Plan) -> set[str]:
    return {finding.id for finding in plan.findings}


def blockers(plan: Plan) -> set[str]:
    return {finding.id for finding in plan.blockers}


def test_nodes_at_the_version_need_nothing(lab: Lab, built: Any) -> None:
    plan = plan_upgrade(lab, built.facts())
    assert ids(plan) == []
    assert plan.findings == ()


def test_a_snapshot_then_servers_then_agents_one_after_the_other(lab: Lab, built: Any) -> None:
    plan = plan_upgrade(lab, built.facts(), version=NEW)
    names = [*(s.name for s in lab.servers), *(m.name for m in lab.machines if m.role == "agent")]
    assert ids(plan) == [f"snapshot/{FIRST}/create", *(f"k3s-version/{name}/update" for name in names)]
    assert [change.needs for change in plan.changes[1:]] == [(change.id,) for change in plan.changes[:-1]]
    assert {change.lane for change in plan.changes[1:]} == {"node-out"}
    assert plan.changes[0].after == {"name": "before-v1.34.1-k3s1"}
    assert plan.risk is Risk.DISRUPTIVE
    assert not plan.blockers


def test_no_second_snapshot_once_a_server_has_the_version(lab: Lab, built: Any) -> None:
    plan = plan_upgrade(lab, built.node(FIRST, version=NEW).facts(), version=NEW)
    assert ids(plan)[0] == f"k3s-version/{SECOND}/update"


def test_a_node_left_out_by_an_interrupted_run_comes_first(lab: Lab, built: Any) -> None:
    built.node(FIRST, version=NEW).node(WORKER, ready=False, **OURS)
    plan = plan_upgrade(lab, built.facts(), version=NEW)
    assert ids(plan)[:2] == [f"k3s-version/{WORKER}/update", f"k3s-version/{SECOND}/update"]
    assert not plan.blockers


def test_a_node_that_has_the_version_and_is_still_cordoned_is_finished(lab: Lab, built: Any) -> None:
    plan = plan_upgrade(lab, built.node(WORKER, version=NEW, **OURS).facts(), version=NEW)
    assert ids(plan)[0] == f"node-return/{WORKER}/act"
    alone = plan_upgrade(lab, built.node(WORKER, version=lab.k3s.version).facts())
    assert ids(alone) == [f"node-return/{WORKER}/act"]


def test_a_persons_cordon_stays(lab: Lab, built: Any) -> None:
    plan = plan_upgrade(lab, built.node(WORKER, schedulable=False).facts())
    assert ids(plan) == []
    again = plan_upgrade(lab, built.facts(), version=NEW)
    assert "k3s.cordoned" in found(again)
    assert not again.blockers


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v1.35.0+k3s1", "k3s.minor"),
        ("v1.32.9+k3s1", "k3s.downgrade"),
        ("v1.33.3+k3s1", "k3s.downgrade"),
        ("v1.33.4+k3s2", None),
        ("v1.34.0+k3s1", None),
    ],
)
def test_one_minor_at_a_time_and_never_back(lab: Lab, built: Any, version: str, expected: str | None) -> None:
    assert blockers(plan_upgrade(lab, built.facts(), version=version)) == ({expected} if expected else set())


def test_the_version_between_is_named(lab: Lab, built: Any) -> None:
    plan = plan_upgrade(lab, built.facts(), version="v1.36.0+k3s1")
    assert "v1.34" in str(plan.blockers[0])


def test_one_old_node_holds_back_the_next_minor(lab: Lab, built: Any) -> None:
    for name in lab.vms:
        built.node(name, version=NEW)
    built.node(WORKER, version="v1.33.4+k3s1")
    assert blockers(plan_upgrade(lab, built.facts(), version="v1.35.0+k3s1")) == {"k3s.minor"}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda s: s.node(WORKER, ready=False), "k3s.node-out"),
        (lambda s: s.node(SECOND, voter=False), "k3s.voter"),
        (lambda s: s.cluster(unhealthy=("etcd",)), "k3s.api"),
        (lambda s: s.down(), "k3s.api"),
        (lambda s: s.away(WORKER), "guest.reachable"),
        (lambda s: s.cluster(volumes=(VolumeRow(name="v", state="attached", robustness="degraded"),)),
         "longhorn.degraded"),
        (lambda s: s.cluster(pods=(PodRow(namespace="a", name="alone", node=WORKER, status="Running"),)),
         "drain.bare-pod"),
    ],
)  # fmt: skip
def test_what_speaks_against_it(lab: Lab, built: Any, edit: Any, expected: str) -> None:
    assert blockers(plan_upgrade(lab, edit(built).facts(), version=NEW)) == {expected}


def test_the_pod_and_the_budget_that_would_block_are_named(lab: Lab, built: Any) -> None:
    pod = PodRow(namespace="a", name="db-0", node=WORKER, status="Running", owner="StatefulSet", budgets=("db",))
    budget = BudgetRow(namespace="a", name="db", allowed=0, healthy=1, desired=1)
    plan = plan_upgrade(lab, built.cluster(pods=(pod,), budgets=(budget,)).facts(), version=NEW)
    text = next(str(finding) for finding in plan.findings if finding.id == "drain.budget")
    assert "a/db-0" in text
    assert "budget db" in text
    assert not plan.blockers


def test_few_servers_mean_a_pause_of_the_api(lab: Lab, built: Any) -> None:
    built.without("k3s-master-03", "k3s-master-04")
    assert "k3s.spare" in found(plan_upgrade(lab, built.facts(), version=NEW))


def test_a_version_has_a_form(lab: Lab, built: Any) -> None:
    with pytest.raises(InputError, match="a version such as"):
        plan_upgrade(lab, built.facts(), version="latest")
