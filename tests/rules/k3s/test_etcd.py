"""The plan of a restore of etcd: what is asked for, what there is, what an interrupted run left, what forbids it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from labkit.checks.etcd import cluster_is_restored, objects_are_restored, restore_can_start
from labkit.errors import InputError
from labkit.facts.etcd import EtcdFacts, ObjectRow, Place, Restore, ServerEtcd, Snapshot
from labkit.facts.guests import TokenForm, TokenState
from labkit.facts.kubernetes import NodeRow, VolumeRow
from labkit.lab import Lab
from labkit.plan import Plan, Risk, Severity
from labkit.rules.etcd_restore import plan_etcd_restore

from .conftest import NOW, VERSION, Seen

FIRST, SECOND, THIRD, FOURTH = (f"k3s-master-0{number}" for number in range(1, 5))
SERVERS = [FIRST, SECOND, THIRD, FOURTH]
AGENTS = [f"k3s-worker-0{number}" for number in range(1, 6)]
HOUR = timedelta(hours=1)


def snapshot(name: str, hours: float, *where: str, **more: Any) -> Snapshot:
    """A snapshot that was made so many hours ago, whole and with the lab's token unless said otherwise."""
    places = tuple(Place(where=one, path=f"/snapshots/{name}", size=10_000_000) for one in where or (FIRST,))
    told = {"token": TokenState.SAME, "examined": True, "version": VERSION, **more}
    return Snapshot(name=name, created=NOW - hours * HOUR, places=places, **told)


OLD, NEW = snapshot("old", 24, SECOND), snapshot("recent", 2, FIRST)
UNDO = snapshot("before-restore-k3s-master-01-1795448840", 1)


class View:
    """Facts of guests, cluster and etcd that can be changed."""

    def __init__(self, lab: Lab, seen: Seen) -> None:
        self.lab, self.seen = lab, seen
        self.etcd: dict[str, Any] = {"snapshots": (UNDO, NEW, OLD)}

    def facts(self) -> dict[str, Any]:
        size = [
            ServerEtcd(name=name, size=5_000_000 if self.seen.guests[name].server_db else 0, mark=self.mark(name))
            for name in SERVERS
        ]
        return {**self.seen.facts(), "etcd": EtcdFacts(**{"servers": tuple(size), "read_at": NOW, **self.etcd})}

    def mark(self, name: str) -> str:
        marks: dict[str, str] = self.etcd.get("marks", {})
        return marks.get(name, "")

    def with_etcd(self, **changes: Any) -> View:
        self.etcd |= changes
        return self

    def lost(self, *names: str, whole: bool = True) -> View:
        """These servers have lost their data, and with it the cluster its API."""
        for name in names:
            if whole:
                self.seen.renew(name)
            else:
                self.seen.guest(name, server_db=False)
        self.seen.down()
        return self

    def stopped(self) -> View:
        for name in (*SERVERS, *AGENTS):
            self.seen.guest(name, units={"k3s": "inactive", "k3s-agent": "inactive"})
        self.seen.down()
        return self

    def plan(self, **wants: Any) -> Plan:
        return plan_etcd_restore(self.lab, self.facts(), **wants)


@pytest.fixture
def view(lab: Lab, built: Any) -> View:
    return View(lab, built)


def ids(plan: Plan) -> list[str]:
    return [change.id for change in plan.changes]


def blockers(plan: Plan) -> set[str]:
    return {finding.id for finding in plan.blockers}


def found(plan: Plan, ident: str) -> str:
    return next(str(finding) for finding in plan.findings if finding.id == ident)


def record(stage: str = "finished", **more: Any) -> Restore:
    told = {"snapshot": "recent", "created": NEW.created, "servers": (SECOND, THIRD, FOURTH), "rejoined": ()}
    if stage != "prepared":
        told["reset_at"] = NOW - HOUR / 2
    if stage == "finished":
        told |= {"finished_at": NOW - HOUR / 3, "rejoined": (SECOND, THIRD, FOURTH)}
    return Restore(id="20260810T193000Z", stage=stage, **{"server": FIRST, **told, **more})


