"""What is remembered of scheduled runs, and what the folders of runs tell."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.facts.schedules import Schedule
from labkit.lab import Lab, load_lab
from labkit.run.registry import reader
from labkit.run.scheduled import remember, scheduled
from labkit.secrets import Secrets
from labkit.systems.access import Access
from labkit.systems.schedules import (
    load_record,
    local_zone,
    parse_cronjob,
    parse_given,
    read_runs,
    read_schedules,
    record_file,
    store_record,
)

LAB = Path(__file__).parents[1] / "data" / "e2e" / "lab.yaml"
GIVEN = parse_given("small/report systemd 30 6 * * * Europe/Berlin")


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(LAB)


def access(state: Path) -> Access:
    return Access(on="lab", secrets=Secrets({}), state=state)


def run_folder(outputs: Path, stamp: str, *, ok: bool | None, runbook: str = "health-report", **more: Any) -> None:
    folder = outputs / f"{stamp}-{runbook}"
    folder.mkdir(parents=True)
    told = {"runbook": runbook, "lab": "small", "on": "lab", **more}
    journal = folder / "journal.jsonl"
    journal.write_text(json.dumps({"time": "x", "event": "started", **told}) + "\n")
    os.utime(journal, (1.8e9 - 1e8, 1.8e9 - 1e8))
    if ok is not None:
        finished = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC, second=59)
        (folder / "summary.json").write_text(json.dumps({**told, "ok": ok, "finished": finished.isoformat()}))


@pytest.mark.parametrize(
    "text",
    ["", "small", "small/report systemd 30 6 * * *", "small/report at 30 6 * * * UTC", "report systemd 30 6 * * * UTC",
     "small/Report systemd 30 6 * * * UTC", "small/report systemd 99 6 * * * UTC",
     "small/report systemd 30 6 * * * Europe/Atlantis", "../x/report systemd 30 6 * * * UTC"],
)  # fmt: skip
def test_the_text_of_a_schedule_has_one_form(text: str) -> None:
    with pytest.raises(InputError, match="--schedule"):
        parse_given(text)


def test_the_text_there_and_back() -> None:
    assert str(GIVEN) == "small/report systemd 30 6 * * * Europe/Berlin"
    assert (GIVEN.lab, GIVEN.name, GIVEN.how, GIVEN.cron) == ("small", "report", "systemd", "30 6 * * *")


def first(state: Path, **more: Any) -> Schedule:
    given = {"runbook": "health-report", "on": "lab", "lab_file": LAB, "outputs": None, **more}
    return remember(state, GIVEN, **given)


def test_a_run_is_remembered_from_its_begin_to_its_end(lab: Lab, tmp_path: Path) -> None:
    record = first(tmp_path)
    with scheduled(tmp_path, record) as remembered:
        (during,) = read_schedules(lab, access(tmp_path)).schedules
        assert during.running
        assert (during.pid, during.host, during.ended) == (os.getpid(), platform.node(), None)
        remembered.status = 0
    (after,) = reader("schedules")(lab, access(tmp_path)).schedules
    assert (after.running, after.status, after.success) == (False, 0, after.ended)
    with scheduled(tmp_path, first(tmp_path)) as remembered:
        remembered.status = 4
    (failed,) = read_schedules(lab, access(tmp_path)).schedules
    assert (failed.status, failed.success) == (4, after.success)
    assert failed.since == record.since


@pytest.mark.parametrize(
    ("error", "status"), [(InputError([]), 2), (RuntimeError("out of memory"), 5), (KeyboardInterrupt(), 5)]
)
def test_a_run_that_breaks_is_no_success(error: BaseException, status: int, tmp_path: Path) -> None:
    with pytest.raises(type(error)), scheduled(tmp_path, first(tmp_path)):
        raise error
    seen = load_record(record_file(tmp_path, "report"))
    assert seen is not None
    assert (seen.status, seen.success, seen.running) == (status, None, False)


def test_findings_may_be_what_a_run_is_for(tmp_path: Path) -> None:
    with scheduled(tmp_path, first(tmp_path, findings_ok=True)) as remembered:
        remembered.status = 1
    seen = load_record(record_file(tmp_path, "report"))
    assert seen is not None
    assert seen.success == seen.ended


def test_the_next_run_finds_what_was_missed(tmp_path: Path) -> None:
    record = first(tmp_path)
    old = record.model_copy(update={"since": datetime(2026, 1, 1, tzinfo=UTC),
                                    "started": datetime(2026, 1, 2, 5, 31, tzinfo=UTC)})  # fmt: skip
    store_record(record_file(tmp_path, "report"), old)
    with scheduled(tmp_path, first(tmp_path)) as remembered:
        pass
    missed = remembered.record.missed
    assert len(missed) == 19  # of the last twenty the latest is this run's own
    assert {(one.hour, one.minute) for one in missed} <= {(6, 30), (5, 30), (4, 30)}
    with scheduled(tmp_path, first(tmp_path)) as again:
        pass
    assert again.record.missed == ()


def test_other_times_begin_anew(tmp_path: Path) -> None:
    before = first(tmp_path)
    later = remember(tmp_path, parse_given("small/report cron 0 7 * * * UTC"), runbook="health-report", on="lab",
                     lab_file=LAB, outputs=None)  # fmt: skip
    assert later.since > before.since
    assert later.how == "cron"


def test_a_process_that_is_gone_runs_no_more(lab: Lab, tmp_path: Path) -> None:
    record = first(tmp_path).model_copy(update={"running": True, "pid": 2**22 + 1, "host": platform.node()})
    store_record(record_file(tmp_path, "report"), record)
    assert not read_schedules(lab, access(tmp_path)).schedules[0].running
    store_record(record_file(tmp_path, "report"), record.model_copy(update={"host": "elsewhere"}))
    assert read_schedules(lab, access(tmp_path)).schedules[0].running


def test_a_file_that_cannot_be_read_says_so(lab: Lab, tmp_path: Path) -> None:
    assert read_schedules(lab, access(tmp_path)).schedules == ()
    path = record_file(tmp_path / "small", "report")
    path.parent.mkdir(parents=True)
    path.write_text('{"name": ')
    (seen,) = read_schedules(lab, access(tmp_path / "small")).schedules
    assert (seen.where, bool(seen.problem)) == ("small/report", True)


def test_folders_tell_of_the_last_and_the_last_good_run(lab: Lab, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    run_folder(outputs, "20261120T053000Z", ok=True)
    run_folder(outputs, "20261121T053000Z", ok=False)
    run_folder(outputs, "20261122T053000Z", ok=None)
    run_folder(outputs, "20261123T053000Z", ok=True, lab="other")
    run_folder(outputs, "20261122T060000Z", ok=True, runbook="backup-drill", on="twin")
    (outputs / "20261124T000000Z-broken").mkdir()
    (outputs / "schedules").mkdir()
    drill, report = read_runs(outputs, "small")
    assert (drill.runbook, drill.on, drill.success) == ("backup-drill", "twin", drill.ended)
    assert report.started == datetime(2026, 11, 22, 5, 30, tzinfo=UTC)
    assert report.ended is None
    assert report.success == datetime(2026, 11, 20, 5, 30, 59, tzinfo=UTC)
    assert read_runs(tmp_path / "none", "small") == ()


def test_the_run_that_asks_is_not_the_last_one(lab: Lab, tmp_path: Path) -> None:
    run_folder(tmp_path, "20261120T053000Z", ok=True)
    run_folder(tmp_path, "20261121T053000Z", ok=None)
    os.utime(tmp_path / "20261121T053000Z-health-report" / "journal.jsonl")
    (seen,) = read_runs(tmp_path, "small")
    assert seen.started == datetime(2026, 11, 20, 5, 30, tzinfo=UTC)


def test_a_report_that_found_something_was_made(lab: Lab, tmp_path: Path) -> None:
    run_folder(tmp_path, "20261120T053000Z", ok=False, health={"light": "act"})
    (seen,) = read_runs(tmp_path, "small")
    assert seen.success == seen.ended


def test_a_good_run_by_hand_counts(lab: Lab, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    with scheduled(tmp_path, first(tmp_path, outputs=outputs)) as remembered:
        remembered.status = 4
    run_folder(outputs, "20991231T053000Z", ok=True)
    (seen,) = read_schedules(lab, access(tmp_path)).schedules
    assert (seen.status, seen.success) == (0, datetime(2099, 12, 31, 5, 30, 59, tzinfo=UTC))


CRONJOB: dict[str, Any] = {
    "metadata": {"name": "labkit-health-report", "creationTimestamp": "2026-11-01T00:00:00Z",
                 "labels": {"labkit/schedule": "health-report", "labkit/lab": "small"}},
    "spec": {"schedule": "30 6 * * *", "timeZone": "Europe/Berlin"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, (None, None, None, False)),
        ({"lastScheduleTime": "2026-11-23T05:30:00Z", "lastSuccessfulTime": "2026-11-23T05:31:00Z"},
         (0, "05:31", "05:31", False)),
        ({"lastScheduleTime": "2026-11-23T05:30:00Z", "lastSuccessfulTime": "2026-11-22T05:31:00Z"},
         (None, "05:30", "05:31", False)),
        ({"lastScheduleTime": "2026-11-23T05:30:00Z", "active": [{}]}, (None, None, None, True)),
    ],
)  # fmt: skip
def test_a_cronjob_is_a_schedule(status: dict[str, Any], expected: tuple[Any, ...]) -> None:
    seen = parse_cronjob({**CRONJOB, "status": status}, "small")
    said = [f"{moment:%H:%M}" if moment else None for moment in (seen.ended, seen.success)]
    assert (seen.status, *said, seen.running) == expected
    assert (seen.where, seen.how, seen.zone) == ("small/health-report", "kubernetes", "Europe/Berlin")


def test_the_machine_s_zone_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert local_zone() == "Europe/Berlin"
    monkeypatch.setenv("TZ", "nonsense")
    assert local_zone()
