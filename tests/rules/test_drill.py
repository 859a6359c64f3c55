"""Cover and drills as tables: facts in, rows and changes out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.backups import claims_are_covered, restores_are_proven, store_is_readable, target_is_ready
from labkit.facts.backups import StoredBackup, StoredVolume, StoreFacts
from labkit.facts.coverage import Cover, span
from labkit.facts.evidence import Evidence, Leftover, label_value, scratch_name
from labkit.facts.longhorn import (
    DRIVER,
    Backup,
    BackupTarget,
    Claim,
    LonghornDisk,
    LonghornFacts,
    LonghornNode,
    PersistentVolume,
    RecurringJob,
    Volume,
)
from labkit.lab import load_lab
from labkit.plan import Plan, Severity
from labkit.rules.coverage import coverage
from labkit.rules.drill import plan_drill

LAB = load_lab(Path(__file__).parents[1] / "data" / "drill" / "lab.yaml")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OLD = NOW - timedelta(days=90)
NIGHTLY = RecurringJob(name="nightly", task="backup", cron="0 3 * * *", retain=7, groups=("default",))
OFTEN = RecurringJob(name="often", task="backup", cron="0 */4 * * *", retain=7, groups=("often",))
TARGET = BackupTarget(name="default", url=LAB.nas.backup_target, available=True, poll_seconds=300)


def volume(name: str = "pvc-1", **more: Any) -> Volume:
    given = {"state": "attached", "robustness": "healthy", "created_at": OLD, "claim": "notes", "namespace": "default"}
    return Volume(name=name, size=1 << 30, replicas=2, **{**given, **more})


def backup(hours: float, name: str = "backup-1", **more: Any) -> Backup:
    moment = NOW - timedelta(hours=hours)
    given = {"state": "Completed", "volume": "pvc-1", "snapshot_created": moment, "created": moment}
    return Backup(name=name, **{**given, **more})


def proof(days: float, **more: Any) -> Evidence:
    given = {"backup": "backup-1", "proven": True, "at": NOW - timedelta(days=days)}
    return Evidence(namespace="default", claim="notes", volume="pvc-1", **{**given, **more})


def facts(*backups: Backup, vol: Volume | None = None, **more: Any) -> LonghornFacts:
    found = vol or volume()
    given: dict[str, Any] = {
        "installed": "1.10.2", "ready": True, "volumes": (found,), "targets": (TARGET,), "backups": backups,
        "jobs": (NIGHTLY,), "claims": (Claim(namespace="default", name="notes", volume="pv-1", requested=1 << 30),),
        "pvs": (PersistentVolume(name="pv-1", driver=DRIVER, handle="pvc-1", fs_type="ext4"),), "read_at": NOW,
    }  # fmt: skip
    return LonghornFacts(**{**given, **more})


def store(*names: str, **more: Any) -> StoreFacts:
    backups = tuple(StoredBackup(name=name, volume="pvc-1", created=NOW) for name in names)
    volumes = (StoredVolume(name="pvc-1", backups=backups),) if names else ()
    return StoreFacts(where="/mnt", volumes=volumes, read_at=NOW, **{"empty": not names, **more})


def plan(longhorn: LonghornFacts, kept: StoreFacts | None = None, **wants: Any) -> Plan:
    return plan_drill(LAB, {"longhorn": longhorn, "store": kept or store("backup-1")}, **wants)


def ids(made: Plan) -> list[str]:
    return [change.id for change in made.changes]


OFTEN_LABEL = {"recurring-job-group.longhorn.io/often": "enabled"}
COVERS: dict[str, tuple[LonghornFacts, Cover, int]] = {
    "last night's": (facts(backup(9)), Cover.ON_TIME, 0),
    "the night before": (facts(backup(33)), Cover.LATE, 1),
    "a week ago": (facts(backup(24 * 7 + 9)), Cover.LATE, 7),
    "no backup ever": (facts(), Cover.NEVER, 90),
    "no backup of a volume of this morning": (facts(vol=volume(created_at=NOW - timedelta(hours=2))), Cover.NEW, 0),
    "a backup that failed": (facts(backup(9, state="Error")), Cover.NEVER, 90),
    "a backup of another volume": (facts(backup(9, volume="pvc-2")), Cover.NEVER, 90),
    "no job": (facts(backup(9), jobs=()), Cover.NO_JOB, 0),
    "a job of snapshots only": (facts(backup(9), jobs=(NIGHTLY.model_copy(update={"task": "snapshot"}),)),
                                Cover.NO_JOB, 0),
    "a group that no job is of": (facts(backup(9), vol=volume(labels=OFTEN_LABEL)), Cover.NO_JOB, 0),
    "the more frequent of two jobs": (
        facts(backup(9), jobs=(NIGHTLY, OFTEN), vol=volume(labels={
            **OFTEN_LABEL, "recurring-job-group.longhorn.io/default": "enabled"})), Cover.LATE, 2),
    "a job by its name": (facts(backup(9), vol=volume(labels={"recurring-job.longhorn.io/nightly": "enabled"})),
                          Cover.ON_TIME, 0),
    "a target that is away": (facts(backup(9), targets=(TARGET.model_copy(update={"available": False}),)),
                              Cover.NO_TARGET, 0),
    "a cron that cannot be read": (facts(backup(900), jobs=(NIGHTLY.model_copy(update={"cron": "every night"}),)),
                                   Cover.ON_TIME, 0),
    "a claim on NFS": (facts(pvs=(PersistentVolume(name="pv-1", driver="nfs"),)), Cover.ELSEWHERE, 0),
    "a claim that is not bound": (facts(pvs=()), Cover.ELSEWHERE, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", COVERS)
def test_how_a_claim_is_covered(case: str) -> None:
    longhorn, cover, missed = COVERS[case]
    (row,) = coverage(longhorn, store("backup-1"))
    assert (row.cover, row.missed) == (cover, missed)


def test_a_row_says_what_backs_it_up_and_whether_the_store_has_it() -> None:
    (row,) = coverage(facts(backup(9), evidence=(proof(3),)), store("backup-1"))
    assert row.jobs == ("nightly (0 3 * * *)",)
    assert (row.last, row.stored, row.age, row.allowed) == ("backup-1", True, 9 * 3600, 9 * 3600)
    assert row.proof == proof(3)
    assert coverage(facts(backup(9)), store())[0].stored is False


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, ""), (20, "0 min"), (5400, "90 min"), (7200, "2 h"), (86400 * 3, "3 days")]
)
def test_spans_for_people(seconds: float | None, words: str) -> None:
    assert span(seconds) == words


BOTH = ["backup/default/notes/create", "drill/default/notes/act"]
PLANS: dict[str, tuple[LonghornFacts, dict[str, Any], list[str]]] = {
    "never proven": (facts(backup(9)), {}, BOTH),
    "proven lately": (facts(backup(9), evidence=(proof(3),)), {}, []),
    "proven long ago": (facts(backup(9), evidence=(proof(8),)), {}, BOTH),
    "proven lately, by a stricter measure": (facts(backup(9), evidence=(proof(3),)), {"proven_within": 1.0}, BOTH),
    "the last drill failed": (facts(backup(9), evidence=(proof(1, proven=False),)), {}, BOTH),
    "no backup yet": (facts(), {}, BOTH),
    "the newest, as it is": (facts(backup(9)), {"fresh": False}, BOTH[1:]),
    "the newest, but there is none": (facts(), {"fresh": False}, []),
    "another claim is named": (facts(), {"volumes": ("photos",)}, []),
    "named by its volume": (facts(), {"volumes": ("pvc-1",)}, BOTH),
    "faulted": (facts(vol=volume(robustness="faulted")), {}, []),
    "being restored": (facts(vol=volume(from_backup="nfs://x", restore_required=True)), {}, []),
    "encrypted": (facts(vol=volume(encrypted=True)), {}, []),
    "an older backup of a drill goes when the new one is proven": (
        facts(backup(200, drill="default.notes"), evidence=(proof(8),)), {},
        [*BOTH, "drill-backups/default/notes/delete"]),
    "two of drills, the newest proven": (
        facts(backup(200, "backup-0", drill="x"), backup(9, drill="x"), evidence=(proof(1),)), {},
        ["drill-backups/default/notes/delete"]),
    "two of drills, none proven": (
        facts(backup(200, "backup-0", drill="x"), backup(9, drill="x"), evidence=(proof(1, backup="backup-0"),)), {},
        []),
    "left by an interrupted drill of it": (
        facts(leftovers=(Leftover(kind="Volume", name="labkit-drill-1", of="default.notes"),)), {}, BOTH),
    "left by an interrupted drill of another": (
        facts(leftovers=(Leftover(kind="Volume", name="labkit-drill-1", of="default.gone"),)), {},
        [*BOTH, "drill-leftover/Volume/labkit-drill-1/delete"]),
    "a snapshot left": (
        facts(evidence=(proof(1),), leftovers=(Leftover(kind="Snapshot", name="labkit-drill-2", volume="pvc-1"),)), {},
        ["drill-leftover/Snapshot/labkit-drill-2/delete"]),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANS)
def test_what_is_planned(case: str) -> None:
    longhorn, wants, expected = PLANS[case]
    made = plan(longhorn, **wants)
    assert ids(made) == expected
    assert made.risk == "safe"
    assert all(change.apart for change in made.changes)


def test_the_digest_knows_neither_names_of_volumes_nor_of_backups() -> None:
    def with_volume(name: str, made: str) -> str:
        pv = PersistentVolume(name="pv-1", driver=DRIVER, handle=name)
        return plan(facts(backup(9, made, volume=name), vol=volume(name), pvs=(pv,))).digest

    assert with_volume("pvc-1", "backup-1") == with_volume("pvc-2", "backup-2")


FINDINGS: dict[str, tuple[LonghornFacts, dict[str, Any], str]] = {
    "unknown claim": (facts(), {"volumes": ("default/note",)}, "did you mean default/notes?"),
    "no room": (
        facts(nodes=(LonghornNode(name="n", disks=(LonghornDisk(name="d", maximum=1 << 29, available=1 << 29),)),)),
        {}, "expected room for a scratch volume of 1 GiB"),
    "restores switched off": (
        facts(settings={"concurrent-volume-backup-restore-per-node-limit": "0"}), {}, "no restore runs at all"),
    "a target that is away": (
        facts(targets=(TARGET.model_copy(update={"available": False, "problem": "timed out"}),)), {}, "timed out"),
    "a measure that is never met": (facts(), {"proven_within": 0.0}, "expected more than 0 days"),
    "no width": (facts(), {"side_by_side": 0}, "expected at least 1"),
    "a probe of nothing": (facts(), {"probes": {"default/note": "true"}}, "did you mean default/notes?"),
    "a probe that is none": (facts(), {"probes": {"default/notes": 3}}, "a command, or image and command"),
    "a probe without a command": (facts(), {"probes": {"default/notes": {"image": "x"}}}, "image and command"),
}  # fmt: skip


@pytest.mark.parametrize("case", FINDINGS)
def test_what_stands_against_it(case: str) -> None:
    longhorn, wants, said = FINDINGS[case]
    found = plan(longhorn, **wants).findings
    assert any(said in str(one) for one in found), found


def test_a_probe_is_handed_on() -> None:
    made = plan(facts(), probes={"default/notes": "test -s db"}, full=True)
    assert made.changes[1].after["probe"] == {"command": "test -s db"}
    assert made.changes[0].after["mode"] == "full"
    given = {"image": "sqlite:3", "command": "sqlite3 db 'PRAGMA integrity_check'"}
    assert plan(facts(), probes={"default/notes": given}).changes[1].after["probe"] == given


def test_a_store_that_cannot_be_read_stops_it_but_an_empty_one_is_a_beginning() -> None:
    assert plan(facts(), store(problem="no such folder", empty=False)).blockers
    assert not plan(facts(), store(problem="an empty folder")).blockers


def test_names_of_scratch_things_fit_longhorn_and_labels() -> None:
    assert len(scratch_name("n" * 63, "c" * 253)) <= 40
    assert len(label_value("n" * 63, "c" * 253)) <= 63
    assert scratch_name("a", "b-c") != scratch_name("a-b", "c")


def find(check: Any, longhorn: LonghornFacts, kept: StoreFacts | None = None) -> list[tuple[Severity, str]]:
    found = check.find({"longhorn": longhorn, "store": kept or store("backup-1")})
    return [(one.severity, str(one)) for one in found]


CHECKS: dict[str, tuple[Any, LonghornFacts, StoreFacts, str]] = {
    "late": (claims_are_covered(), facts(backup(33)), store("backup-1"), "33 h old, 1 missed"),
    "never": (claims_are_covered(), facts(), store(), "got never backed up"),
    "never, as it is detached": (claims_are_covered(), facts(vol=volume(state="detached")), store(),
                                 "it is detached, and setting allow-recurring-job-while-volume-detached is off"),
    "without a job": (claims_are_covered(), facts(jobs=()), store(), "add the label of a group"),
    "a job without volumes": (claims_are_covered(), facts(backup(9), jobs=(NIGHTLY, OFTEN)), store("backup-1"),
                              "recurring job often: expected volumes in often, got none"),
    "on a local disk": (claims_are_covered(), facts(pvs=(PersistentVolume(name="pv-1", driver="local"),)), store(),
                        "got one on local"),
    "no target": (target_is_ready(LAB), facts(targets=()), store(), "defaultBackupStore.backupTarget"),
    "another target": (target_is_ready(LAB), facts(targets=(TARGET.model_copy(update={"url": "nfs://x:/y"}),)),
                       store(), "got nfs://x:/y"),
    "never polled": (target_is_ready(LAB), facts(targets=(TARGET.model_copy(update={"poll_seconds": 0}),)), store(),
                     "never polled"),
    "suddenly empty": (store_is_readable(), facts(backup(9)), store(problem="an empty folder"),
                       "expected backups of 1 volume, got an empty folder"),
    "suddenly empty for Longhorn too": (store_is_readable(), facts(vol=volume(last_backup="backup-1")),
                                        store(problem="an empty folder"), "expected backups of 1 volume"),
    "another folder": (store_is_readable(), facts(backup(9, volume="pvc-9")), store("backup-1"),
                       "must be the same folder"),
    "not proven": (restores_are_proven(), facts(), store(), "got never proven"),
    "proven too long ago": (restores_are_proven(), facts(evidence=(proof(9),)), store(), "got last 9 days ago"),
    "the drill failed": (restores_are_proven(), facts(evidence=(proof(1, proven=False, problem="a bad block"),)),
                         store(), "not proven: a bad block"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHECKS)
def test_what_checks_find(case: str) -> None:
    check, longhorn, kept, said = CHECKS[case]
    found = find(check, longhorn, kept)
    assert any(said in text for _, text in found), found


def test_checks_are_content_with_what_is_right() -> None:
    fine = facts(backup(9), evidence=(proof(1),))
    for check in (claims_are_covered(), target_is_ready(LAB), store_is_readable(), restores_are_proven(["notes"])):
        assert find(check, fine) == []
    assert find(store_is_readable(), facts(), store(problem="an empty folder")) == []
    assert find(restores_are_proven(["photos"]), facts()) == []


def test_what_cannot_be_drilled_is_no_error_afterwards() -> None:
    ((severity, _),) = find(restores_are_proven(), facts(vol=volume(encrypted=True)))
    assert severity is Severity.WARNING