def whole_plan(site: str, *, saves: bool = True) -> list[str]:
    others = [name for name in SERVERS if name != site]
    return [
        *([f"snapshot/{site}/create"] if saves else []),
        "etcd-restore/homelab/create",
        f"etcd-member/{site}/act",
        *(f"etcd-member/{name}/create" for name in others),
        *(f"agent/{name}/act" for name in AGENTS),
        "etcd-restore/homelab/act",
    ]


@pytest.mark.parametrize(
    ("wants", "site", "name"),
    [
        ({"snapshot": "newest"}, FIRST, "recent"),
        ({"snapshot": "old"}, SECOND, "old"),
        ({"snapshot": "old", "server": THIRD}, THIRD, "old"),
        ({"restore_as_of": (NOW - 3 * HOUR).isoformat()}, SECOND, "old"),
        ({"restore_as_of": NOW.isoformat()}, FIRST, UNDO.name),
        ({"snapshot": "new"}, FIRST, "the one that is saved first"),
    ],
)
def test_a_snapshot_on_the_same_machines(view: View, wants: dict[str, str], site: str, name: str) -> None:
    plan = view.plan(**wants)
    assert ids(plan) == whole_plan(site)
    assert plan.changes[2].after["etcd"] == f"one member, from {name}"
    assert [change.target for change in plan.changes if change.risk is Risk.DESTRUCTIVE] == [
        site,
        *(one for one in SERVERS if one != site),
    ]
    assert not plan.blockers
    order = {change.id: number for number, change in enumerate(plan.changes)}
    assert all(order[need] < order[change.id] for change in plan.changes for need in change.needs)
    joins = [change.needs for change in plan.changes if change.kind == "etcd-member"][1:]
    assert all(len(needs) == 1 and needs[0].startswith("etcd-member/") for needs in joins)


def test_a_path_is_a_copy_on_this_machine(view: View) -> None:
    copy = snapshot("recent", 5, "local", version="")
    view.with_etcd(snapshots=(NEW, copy))
    plan = view.plan(snapshot="~/copies/recent")
    assert plan.changes[2].after["at"] == "local"
    assert plan.changes[2].target == FIRST


def test_two_of_four_servers_lost(view: View) -> None:
    plan = view.lost(FIRST, THIRD).plan()
    assert ids(plan) == whole_plan(SECOND, saves=False)
    assert plan.changes[1].after["etcd"] == "one member, from its own data"
    assert [change.target for change in plan.changes if change.risk is Risk.DESTRUCTIVE] == [SECOND, FOURTH]
    rebuilt = next(change for change in plan.changes if change.target == FIRST)
    assert "node" in rebuilt.before
    assert not plan.blockers
    assert "server=NAME" in found(plan, "etcd.several")
    assert view.plan(server=FOURTH).changes[1].target == FOURTH
    assert blockers(view.plan(server=THIRD)) == {"etcd.no-data"}


def test_a_server_that_lost_its_data_has_founded_its_own_cluster(view: View) -> None:
    view.seen.without(SECOND, THIRD, FOURTH)
    assert blockers(view.plan()) == {"etcd.two"}
    plan = view.plan(server=SECOND)
    assert ids(plan) == [f"snapshot/{FIRST}/create", *whole_plan(SECOND, saves=False)]
    assert plan.changes[2].after["etcd"] == "one member, from its own data"
    assert not plan.blockers


def test_a_server_that_stands_still_is_no_lost_quorum(view: View) -> None:
    view.seen.node(FOURTH, ready=False).guest(FOURTH, units={"k3s": "inactive"})
    assert blockers(view.plan()) == {"etcd.fine"}


def test_all_data_lost_leaves_the_snapshots(view: View) -> None:
    plan = view.lost(*SERVERS, whole=False).plan()
    assert plan.changes[1].after["etcd"] == "one member, from recent"
    assert blockers(view.with_etcd(snapshots=()).plan()) == {"etcd.snapshot"}


