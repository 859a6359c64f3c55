"""Apps and volumes of a living cluster go back to a backup; nothing of what was there is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.errors import CheckFailed, InputError, StepFailed
from labkit.facts.evidence import RECOVERY
from labkit.facts.longhorn import backup_of
from labkit.facts.restore import KEPT
from labkit.plan import Severity

from .conftest import Living

LINKDING, ACTUAL = "default/linkding-data", "default/actual-data"


def block_of(living: Living, volume: str, before: set[Path]) -> Path:
    """A block file of a volume that was not there before."""
    return next(one for one in sorted(blocks(living, volume)) if one not in before)


def blocks(living: Living, volume: str) -> set[Path]:
    folder = Path(next(iter(living.twin.exports.values())))
    return set(folder.glob(f"backupstore/volumes/*/*/{volume}/blocks/*/*/*.blk"))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(bytes(data))


def test_an_app_goes_back_and_forth_and_nothing_is_lost(living: Living) -> None:
    old = living.volume(LINKDING).name
    claim = living.claim(LINKDING)
    between, first, second = living.two_states(LINKDING)

    plan, report = living.recover(scope="apps", apps=["linkding"], restore_as_of=between)

    now = living.volume(LINKDING)
    assert living.checksum(now.name) == first
    assert living.checksum(old) == second, "the old volume is there, with all that was on it"
    assert now.checked == first, "its content was looked at before the app had it"
    proof = living.longhorn().proof(*LINKDING.split("/"))
    assert proof is not None, "a recovery proves its backup"
    assert (proof.proven, proof.by, proof.backup, proof.tree) == (True, RECOVERY, backup_of(now.from_backup), first)
    kept = living.longhorn().volume(old)
    assert kept is not None
    assert kept.labels[KEPT] == "default.linkding-data"
    assert kept.groups == ("labkit-kept",)
    assert now.groups == ("often",)
    after = living.claim(LINKDING)
    assert (after.volume, after.labels, after.phase) == (claim.volume, claim.labels, "Bound")
    assert living.suspended() == []
    assert any(one.volume == now.name and one.state == "Completed" for one in living.longhorn().backups)
    assert plan.risk.value == "disruptive"
    (row,) = report.rows
    assert (row.claim, row.volume, row.after, row.kept) == (LINKDING, now.name, first, (old,))
    assert any(f"volumes=[{LINKDING}={old}]" in one for one in report.todo)

    _, again = living.plan(scope="apps", apps=["linkding"], restore_as_of=between)
    assert not again.changes

    living.recover(scope="volume", volumes=[f"{LINKDING}={old}"])
    assert living.volume(LINKDING).name == old
    assert living.checksum(old) == second
    assert living.volume(LINKDING).groups == ("often",)
    assert KEPT not in living.volume(LINKDING).labels


def test_a_damaged_newest_backup_is_passed_over_and_that_is_said(living: Living) -> None:
    volume = living.volume(ACTUAL).name
    _, first = living.backup(ACTUAL)
    known = blocks(living, volume)
    living.later()
    living.write()
    bad, _ = living.backup(ACTUAL)
    flip(block_of(living, volume, known))

    plan, report = living.recover(scope="volume", volumes=["actual-data"])

    assert living.checksum(living.volume(ACTUAL).name) == first
    said = [one for one in plan.findings if one.id == "recovery.passed-over"]
    assert [one.severity for one in said] == [Severity.WARNING]
    assert bad.name in said[0].expected
    assert f"passed over {bad.name}" in report.rows[0].remark
    assert any(f"backup {bad.name} is damaged" in one for one in report.todo)


def test_the_failure_of_one_volume_stops_no_other_and_leaves_its_app_alone(living: Living) -> None:
    broken, fine = "default/jellyfin-config", "default/karakeep-data"
    volume = living.volume(broken).name
    living.backup(fine)
    known = blocks(living, volume)
    living.backup(broken)
    run, plan = living.plan(scope="volume", volumes=[broken, fine])
    flip(next(iter(sorted(blocks(living, volume) - known))))  # after it was verified

    with pytest.raises(StepFailed, match="1 change failed") as failure:
        run.apply(plan)

    assert "expected it to be restored from" in str(failure.value)
    assert living.volume(broken).name == volume, "the app runs on what it had"
    assert living.volume(fine).from_backup, "the other one was restored and switched"
    assert living.suspended() == []
    assert living.workload("jellyfin")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scope": "everything"}, "scope: expected one of lab, apps, volume"),
        ({"scope": "volume", "apps": ["linkding"]}, "apps: expected none with scope=volume"),
        ({"scope": "apps", "apps": ["linkdig"]}, "did you mean linkding?"),
        ({"scope": "apps", "apps": ["whoami"]}, "expected an app with volumes on Longhorn, got whoami"),
        ({"scope": "volume", "volumes": ["linkding-dat"]}, "did you mean default/linkding-data?"),
        ({"scope": "volume", "volumes": ["linkding-data@pvc-none"]}, "a volume of the backup store"),
        ({"scope": "volume", "volumes": ["linkding-data=pvc-none"]}, "a volume that was kept or restored for"),
        ({"scope": "volume", "restore_as_of": "soon"}, "restore_as_of: expected a moment in UTC"),
        ({"scope": "volume", "restore_as_of": "2999-01-01"}, "restore_as_of: expected a moment that has passed"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(living: Living, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        living.plan(**asked)


def test_a_moment_before_the_first_backup_is_refused_before_anything_is_touched(living: Living) -> None:
    living.backup(LINKDING)
    with pytest.raises(CheckFailed, match=r"the oldest backup is from .*, later than 2020-01-01T00:00:00Z"):
        living.recover(scope="volume", volumes=[LINKDING], restore_as_of="2020-01-01")
    assert living.suspended() == []


def test_an_unreadable_store_is_refused_before_anything_is_touched(living: Living) -> None:
    living.twin.fault("nas-unreachable")
    try:
        with pytest.raises(CheckFailed, match="backup store"):
            living.recover(scope="volume", volumes=[LINKDING])
    finally:
        living.twin.clear("nas-unreachable")
