from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labkit.errors import LabError
from labkit.facts.history import Sample
from labkit.health import FORM, HealthFinding, HealthReport, Light
from labkit.history import MIGRATIONS, History
from labkit.plan import Severity

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


def report(day: float = 0.0, *, lab: str = "home", score: int = 97) -> HealthReport:
    finding = HealthFinding(id="guests.disk", severity=Severity.WARNING, subject="vm a", expected="80 %", got="90 %",
                            area="guests")  # fmt: skip
    return HealthReport(lab=lab, made_at=NOW + timedelta(days=day), sentence="It is well.", light=Light.LOOK,
                        score=score, findings=(finding,))  # fmt: skip


def used(value: float, subject: str = "venus/local-lvm") -> Sample:
    return Sample(series="used", subject=subject, value=value)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "outputs" / "history.sqlite", "home")


def test_a_new_history_is_empty_and_reading_makes_no_file(history: History) -> None:
    assert history.last() is None
    assert history.read(NOW).reports == ()
    assert not history.path.exists()


def test_the_last_report_comes_back_as_it_was_and_values_in_their_order(history: History) -> None:
    for day, value in ((-2, 10.0), (-1, 11.5), (0, 13.0)):
        history.add(report(day, score=90 + day), [used(value), used(1.0, "atlas/local")])
    assert history.last() == report(0, score=90)
    facts = history.read(NOW)
    assert [(one.at, one.score, one.light, one.errors, one.warnings) for one in facts.reports] == [
        (NOW - timedelta(days=2), 88, "look", 0, 1),
        (NOW - timedelta(days=1), 89, "look", 0, 1),
        (NOW, 90, "look", 0, 1),
    ]
    assert [point.value for point in facts.points("used", "venus/local-lvm")] == [10.0, 11.5, 13.0]
    assert facts.points("used", "nowhere") == ()


def test_labs_and_rehearsals_keep_apart_in_one_file(history: History) -> None:
    others = [History(history.path, "second"), History(history.path, "home", "twin")]
    history.add(report(score=1), [used(1.0)])
    for number, other in enumerate(others):
        other.add(report(score=50 + number))
    assert history.last() == report(score=1)
    assert [other.last() for other in others] == [report(score=50), report(score=51)]
    assert [len(one.read(NOW).reports) for one in (history, *others)] == [1, 1, 1]


def test_old_reports_go_with_their_values(history: History) -> None:
    for hour in range(6):
        history.add(report(-30 + hour / 24), [used(float(hour))])
    history.add(report(-1), [used(9.0)])
    history.add(report(0), [used(10.0)])
    facts = history.read(NOW)
    assert [one.at for one in facts.reports] == [NOW + timedelta(days=d) for d in (-30 + 5 / 24, -1, 0)]
    assert [point.value for point in facts.points("used", "venus/local-lvm")] == [5.0, 9.0, 10.0]
    with sqlite3.connect(history.path) as base:
        assert base.execute("SELECT count(*) FROM samples").fetchone() == (3,)
    base.close()


def test_an_older_file_is_brought_up_to_date_with_all_that_is_in_it(history: History) -> None:
    history.add(report(-1))
    step = ("ALTER TABLE reports ADD COLUMN remark TEXT NOT NULL DEFAULT ''",)
    newer = History(history.path, "home", migrations=(*MIGRATIONS, step))
    assert newer.last() == report(-1)
    newer.add(report(0))
    assert len(newer.read(NOW).reports) == 2
    with pytest.raises(LabError, match="expected version 1 or an older one, got 2"):
        history.last()


def test_a_migration_that_fails_leaves_the_file_as_it_was(history: History) -> None:
    history.add(report(-1))
    wrong = ("CREATE TABLE extra (x)", "ALTER TABLE nowhere ADD COLUMN x")
    with pytest.raises(LabError, match="no such table"):
        History(history.path, "home", migrations=(*MIGRATIONS, wrong)).last()
    assert history.last() == report(-1)


def test_what_is_no_history_is_told_with_a_way_out(history: History) -> None:
    history.path.parent.mkdir()
    history.path.write_text("not a database, but long enough to look at" * 40)
    with pytest.raises(LabError, match="file is not a database") as caught:
        history.add(report())
    assert "move the file away" in caught.value.next_step
    with pytest.raises(LabError):
        history.read(NOW)


def test_a_report_in_a_form_that_is_no_longer_read_counts_for_nothing(history: History) -> None:
    history.add(report(-1))
    history.add(report(0).model_copy(update={"form": FORM + 1}))
    assert history.last() == report(-1)
    assert len(history.read(NOW).reports) == 2


def test_two_writers_lose_nothing(history: History) -> None:
    labs = [f"lab-{number}" for number in range(4)]

    def write(lab: str) -> None:
        mine = History(history.path, lab)
        for hour in range(8):
            mine.add(report(-hour / 24, lab=lab), [used(float(hour))])

    with ThreadPoolExecutor(len(labs)) as pool:
        list(pool.map(write, labs))
    assert [len(History(history.path, lab).read(NOW).reports) for lab in labs] == [8] * 4


KILLED = """
import os, sys
from pathlib import Path
from labkit import history
from tests.test_history import report, used

def values():
    yield used(1.0)
    os._exit(9)

history.History(Path(sys.argv[1]), "home").add(report(0), values())
"""


def test_a_writer_that_is_killed_leaves_what_was_there(history: History) -> None:
    history.add(report(-1), [used(5.0)])
    root = Path(__file__).parents[1]
    died = subprocess.run([sys.executable, "-c", KILLED, str(history.path)], cwd=root, check=False, timeout=60)
    assert died.returncode == 9
    assert history.last() == report(-1)
    assert len(history.read(NOW).reports) == 1
    history.add(report(0))
    assert history.last() == report(0)
