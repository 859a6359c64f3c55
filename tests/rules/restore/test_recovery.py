"""A recovery on a living cluster: what rests, what comes back, what speaks against it, what the report says."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.checks.restore import check_back, check_backups, check_confirmed, check_living, check_names, check_unnamed
from labkit.errors import InputError
from labkit.facts.flux import FluxFacts, FluxObject
from labkit.facts.git import GitFacts
from labkit.facts.longhorn import BackupTarget
from labkit.facts.repository import Build, Cluster, RepositoryFacts, Resource
from labkit.facts.restore import KEPT, RESTORED
from labkit.lab import load_lab
from labkit.plan import Plan, Severity
from labkit.report.recovery import recovery_report
from labkit.rules.needed import needed_volumes, recovery_goal
from labkit.rules.recovery import plan_recovery
from labkit.rules.restore import LIMIT, restore_changes, wanted_volumes
from tests.gitops.hosts import LAB_FILE

from .conftest import NOW, PIN, backup, claim, day, holder, holders, known, living, name_of, store, stored, volume

LAB = load_lab(LAB_FILE)
NEW = f"restored-{name_of(PIN, 5).removeprefix('backup-')}"
GOOD = store(stored(PIN, backup(PIN, 3, verified=True), backup(PIN, 5, verified=True)))
USED = {"notes-data": (PIN, PIN)}
TARGET = BackupTarget(name="default", url="nfs://nas/x", available=True)
ALIVE = living(volume(PIN), bound=USED, backups=known(PIN, 3, 5), targets=(TARGET,))


def git(**spec: Any) -> GitFacts:
    """A repository with one claim, in kubernetes/apps/notes."""
    tree = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "notes-data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn", "volumeName": PIN,
                 "resources": {"requests": {"storage": "64Mi"}}, **spec},
    }  # fmt: skip
    one = Resource(tree, "kubernetes/apps/notes/pvc.yaml", 1, tree, by="flux-system/apps")
    source = {"kind": "Kustomization", "metadata": {"name": "apps", "namespace": "flux-system"}, "spec": {}}
    build = Build(Resource(source, "apps.yaml", 1, source), "kubernetes/apps", (one,))
    cluster = Cluster("flux-system", (build,))
    return GitFacts(url="ssh://git/lab", branch="main", path="", head="0" * 40,
                    repository=RepositoryFacts("", (), (cluster,)))  # fmt: skip


def flux(**apps: Any) -> FluxFacts:
    given = {"kind": "Kustomization", "namespace": "flux-system", "name": "apps", **apps}
    return FluxFacts(objects=(FluxObject.model_validate(given),), read_at=NOW)


def facts(**more: Any) -> dict[str, Any]:
    return {"git": git(), "flux-if-any": flux(), "longhorn-if-any": ALIVE, "holders": holders(holder()),
            "verified": GOOD, **more}  # fmt: skip


def plan(seen: dict[str, Any], **asked: Any) -> Plan:
    return plan_recovery(LAB, seen, goal=recovery_goal(**{"scope": "apps", **asked}))


def ids(made: Plan) -> list[str]:
    return [change.id for change in made.changes]


SUSPEND, WAKE = "kustomization/apps/update", "wake/flux-system/apps/act"
DOWN, UP = "workload-down/Deployment/default/notes/act", "workload-up/Deployment/default/notes/act"
SWITCH, FRESH = "claim-volume/default/notes-data/update", "backup/default/notes-data/create"


@pytest.mark.parametrize("asked", [{"apps": ["notes"]}, {"scope": "volume", "volumes": ["notes-data"]}])
def test_an_app_goes_back_while_flux_rests(asked: dict[str, Any]) -> None:
    made = plan(facts(), **asked)
    assert ids(made) == [
        SUSPEND, f"restored-volume/{NEW}/create", "volume-content/default/notes-data/act", DOWN, SWITCH, UP, FRESH,
        WAKE,
    ]  # fmt: skip
    needs = {change.id: change.needs for change in made.changes}
    assert SUSPEND in needs[DOWN]
    assert SUSPEND in needs[SWITCH]
    assert needs[FRESH] == (UP,)
    assert needs[f"restored-volume/{NEW}/create"] == (), "it is restored while the app still runs"
    wake = made.changes[-1]
    assert wake.needs == (SUSPEND,)
    assert {DOWN, SWITCH, UP} <= set(wake.follows)
    assert made.blockers == ()


def test_what_a_person_suspended_stays_so() -> None:
    made = plan(facts(**{"flux-if-any": flux(suspended=True, suspended_by="flux-client-side-apply")}), apps=["notes"])
    assert SUSPEND not in ids(made)
    assert WAKE not in ids(made)


DONE = living(
    volume(PIN, labels={KEPT: "default.notes-data"}), volume(NEW, of=f"{PIN}@5", made=10, checked="1"),
    bound={"notes-data": (PIN, NEW)}, backups=(*known(PIN, 3, 5), *known(NEW, 11)), targets=(TARGET,),
)  # fmt: skip
ASLEEP = flux(suspended=True, suspended_by="labkit", suspended_for="disaster-recovery")
HELD = holders(holder(replicas=0, running=0, held="1"))


@pytest.mark.parametrize(
    ("more", "asked", "expected"),
    [
        ({"longhorn-if-any": DONE}, {"apps": ["notes"]}, []),
        ({"longhorn-if-any": DONE, "holders": HELD, "flux-if-any": ASLEEP}, {"apps": ["notes"]}, [UP, WAKE]),
        ({"holders": HELD, "flux-if-any": ASLEEP}, {}, [UP, WAKE]),
        ({"flux-if-any": ASLEEP}, {}, [WAKE]),
        ({}, {}, []),
    ],
    ids=["done", "done but for the workload", "given up", "only asleep", "nothing to do"],
)
def test_what_an_interrupted_run_left_is_found(
    more: dict[str, Any], asked: dict[str, Any], expected: list[str]
) -> None:
    made = plan(facts(**more), **asked)
    assert ids(made) == expected
    assert made.blockers == ()


def test_a_claim_that_was_taken_away_asks_which_way_it_shall_go() -> None:
    half = living(volume(PIN, labels={KEPT: "default.notes-data"}), backups=known(PIN, 3, 5), targets=(TARGET,))
    made = plan(facts(**{"longhorn-if-any": half, "holders": HELD, "flux-if-any": ASLEEP}))
    assert UP not in ids(made)
    assert [one.id for one in made.blockers] == ["recovery.half"]
    assert made.blockers[0].remedy.endswith(f"volumes=[default/notes-data={PIN}] goes back")
    goes_on = plan(facts(**{"longhorn-if-any": half, "holders": HELD, "flux-if-any": ASLEEP}), apps=["notes"])
    assert goes_on.blockers == ()
    assert SWITCH in ids(goes_on)


def test_the_way_back_restores_nothing() -> None:
    made = plan(facts(**{"longhorn-if-any": DONE}), scope="volume", volumes=[f"default/notes-data={PIN}"])
    assert ids(made) == [SUSPEND, DOWN, SWITCH, UP, WAKE]
    assert made.changes[2].after["volume"] == PIN


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("default/notes-data@v9", "expected a volume of the backup store, got v9"),
        (f"default/notes-data={NEW}", "expected a volume that was kept or restored for default/notes-data"),
        ("other/notes-data", "did you mean default/notes-data"),
    ],
)
def test_names_that_stand_for_nothing(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        needed_volumes(facts(), recovery_goal(scope="volume", volumes=[name]))


def test_a_claim_that_only_the_store_knows_can_be_named() -> None:
    gone = store(*GOOD.volumes, stored("v2", backup("v2", 4, claim="old-data"), claim="old-data"))
    found = needed_volumes(facts(verified=gone), recovery_goal(scope="volume", volumes=["old-data"]))
    assert [(one.id, one.source, one.claim.place) for one in found] == [("default/old-data", "v2", "")]


def test_a_claim_without_backup_may_begin_empty_when_a_person_says_so() -> None:
    seen = facts(verified=store(), **{"longhorn-if-any": living()})
    (bad,) = needed_volumes(seen, recovery_goal(scope="lab"))
    assert [one.severity for one in check_backups([bad])] == [Severity.ERROR]
    (fine,) = needed_volumes(seen, recovery_goal(scope="lab", empty=["notes-data"]))
    assert [one.severity for one in check_backups([fine])] == [Severity.WARNING]
    assert restore_changes([bad], None) == ()
    made = restore_changes([fine], None, needs=("x",))
    assert [(one.id, one.needs) for one in made] == [
        (f"empty-volume/{PIN}/create", ("x",)), (f"restored-pv/{PIN}/create", (f"empty-volume/{PIN}/create",)),
    ]  # fmt: skip
    assert restore_changes([fine], ALIVE) == ()


@pytest.mark.parametrize(
    ("protected", "confirm", "count"),
    [(True, "", 1), (True, "other", 1), (True, LAB.name, 0), (False, "", 0), (False, "other", 1), (False, LAB.name, 0)],
)
def test_the_lab_must_be_named(protected: bool, confirm: str, count: int) -> None:
    assert len(list(check_confirmed(LAB, confirm, protected=protected))) == count


def test_backups_that_nobody_looked_at_block_a_plan() -> None:
    raw = store(stored(PIN, backup(PIN, 5)))
    assert [one.id for one in plan(facts(verified=raw), apps=["notes"]).blockers] == ["recovery.unverified"]


@pytest.mark.parametrize(
    ("longhorn", "used", "said"),
    [
        (living(volume(PIN), bound=USED, targets=(TARGET,), ready=False), holders(holder()), "recovery.longhorn"),
        (living(volume(PIN), bound=USED), holders(holder()), "recovery.target"),
        (living(volume(PIN), bound=USED, targets=(TARGET,), settings={LIMIT: "0"}), holders(holder()),
         "recovery.limit"),
        (ALIVE, holders(holder(kind="DaemonSet")), "recovery.holder"),
        (ALIVE, holders(holder(kind="Job")), "recovery.holder"),
    ],
    ids=["longhorn away", "no target", "limit 0", "daemon set", "job"],
)  # fmt: skip
def test_what_cannot_work_is_refused_early(longhorn: Any, used: Any, said: str) -> None:
    made = plan(facts(**{"longhorn-if-any": longhorn, "holders": used}), apps=["notes"])
    assert said in [one.id for one in made.blockers]


def test_a_persistent_volume_in_git_is_not_switched() -> None:
    fixed = claim(pinned="notes-pv", handle=PIN)
    (wanted,) = wanted_volumes([fixed], GOOD, longhorn=ALIVE)
    assert [one.id for one in check_living([wanted], ALIVE, holders(), [])] == ["recovery.fixed"]


def test_what_a_person_should_know_of_a_choice() -> None:
    two = store(stored(PIN, backup(PIN, 3), backup(PIN, 5)), stored("v2", backup("v2", 2)))
    (one,) = wanted_volumes([claim(pinned=PIN, requested=128 << 20)], two, as_of=day(4))
    assert [found.id for found in check_names([one])] == ["recovery.later", "recovery.others", "recovery.grown"]
    odd = store(stored("v3", backup("v3", 2, claim="chart-data"), claim="chart-data"))
    assert [found.subject for found in check_unnamed([one], odd)] == ["claim default/chart-data"]


@pytest.mark.parametrize(
    ("longhorn", "used", "said"),
    [
        (ALIVE, holders(holder()), []),
        (living(volume(PIN)), holders(), ["recovery.bound"]),
        (living(volume(PIN, robustness="faulted"), bound=USED), holders(holder()), ["recovery.volume"]),
        (ALIVE, holders(holder(ready=0)), ["recovery.holder"]),
        (ALIVE, HELD, ["recovery.holder"]),
    ],
    ids=["all is well", "not bound", "faulted", "no pods", "scaled down"],
)
def test_afterwards(longhorn: Any, used: Any, said: list[str]) -> None:
    wanted = wanted_volumes([claim(pinned=PIN)], GOOD)
    assert [one.id for one in check_back(wanted, longhorn, used)] == said


def test_the_report() -> None:
    failed = volume("restored-x", restore_failed="no", labels={RESTORED: "default.notes-data"})
    seen = DONE.model_copy(update={"volumes": (*DONE.volumes, failed)})
    bad = store(stored(PIN, backup(PIN, 5, verified=True), backup(PIN, 7, damage=("a block is missing",))))
    wanted = wanted_volumes([claim(pinned=PIN)], bad, longhorn=seen)
    name = f"restored-volume/{NEW}/create"
    events = [{"time": "2026-08-20T12:00:00.000Z", "event": "change started", "change": name},
              {"time": "2026-08-20T12:00:07.500Z", "event": "change done", "change": name}]  # fmt: skip
    report = recovery_report(wanted, seen, HELD, ASLEEP, events)
    (row,) = report.rows
    assert (row.volume, row.taken, row.after, row.seconds, row.kept) == (NEW, "2026-08-05 03:00:00", "1", 7.5, (PIN,))
    assert row.lost == "written after 2026-08-05 03:00:00 (the store has backups up to 2026-08-07 03:00:00)"
    assert row.remark == f"passed over {name_of(PIN, 7)} of 2026-08-07 03:00:00: a block is missing"
    text = "\n".join(report.todo)
    for word in (f"volumes=[default/notes-data={PIN}]", "restored-x is a restore that failed", "is scaled down",
                 "apps is suspended by labkit", "run backup-drill with full"):  # fmt: skip
        assert word in text
    assert "What a person still has to do" in report._repr_html_()
    assert report.as_json()["volumes"][0]["claim"] == "default/notes-data"


def test_a_failed_volume_stands_in_the_report_with_its_cause() -> None:
    wanted = wanted_volumes([claim(pinned=PIN)], GOOD, longhorn=ALIVE)
    name = f"restored-volume/{NEW}/create"
    events = [{"time": "t", "event": "change started", "change": name, "after": {"claim": "default/notes-data"}},
              {"time": "t", "event": "change failed", "change": name, "text": "all replicas\nfailed"}]  # fmt: skip
    (row,) = recovery_report(wanted, ALIVE, holders(), flux(), events).rows
    assert (row.volume, row.remark) == (PIN, "failed: all replicas failed; was not away")