def test_new_machines(view: View) -> None:
    copy = snapshot("kept", 5, "local")
    for name in (*SERVERS, *AGENTS):
        view.seen.renew(name)
    view.seen.down()
    plan = view.with_etcd(snapshots=(copy,)).plan(snapshot="kept")
    assert ids(plan)[0] == "etcd-restore/homelab/create"
    assert {change.id for change in plan.changes if change.kind == "agent"} == {f"agent/{n}/create" for n in AGENTS}
    assert plan.risk is Risk.DISRUPTIVE
    assert plan.changes[0].after["stops"] == []
    bare = view.seen.guest(THIRD, packages={})
    assert ids(View(view.lab, bare).with_etcd(snapshots=(copy,)).plan(snapshot="kept"))[0] == f"guest/{THIRD}/update"


@pytest.mark.parametrize(
    ("wants", "edit", "expected"),
    [
        ({}, lambda v: v, "etcd.fine"),
        ({"snapshot": "none"}, lambda v: v, "etcd.snapshot"),
        ({"restore_as_of": "2020-01-01"}, lambda v: v, "etcd.snapshot"),
        ({"snapshot": "bad"}, lambda v: v.with_etcd(snapshots=(snapshot("bad", 1, problem="it is damaged"),)),
         "etcd.snapshot"),
        ({"snapshot": "x"}, lambda v: v.with_etcd(snapshots=(snapshot("x", 1, token=TokenState.OTHER),)),
         "etcd.token"),
        ({"snapshot": "x"}, lambda v: v.with_etcd(snapshots=(snapshot("x", 1, version="v1.34.1+k3s1"),)),
         "etcd.version"),
        ({"snapshot": "new"}, lambda v: v.stopped(), "etcd.new"),
        ({"snapshot": "old"}, lambda v: v.seen.away(SECOND) and v, "etcd.away"),
        ({"snapshot": "old", "replace": SERVERS}, lambda v: v.seen.away(SECOND, THIRD, FOURTH).down() and v,
         "etcd.split"),
        ({"snapshot": "old"}, lambda v: v.seen.guest(SECOND, disk_free=1) and v, "etcd.disk"),
        ({"snapshot": "old"}, lambda v: v.seen.guest(THIRD, disk_free=1) and v, "etcd.disk"),
        ({"snapshot": "old"}, lambda v: v.seen.guest(THIRD, server_token=TokenState.OTHER) and v, "etcd.leftovers"),
        ({}, lambda v: v.stopped(), "etcd.quorum"),
        ({}, lambda v: v.lost(FIRST).seen.away(THIRD) and v, "etcd.away"),
        ({}, lambda v: v.lost(FIRST, SECOND, THIRD).seen.away(FOURTH) and v, "etcd.no-data"),
        ({}, lambda v: v.stopped().seen.guest(THIRD, restoring=True) and v, "etcd.record"),
        ({"snapshot": "old"}, lambda v: v.with_etcd(restore=record("prepared", server="gone")), "etcd.unfinished"),
        ({}, lambda v: v.lost(FIRST, THIRD).seen.guest(SECOND, server_token=TokenState.OTHER) and v, "etcd.token"),
    ],
)  # fmt: skip
def test_what_speaks_against_it(view: View, wants: dict[str, Any], edit: Callable[[View], View], expected: str) -> None:
    plan = edit(view).plan(**wants)
    assert blockers(plan) == {expected}
    asked = {key: value for key, value in wants.items() if key != "confirm"}
    check = restore_can_start(view.lab, **asked)
    assert {finding.id for finding in check(view.facts()) if finding.severity is Severity.ERROR} == {expected}


def test_without_the_token_nothing_comes_back(view: View) -> None:
    view.seen.guest_facts["token"] = TokenForm.MISSING
    assert blockers(view.plan(snapshot="old")) == {"etcd.token"}


def test_servers_that_are_gone_for_good_are_named(view: View) -> None:
    view.lost(FIRST).seen.away(THIRD)
    plan = view.plan(replace=(SECOND, THIRD, FOURTH))
    assert not plan.blockers
    assert f"etcd-member/{THIRD}/create" not in ids(plan)
    assert plan.changes[0].after["rejoin"] == [FIRST, THIRD, FOURTH]


