"""One runbook on many labs side by side, and the page over all of them; a tiny runbook stands in for the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labkit.health import Light
from labkit.run.parameters import Parameter
from labkit.runbooks.inputs import sort_files
from labkit.runbooks.many import Ended, overview_page, refresh_overview, worst_status, write_overview
from labkit.systems.schedules import load_record

ROOT = Path(__file__).parents[2]
LAB = (ROOT / "tests" / "data" / "e2e" / "lab.yaml").read_text()
PARAMETERS = """\
lab: str = "parameters/lab.yaml"  # the lab file
on: str = "twin"  # twin or lab
found: list = []  # labs on which something is found
"""
START = """\
from labkit.checks.base import Check, error
from labkit.run import start
run = start("look", lab=lab, on=on)
"""
VERIFY = """\
ill = [error("a", "thing", "well", "ill")] * found.count(run.lab.name)
run.verify(Check("a", "all is well", (), lambda facts: ill))
"""
CELLS: list[tuple[str, list[str], str]] = [
    ("markdown", [], "# Look\n\nLooks at nothing."),
    ("code", ["parameters"], PARAMETERS),
    ("code", [], START),
    ("code", [], VERIFY),
    ("code", [], "run.finish()"),
]


def notebook() -> str:
    cells = [
        {"cell_type": kind, "id": f"c{number}", "metadata": {"tags": tags}, "source": text,
         **({"outputs": [], "execution_count": None} if kind == "code" else {})}
        for number, (kind, tags, text) in enumerate(CELLS)
    ]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00-look.ipynb").write_text(notebook())
    for name in ("north", "south", "broken"):
        folder = tmp_path / name / "parameters"
        folder.mkdir(parents=True)
        (folder / "lab.yaml").write_text(LAB.replace("name: small\n", f"name: {name}\n"))
    broken = tmp_path / "broken" / "parameters" / "lab.yaml"
    broken.write_text(broken.read_text().replace("role: server", "role: boss"))
    return tmp_path


def labkit(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labkit", *words], cwd=home, capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(home / "state"), "TZ": "UTC"},
    )  # fmt: skip


def test_labs_run_side_by_side_each_with_its_own_folder_and_end(home: Path) -> None:
    files = [word for name in ("north", "south", "broken") for word in ("-f", f"{name}/parameters/lab.yaml")]
    done = labkit(home, "run", "look", *files, "--on", "lab", "-p", "found", "south", "--width", "3")
    assert done.returncode == 2, done.stdout + done.stderr
    folder = next((home / "north" / "outputs").glob("*-look-labs"))
    assert done.stdout.splitlines()[-1] == str(folder / "index.html")
    rows = {row["lab"]: row for row in json.loads((folder / "summary.json").read_text())["labs"]}
    assert {name: (row["status"], row["light"]) for name, row in rows.items()} == {
        "north": (0, "good"), "south": (1, "act"), "broken": (2, "act"),
    }  # fmt: skip
    assert rows["south"]["folder"].startswith(str(home / "south" / "outputs"))
    assert rows["broken"]["sentence"] == "1 mistake in the input; nothing was started"
    page = (folder / "index.html").read_text()
    assert page.index("broken") < page.index("south") < page.index("north")
    link = os.path.relpath(Path(rows["south"]["folder"]) / "00-look.ipynb", folder)
    assert f"<a href='{link}'>south</a>" in page


def test_a_scheduled_run_with_an_overview(home: Path) -> None:
    words = ("run", "look", "--lab", "south/parameters/lab.yaml", "--on", "lab", "--overview", "index.html",
             "--schedule", "south/look kubernetes 30 6 * * * UTC", "-p", "found=south", "--findings-ok")  # fmt: skip
    done = labkit(home, *words)
    assert done.returncode == 0, done.stderr
    assert "needs you" in (home / "index.html").read_text()
    record = load_record(home / "state" / "labkit" / "south" / "schedules" / "look.json")
    assert record is not None
    assert (record.status, record.runbook, record.findings_ok, record.success) == (1, "look", True, record.ended)
    assert record.outputs == str(home / "south" / "outputs")
    assert labkit(home, "schedule", "--check", "-f", "south/parameters/lab.yaml").returncode == 0


def test_lab_files_are_told_from_files_with_parameters(home: Path) -> None:
    known = (Parameter("lab", "str", "", ""), Parameter("vms", "list", [], ""))
    lab, other = home / "north" / "parameters" / "lab.yaml", home / "p.yaml"
    other.write_text("vms: [a]\nlab: x.yaml\n")
    assert sort_files(known, [lab, other, home / "none.yaml"]) == ([other, home / "none.yaml"], [lab])
    other.write_text("a: [\n")
    assert sort_files(known, [other]) == ([other], [])


def test_two_files_with_parameters_for_many_labs_are_refused(home: Path) -> None:
    for name in ("a", "b"):
        (home / f"{name}.yaml").write_text("found: []\n")
    done = labkit(home, "run", "look", "-f", "north/parameters/lab.yaml", "-f", "a.yaml", "-f", "b.yaml")
    assert done.returncode == 2
    assert "expected one file with parameters for all labs, got 2 of them beside 1 lab files" in done.stderr


def summary(lab: str = "north", *, runbook: str = "look", ok: bool = True, **more: Any) -> dict[str, Any]:
    return {"runbook": runbook, "lab": lab, "ok": ok, "finished": "2026-11-23T06:30:59Z", "findings": [], **more}


FINDING = {"severity": "warning", "subject": "a", "expected": "b", "got": "c"}

LIGHTS: list[tuple[int, dict[str, Any] | None, str, Light, str]] = [
    (0, summary(), "", Light.GOOD, "nothing to report"),
    (0, summary(changes=2), "", Light.GOOD, "2 changes"),
    (0, summary(findings=[FINDING]), "", Light.LOOK, "1 warning"),
    (1, summary(findings=[FINDING, FINDING | {"severity": "error"}]), "", Light.ACT, "1 error, 1 warning"),
    (0, summary(health={"light": "unknown", "sentence": "Lab north: nas could not be read."}), "", Light.UNKNOWN,
     "Lab north: nas could not be read."),
    (0, summary(health={"light": "purple"}), "", Light.GOOD, "nothing to report"),
    (1, summary(health={"light": "look", "sentence": "Well but for 1 warning."}), "1 check failed", Light.LOOK,
     "Well but for 1 warning."),
    (4, summary(health={"light": "good", "sentence": "Well."}), "no answer\n  next: wait", Light.ACT, "no answer"),
    (5, None, "killed", Light.ACT, "killed"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "said", "error", "light", "sentence"), LIGHTS)
def test_lights_and_sentences(
    status: int, said: dict[str, Any] | None, error: str, light: Light, sentence: str
) -> None:
    ended = Ended("north", status, summary=said, error=error)
    assert (ended.light, ended.sentence) == (light, sentence)


def test_the_worst_status_counts() -> None:
    assert worst_status([Ended("a", 0), Ended("b", 4), Ended("c", 1)]) == 4
    assert worst_status([]) == 0


def test_the_page_names_a_light_in_words_and_hides_nothing_in_colors(tmp_path: Path) -> None:
    run = tmp_path / "out puts" / "1"
    run.mkdir(parents=True)
    (run / "report.html").write_text("")
    (run / "90-health-report.ipynb").write_text("")
    page = overview_page("look", [Ended("a<b", 0, folder=run), Ended("c", 5, error="<script>")], tmp_path)
    assert "<a href='out puts/1/report.html'>a&lt;b</a>" in page
    assert "■ needs you" in page
    assert "● well" in page
    assert "<script>" not in page
    assert "no runs yet" in overview_page("look", [], tmp_path)


def test_the_latest_run_of_each_lab_is_on_the_page(tmp_path: Path) -> None:
    runs = [
        ("north", "20261122T063000Z", False, "look"),
        ("north", "20261123T063000Z", True, "look"),
        ("south", "20261123T063000Z", False, "look"),
        ("west", "20261123T063000Z", True, "drill"),
    ]
    for lab, stamp, ok, runbook in runs:
        folder = tmp_path / lab / "outputs" / f"{stamp}-{runbook}"
        folder.mkdir(parents=True)
        error = None if ok else {"type": "CheckFailed", "text": "1 check failed"}
        (folder / "summary.json").write_text(json.dumps(summary(lab, ok=ok, runbook=runbook, error=error)))
    (tmp_path / "south" / "outputs" / "20261124T063000Z-look").mkdir()
    (tmp_path / "south" / "outputs" / "20261124T063000Z-look" / "summary.json").write_text("{")
    refresh_overview(tmp_path / "index.html", "look")
    page = (tmp_path / "index.html").read_text()
    assert "look on 2 labs" in page
    assert "<b class='bad'>1 needs you</b>, <b class='good'>1 well</b>" in page
    assert "2026-11-23 06:30" in page
    assert "west" not in page
    written = write_overview(tmp_path, "look", [Ended("north", 0, 1.5)])
    assert written == tmp_path / "index.html"
    assert json.loads((tmp_path / "summary.json").read_text())["labs"][0]["seconds"] == 1.5
