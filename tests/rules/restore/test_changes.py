"""What is changed to bring volumes back, for every state that a claim can be in."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.facts.longhorn import LonghornFacts
from labkit.facts.restore import KEPT, GitClaim, HolderFacts
from labkit.plan import Change, Plan, Risk
from labkit.rules.restore import fresh_backups, last_of, restore_changes, wanted_volumes

from .conftest import PIN, backup, claim, holder, holders, known, living, name_of, pv_of, store, stored, volume

STORE = store(stored(PIN, backup(PIN, 3), backup(PIN, 5)))
PINNED, FREE = claim(pinned=PIN), claim()
NEW = f"restored-{name_of(PIN, 5).removeprefix('backup-')}"
SYNC, TEST = "backup-target/default/act", "volume-content/default/notes-data/act"
DOWN, UP = "workload-down/Deployment/default/notes/act", "workload-up/Deployment/default/notes/act"
SWITCH = "claim-volume/default/notes-data/update"
KNOWN = known(PIN, 3, 5)
OLD = volume(PIN)
USED = {"notes-data": (PIN, PIN)}
DONE = volume(NEW, of=f"{PIN}@5", made=10)

SEEN = DONE.model_copy(update={"checked": "0123456789abcdef"})


def made(name: str) -> str:
    return f"restored-volume/{name}/create"


def changes(
    one: GitClaim, longhorn: LonghornFacts | None, used: HolderFacts | None = None, **more: Any
) -> tuple[Change, ...]:
    return restore_changes(wanted_volumes([one], STORE, longhorn=longhorn), longhorn, used, **more)


def ids(found: tuple[Change, ...]) -> list[str]:
    return [change.id for change in Plan(runbook="r", lab="l", changes=found).changes]


@pytest.mark.parametrize(
    ("one", "longhorn", "expected"),
    [
        (PINNED, None, [SYNC, made(PIN), TEST, f"restored-pv/{PIN}/create"]),
        (FREE, None, [SYNC, made(PIN), TEST, f"restored-pv/{PIN}/create"]),
        (PINNED, living(), [SYNC, made(PIN), TEST, f"restored-pv/{PIN}/create"]),
        (PINNED, living(backups=KNOWN), [made(PIN), TEST, f"restored-pv/{PIN}/create"]),
        (claim(pinned="notes-pv"), None, [SYNC, made("notes-pv"), TEST, "restored-pv/notes-pv/create"]),
        (claim(pinned="notes-pv", handle=PIN), None, [SYNC, made(PIN)]),
        (PINNED, living(bound={"notes-data": (PIN, "")}), [SYNC, made(PIN), TEST, f"restored-pv/{PIN}/create"]),
        (PINNED, living(OLD, bound=USED), []),
        (PINNED, living(OLD), [f"restored-pv/{PIN}/create"]),
        (PINNED, living(volume(PIN, of=f"{PIN}@5", restore_required=True)), [made(PIN), TEST,
                                                                              f"restored-pv/{PIN}/create"]),
        (PINNED, living(volume(PIN, of=f"{PIN}@5")), [made(PIN), TEST, f"restored-pv/{PIN}/create"]),
        (PINNED, living(volume(PIN, of=f"{PIN}@5", checked="1")), [f"restored-pv/{PIN}/create"]),
        (PINNED, living(volume(PIN, of=f"{PIN}@5"), bound=USED), []),
        (PINNED, living(volume(PIN, of=f"{PIN}@5", restore_failed="all replicas failed"), backups=KNOWN),
         [made(NEW), TEST, f"restored-pv/{PIN}/create"]),
        (PINNED, living(OLD, extra=(pv_of(PIN, PIN, phase="Released"),)), [f"restored-pv/{PIN}/create"]),
        (PINNED, living(OLD, extra=(pv_of(PIN, PIN, phase="Available", claim_uid=""),)), []),
    ],
    ids=["no cluster", "no cluster, no pin", "empty cluster", "backups known", "pinned to another name",
         "PV in Git", "claim waits", "all is well", "volume without PV", "half restored", "restored, not looked at",
         "restored and looked at", "restored and bound", "its restore failed", "PV of a claim that is gone",
         "PV waits for the claim"],
)  # fmt: skip
def test_what_is_missing_comes_back_under_the_name_that_git_pins(
    one: GitClaim, longhorn: LonghornFacts | None, expected: list[str]
) -> None:
    assert ids(changes(one, longhorn)) == expected


def test_an_empty_volume_that_won_the_race_is_set_aside() -> None:
    winner = living(volume(PIN, made=8), bound=USED, backups=KNOWN)
    found = changes(PINNED, winner, holders(holder()))
    assert ids(found) == [made(NEW), TEST, DOWN, SWITCH, UP]
    switch = next(one for one in found if one.id == SWITCH)
    assert (switch.after["volume"], switch.after["pv"], switch.note) == (NEW, PIN, f"{PIN} is kept")
    assert all(change.action != "delete" and change.risk is not Risk.DESTRUCTIVE for change in found)


def test_an_empty_volume_of_a_claim_without_pin_is_set_aside() -> None:
    fresh = living(volume("pvc-new", made=8), bound={"notes-data": ("pvc-new", "pvc-new")}, backups=KNOWN)
    found = changes(FREE, fresh, holders(holder()))
    assert ids(found) == [made(PIN), TEST, DOWN, SWITCH, UP]
    assert next(one for one in found if one.id == SWITCH).after["pv"] == PIN


def test_going_back_restores_beside_and_switches() -> None:
    found = changes(PINNED, living(OLD, bound=USED, backups=KNOWN), holders(holder()), replace=True)
    assert ids(found) == [made(NEW), TEST, DOWN, SWITCH, UP]
    assert [one.needs for one in found] == [(), (made(NEW),), (TEST,), (TEST, DOWN), (SWITCH,)]
    assert all(one.apart for one in found)
    assert [one.risk.value for one in found] == ["safe", "safe", "disruptive", "disruptive", "safe"]


HELD = holders(holder(replicas=0, running=0, held="3"))


@pytest.mark.parametrize(
    ("longhorn", "used", "expected"),
    [
        (living(OLD, volume(NEW, of=f"{PIN}@5", restore_required=True), bound=USED), holders(holder()),
         [made(NEW), TEST, DOWN, SWITCH, UP]),
        (living(OLD, DONE, bound=USED), HELD, [made(NEW), TEST, DOWN, SWITCH, UP]),
        (living(OLD, SEEN, extra=(pv_of(PIN, PIN, phase="Released"),)), HELD, [DOWN, SWITCH, UP]),
        (living(OLD, SEEN), HELD, [DOWN, SWITCH, UP]),
        (living(OLD, SEEN, extra=(pv_of(PIN, NEW, phase="Available"),)), HELD, [DOWN, SWITCH, UP]),
        (living(OLD, DONE, bound={"notes-data": (PIN, NEW)}), HELD, [UP]),
        (living(OLD, DONE, bound={"notes-data": (PIN, NEW)}), holders(holder()), []),
    ],
    ids=["while it restores", "scaled down", "claim gone", "PV gone", "PV made", "claim made", "done"],
)  # fmt: skip
def test_an_interrupted_switch_goes_on(longhorn: LonghornFacts, used: HolderFacts, expected: list[str]) -> None:
    assert ids(changes(PINNED, longhorn, used, replace=True)) == expected


def test_a_plan_does_not_change_while_a_restore_that_was_begun_goes_on() -> None:
    plans = [
        Plan(runbook="r", lab="l", changes=changes(PINNED, living(OLD, one, bound=USED), HELD, replace=True)).digest
        for one in (DONE, volume(NEW, of=f"{PIN}@5", made=10, restore_required=True))
    ]
    assert plans[0] == plans[1]


def test_a_workload_comes_back_with_as_many_replicas_as_it_had() -> None:
    found = changes(PINNED, living(OLD, DONE, bound=USED), HELD, replace=True)
    assert next(one for one in found if one.id == UP).after == {"replicas": 3}


def test_a_volume_that_was_set_aside_is_not_taken_again_for_its_backup() -> None:
    kept = volume(NEW, of=f"{PIN}@5", made=10, labels={KEPT: "default.notes-data"})
    found = changes(PINNED, living(OLD, kept, bound=USED, backups=KNOWN), holders(holder()), replace=True)
    assert ids(found)[0] == made(f"{NEW}-2")


def test_a_workload_of_two_claims_goes_down_once_and_only_for_both() -> None:
    other = "pvc-00000000-0000-0000-0000-000000000002"
    both = [claim(pinned=PIN), claim("notes-search", pinned=other)]
    facts = store(stored(PIN, backup(PIN, 5)), stored(other, backup(other, 5, claim="notes-search")))
    now = living(volume(PIN), volume(other), bound={**USED, "notes-search": (other, other)},
                 backups=(*KNOWN, *known(other, 5)))  # fmt: skip
    used = holders(holder("notes", "notes-data", "notes-search"))
    found = restore_changes(wanted_volumes(both, facts, longhorn=now), now, used, replace=True)
    downs = [one for one in found if one.kind == "workload-down"]
    assert [one.needs for one in downs] == [(TEST, "volume-content/default/notes-search/act")]
    assert [one.needs for one in found if one.id == UP] == [(SWITCH, "claim-volume/default/notes-search/update")]
    assert last_of(found) == (UP,)


def test_the_shape_of_a_volume_and_its_pv() -> None:
    one = claim(pinned=PIN, requested=128 << 20, parameters={"numberOfReplicas": "2", "fsType": "xfs"},
                job_labels={"recurring-job-group.longhorn.io/often": "enabled"})  # fmt: skip
    _, restored, _, pv = changes(one, None)
    assert restored.after == {
        "backup": name_of(PIN, 5), "of": PIN, "taken": "2026-08-05T03:00:00Z", "claim": "default/notes-data",
        "size": 64 << 20, "grow": 128 << 20, "access": "rwo", "replicas": 2,
        "labels": {"labkit/restored-for": "default.notes-data", "recurring-job-group.longhorn.io/often": "enabled"},
    }  # fmt: skip
    assert pv.after == {
        "volume": PIN, "claim": "default/notes-data", "class": "longhorn", "fs": "xfs", "size": 128 << 20,
        "modes": ["ReadWriteOnce"],
    }  # fmt: skip


def test_jobs_that_only_the_backup_remembers_are_armed_again() -> None:
    jobs = {"recurring-job.longhorn.io/nightly": "enabled"}
    facts = store(stored(PIN, backup(PIN, 5), job_labels=jobs))
    for one, expected in ((PINNED, jobs), (claim(pinned=PIN, job_labels={"x": "enabled"}), {"x": "enabled"})):
        made = restore_changes(wanted_volumes([one], facts), None)[1]
        assert made.after["labels"] == {"labkit/restored-for": "default.notes-data", **expected}


def test_a_volume_that_gives_way_passes_on_its_replicas_and_jobs() -> None:
    old = volume(PIN, replicas=3, labels={"recurring-job.longhorn.io/nightly": "enabled", "longhornvolume": PIN})
    found = changes(PINNED, living(old, bound=USED, backups=KNOWN), holders(holder()), replace=True)
    after = found[0].after
    assert after["replicas"] == 3
    assert after["labels"] == {"labkit/restored-for": "default.notes-data",
                               "recurring-job.longhorn.io/nightly": "enabled"}  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "nodes", "width"), [("", 0, 10), ("2", 0, 4), ("0", 0, 1)], ids=["usual", "two", "none"]
)
def test_restores_go_side_by_side_within_longhorns_limit(setting: str, nodes: int, width: int) -> None:
    settings = {"concurrent-volume-backup-restore-per-node-limit": setting}
    found = changes(PINNED, living(settings=settings), nodes=nodes)
    assert [one.width for one in found if one.lane] == [width]
    assert [one.width for one in changes(PINNED, None, nodes=4) if one.lane] == [20]


def test_the_digest_knows_no_clock_and_no_order() -> None:
    other = claim("more-data", pinned="pvc-more")
    facts = store(stored(PIN, backup(PIN, 5)), stored("pvc-more", backup("pvc-more", 4, claim="more-data")))
    later = facts.model_copy(update={"volumes": facts.volumes[::-1], "read_at": facts.read_at.replace(year=2030)})
    plans = [
        Plan(runbook="r", lab="l", changes=restore_changes(wanted_volumes(given, seen), None, nodes=3))
        for given, seen in (([PINNED, other], facts), ([other, PINNED], later))
    ]
    assert plans[0].digest == plans[1].digest


def test_a_fresh_backup_is_taken_once() -> None:
    wanted = wanted_volumes([PINNED], STORE)
    assert [one.id for one in fresh_backups(wanted, None)] == ["backup/default/notes-data/create"]
    bound = {"notes-data": (PIN, NEW)}
    before = living(OLD, DONE, bound=bound, backups=KNOWN)
    assert [one.after for one in fresh_backups(wanted, before, needs=())] == [{"volume": NEW}]
    after = living(OLD, DONE, bound=bound, backups=(*KNOWN, *known(NEW, 11)))
    assert fresh_backups(wanted, after) == ()
    assert fresh_backups(wanted, living(OLD, bound=USED, backups=KNOWN)) == ()