def test_a_damaged_snapshot_is_passed_over_when_it_was_not_named(view: View) -> None:
    bad = snapshot("bad", 1, problem="it is damaged")
    plan = view.with_etcd(snapshots=(bad, NEW, OLD)).plan(snapshot="newest")
    assert plan.changes[2].after["etcd"] == "one member, from recent"
    assert not plan.blockers
    assert "it is damaged; recent is taken in its place" in found(plan, "etcd.snapshot")


def test_on_the_lab_the_lab_and_each_server_are_named(view: View) -> None:
    plan = view.plan(snapshot="old", protected=True)
    assert blockers(plan) == {"etcd.confirm", "etcd.replace"}
    assert f"gives way: {SECOND}, {FIRST}, {THIRD}, {FOURTH}, got none" in found(plan, "etcd.replace")
    some = view.plan(snapshot="old", protected=True, confirm="homelab", replace=(FIRST, SECOND))
    assert blockers(some) == {"etcd.replace"}
    full = view.plan(snapshot="old", protected=True, confirm="homelab", replace=tuple(SERVERS))
    assert not full.blockers
    assert full.digest == plan.digest == view.plan(snapshot="old").digest
    assert blockers(view.plan(snapshot="old", confirm="other")) == {"etcd.confirm"}


@pytest.mark.parametrize(
    "wants",
    [
        {"server": "k3s-worker-01"},
        {"replace": ("nobody",)},
        {"restore_as_of": "yesterday"},
        {"snapshot": "old", "restore_as_of": "2026-08-10"},
    ],
)
def test_wrong_parameters(view: View, wants: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        view.plan(**wants)


def test_what_will_be_lost_is_named(view: View) -> None:
    made = (row("old-app", NOW - 48 * HOUR), row("new-app", NOW - HOUR))
    view.seen.cluster(volumes=(VolumeRow(name="v", state="attached", robustness="healthy"),))
    plan = view.with_etcd(objects=made).plan(snapshot="newest")
    assert "got 1: Deployment apps/new-app" in found(plan, "etcd.lost")
    assert "1 volumes now" in found(plan, "etcd.longhorn")
    assert not plan.blockers


def row(name: str, created: datetime) -> ObjectRow:
    return ObjectRow(kind="Deployment", namespace="apps", name=name, uid=name, created=created)


# What an interrupted run left.


def test_noted_and_stopped(view: View) -> None:
    view.stopped().with_etcd(restore=record("prepared"))
    plan = view.plan(snapshot="newest")
    assert ids(plan) == whole_plan(FIRST, saves=False)
    assert plan.changes[1].after["etcd"] == "one member, from recent"
    assert blockers(view.plan(snapshot="old")) == {"etcd.unfinished"}
    assert blockers(view.plan(server=SECOND)) == {"etcd.unfinished"}
    assert ids(view.plan()) == ids(plan)


def test_noted_and_the_snapshot_is_gone(view: View) -> None:
    view.stopped().with_etcd(restore=record("prepared"), snapshots=(OLD,))
    assert blockers(view.plan()) == {"etcd.snapshot"}


def test_reset_and_not_started(view: View) -> None:
    view.stopped().with_etcd(restore=record("reset"))
    plan = view.plan(snapshot="new")
    assert ids(plan) == whole_plan(FIRST, saves=False)[1:]
    assert plan.changes[0].risk is Risk.DISRUPTIVE  # its data is the restored one by now


def test_some_have_rejoined(view: View) -> None:
    """The second is in; the third has its data aside and was about to join; the fourth has its old data."""
    view.seen.guest(FOURTH, units={"k3s": "inactive"}).node(FOURTH, ready=False)
    view.with_etcd(restore=record("reset", rejoined=(SECOND,)))
    facts = view.facts()
    marked = facts["etcd"].servers[2].model_copy(update={"mark": "20260810T193000Z"})
    facts["etcd"] = facts["etcd"].model_copy(update={"servers": (*facts["etcd"].servers[:2], marked)})
    plan = plan_etcd_restore(view.lab, facts, snapshot="new")
    assert ids(plan) == [
        f"etcd-member/{THIRD}/create",
        f"etcd-member/{FOURTH}/create",
        "etcd-restore/homelab/act",
    ]
    assert [change.risk for change in plan.changes[:2]] == [Risk.SAFE, Risk.DESTRUCTIVE]


def test_only_the_end_is_missing(view: View) -> None:
    view.with_etcd(restore=record("reset", rejoined=(SECOND, THIRD, FOURTH)))
    assert ids(view.plan()) == ["etcd-restore/homelab/act"]


@pytest.mark.parametrize(
    "wants",
    [
        {},
        {"snapshot": "new"},
        {"snapshot": "recent"},
        {"snapshot": "newest"},
        {"restore_as_of": (NOW - 1.5 * HOUR).isoformat()},
    ],
)
def test_finished_is_nothing_to_do(view: View, wants: dict[str, str]) -> None:
    plan = view.with_etcd(restore=record()).plan(**wants)
    assert ids(plan) == []
    assert not plan.blockers
    assert "nothing to do" in found(plan, "etcd.done")


def test_finished_long_ago_is_no_reason_not_to_restore(view: View) -> None:
    view.with_etcd(restore=record(snapshot="old", finished_at=NOW - 48 * HOUR))
    assert ids(view.plan(snapshot="newest")) == whole_plan(FIRST)
    assert ids(view.plan(snapshot="new")) == whole_plan(FIRST)
    assert ids(view.plan(snapshot="old")) == []


def test_a_server_that_was_away_is_let_in_when_it_is_back(view: View) -> None:
    view.with_etcd(restore=record(rejoined=(SECOND, THIRD)))
    assert ids(view.plan()) == []  # it was mended by other means
    view.seen.guest(FOURTH, units={"k3s": "activating"}).node(FOURTH, ready=False)
    assert ids(view.plan()) == [f"etcd-member/{FOURTH}/create", "etcd-restore/homelab/act"]


# Did it work.


def errors(check: Any, view: View) -> list[str]:
    return [finding.id for finding in check(view.facts()) if finding.severity is Severity.ERROR]


def warnings(check: Any, view: View) -> str:
    return "\n".join(str(f) for f in check(view.facts()) if f.severity is Severity.WARNING)


def test_all_members_have_the_restored_state(view: View, lab: Lab) -> None:
    check = cluster_is_restored(lab)
    everybody = {"answers": dict.fromkeys(SERVERS, True), "alive": tuple(lab.vms)}
    assert check(view.with_etcd(restore=record(), **everybody).facts()) == ()
    view.with_etcd(answers={**everybody["answers"], THIRD: False}, alive=tuple(lab.vms)[1:])
    assert sorted(errors(check, view)) == ["etcd.other", "etcd.silent"]
    view.with_etcd(**everybody).seen.node(SECOND, voter=False)
    assert errors(check, view) == ["k3s.voter"]
    view.seen.node(SECOND, voter=True).extra(NodeRow(name="ghost", ready=False, version=VERSION, address="10.0.0.9"))
    assert errors(check, view) == []
    assert "run bootstrap-k3s with destroy=ghost" in warnings(check, view)
    assert errors(check, View(lab, view.seen.down())) == ["k3s.api"]


def test_objects_are_those_of_the_snapshot(view: View) -> None:
    old, later, anew = (row(name, NOW - hours * HOUR) for name, hours in (("old", 48), ("later", 1), ("anew", 1)))
    now = (old, row("anew", NOW - HOUR / 4))
    check = objects_are_restored()
    view.with_etcd(restore=record(), before=(old, later, anew), objects=now)
    assert errors(check, view) == []
    assert "1 lost: Deployment apps/later" in warnings(check, view)
    view.with_etcd(objects=(*now, later))
    assert errors(check, view) == ["etcd.strangers"]
    view.with_etcd(objects=now[1:])
    assert "1 missing: Deployment apps/old" in warnings(check, view)
    assert check(view.with_etcd(restore=record(snapshot="", created=None)).facts()) == ()
