"""The health report on a lab that lives: read once, compared, kept, written, and never more than read."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from labkit.errors import CheckFailed, InputError, SystemDown
from labkit.facts.git import GitFacts
from labkit.health import HealthReport, Outcome
from labkit.lab import Lab, load_lab
from labkit.plan import Severity
from labkit.run import Run, registry, start
from labkit.run.connect import Connection
from labkit.run.health import Health, examine, history_of, judge, publish
from labkit.systems.access import Access
from labkit.systems.gitread import read_git
from labkit.twin.client import TwinHandle, start_twin
from tests.gitops.hosts import write_small_lab
from tests.report.health.rows import OVERVIEW, REPORT

SCALE = 0.01
ROOT = Path(__file__).parents[2]


@dataclass
class Living:
    lab_file: Path
    twin: TwinHandle

    def start(self) -> Run:
        return start("health-report", lab=self.lab_file)

    def report(self, **asked: str) -> tuple[Run, Health]:
        """Do what the notebook does up to its last cells."""
        run = self.start()
        health = examine(run, **asked)
        publish(run, health)
        return run, health


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("health")
        lab_file = write_small_lab(folder / "parameters" / "lab.yaml")
        twin = start_twin(lab_file, state=folder / "twin", scenario="running", scale=SCALE, parent=os.getpid())
        patch.setenv("LABKIT_TWIN", str(twin.state))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.chdir(folder)
        yield Living(lab_file, twin)
        twin.stop()


def keys(health: Health, least: Severity = Severity.ERROR) -> set[tuple[str, str]]:
    return {one.key for one in health.report.findings if one.severity.rank >= least.rank}


def test_a_lab_that_lives_is_well_and_nothing_of_it_is_written(living: Living) -> None:
    before = living.twin.status()["writes"]
    run, health = living.report()
    judge(run, health)
    run.finish()
    assert living.twin.status()["writes"] == before
    report = health.report
    assert keys(health) == set()
    assert [one.problem for one in report.cost.readings if one.problem] == []
    assert report.outcome(Outcome.UNASKED) == report.outcome(Outcome.BROKEN) == ()
    assert len(report.checks) >= 60
    assert report.movement is not None
    assert report.movement.gone == ()  # the reports behind it found what this one finds
    assert {"proxmox", "kubernetes", "ssh", "git", "https"} <= set(report.cost.requests)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["ok"] is True
    assert summary["health"] == {"score": report.score, "light": report.light, "sentence": report.sentence}
    assert len(summary["findings"]) == len(report.findings)

    kept = json.loads((run.folder / "health.json").read_text())
    assert kept.pop("overview")["hosts"]
    assert HealthReport.model_validate(kept) == report
    assert ET.parse(run.folder / "health.junit.xml").getroot().attrib["failures"] == "0"
    assert f'labkit_health_score{{lab="small"}} {report.score}\n' in (run.folder / "health.prom").read_text()
    page = (run.folder / "health.html").read_text()
    assert report.sentence in page
    assert len(page.encode()) < 1024 * 1024
    for name in ("capacity", "certificates", "flux", "replicas", "responses", "backups", "restarts"):
        assert health.panel(name).panel.says not in ("", None)
        assert " was read" not in health.panel(name).panel.says
    assert any(row.days_left is not None for row in health.overview.capacity)
    assert all(row.median is not None for row in health.overview.responses)
    assert "the lowest of 41 reports" in health.panel("scores").panel.says
    everything = "".join(path.read_text() for path in run.folder.iterdir() if path.is_file())
    assert [name for name, secret in living.twin.secrets.items() if len(secret) > 8 and secret in everything] == []


def test_what_does_not_answer_is_one_finding_that_is_gone_with_its_cause(living: Living) -> None:
    _, before = living.report()
    living.twin.fault("git-unreachable")
    try:
        run, health = living.report()
        with pytest.raises(CheckFailed, match="git could not be read") as caught:
            judge(run, health)
    finally:
        living.twin.clear("git-unreachable")
    assert ("report.unread", "system git") in keys(health)
    assert {one.missing for one in health.report.outcome(Outcome.UNASKED)} == {("git",)}
    assert len(health.report.outcome(Outcome.PASSED)) > 60
    assert health.report.movement is not None
    assert ("report.unread", "system git") in {one.key for one in health.report.movement.new}
    assert health.report.score < before.report.score
    assert "do what they name" in caught.value.next_step
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (summary["ok"], summary["error"]["type"]) == (False, "CheckFailed")
    run.close()

    run, after = living.report()
    assert after.report.movement is not None
    assert ("report.unread", "system git") in {one.key for one in after.report.movement.gone}
    assert len(history_of(run).read(after.report.made_at).reports) >= 3
    assert after.panel("scores").panel.plot is not None
    run.close()


def read_late(lab: Lab, access: Access) -> GitFacts:
    """Fail the first time that is asked, as what is just in motion does."""
    if not _asked:
        _asked.append("once")
        raise SystemDown("the Git server: expected an answer, got none")
    return read_git(lab, access)


_asked: list[str] = []


def test_what_was_only_in_motion_is_no_news(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.READERS, "git", f"{__name__}:read_late")
    run, health = living.report()
    assert _asked
    assert keys(health) == set()
    events = [json.loads(line) for line in (run.folder / "journal.jsonl").read_text().splitlines()]
    assert [one["systems"] for one in events if one["event"] == "surveyed"][1:] == [["git"]]
    run.close()


def test_the_command_ends_with_1_for_findings_that_are_to_fail(living: Living) -> None:
    words = [sys.executable, "-m", "labkit", "run", "health-report", "--lab", str(living.lab_file), "--json"]
    ended = subprocess.run([*words, "-p", "fail_on", "info"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True, check=False, timeout=300)  # fmt: skip
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert json.loads(ended.stdout)["health"]["sentence"].startswith("Lab small")
    assert "at or above info" in ended.stderr


def test_a_history_that_cannot_be_read_is_a_finding_and_not_the_end(living: Living) -> None:
    run = living.start()
    path = history_of(run).path
    away = path.rename(path.with_suffix(".away"))
    path.write_text("no history at all, but long enough to look like a file of it" * 50)
    try:
        health = examine(run)
        assert keys(health) == {("report.unread", "system history")}
        assert "file is not a database" in publish(run, health).kept
        assert (run.folder / "health.html").exists()
    finally:
        away.replace(path)
        run.close()


def test_on_the_lab_the_newest_files_have_names_that_stay_and_labs_share_one_history(
    living: Living, tmp_path: Path
) -> None:
    joined = living.start()
    lab = load_lab(living.lab_file)
    for name in ("first", "second"):
        run = Run("health-report", lab.model_copy(update={"name": name}), on="lab", folder=tmp_path / name,
                  outputs=tmp_path / "outputs", connection=Connection(joined.access))  # fmt: skip
        publish(run, Health(REPORT.model_copy(update={"lab": name}), OVERVIEW))
        run.close()
    joined.close()
    assert sorted(path.name for path in (tmp_path / "outputs" / "health").iterdir()) == [
        f"{name}.{kind}" for name in ("first", "second") for kind in ("html", "json", "junit.xml", "prom")
    ]
    with closing(sqlite3.connect(tmp_path / "outputs" / "history.sqlite")) as base:
        assert base.execute("SELECT lab, place FROM reports ORDER BY lab").fetchall() == [
            ("first", "lab"), ("second", "lab")
        ]  # fmt: skip


def test_a_wrong_fail_on_is_refused_before_anything_is_read(living: Living) -> None:
    run = living.start()
    with pytest.raises(
        InputError, match="fail_on: expected empty, or one of info, warning, error, never, got 'errors'"
    ):
        examine(run, fail_on="errors")
    assert not list(run.folder.glob("facts-*"))
    run.close()
