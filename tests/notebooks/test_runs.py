"""The runbooks as a person starts them: by the command, by plain papermill, all in a row."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.run.parameters import declared, list_notebooks, read_notebook, source
from labkit.twin.client import TwinHandle, start_twin

ROOT = Path(__file__).parents[2]
LAB = ROOT / "tests" / "data" / "e2e" / "lab.yaml"
WRITING = [name for name in list_notebooks() if "approve" in {one.name for one in declared(name)}]


def scenario(name: str) -> str:
    """The state in which a runbook's own twin starts, as its notebook says."""
    text = "".join(source(cell) for cell in read_notebook(list_notebooks()[name])["cells"])
    found = re.search(r'scenario="([\w-]+)"', text)
    return found[1] if found else "empty"


def labkit(*words: str, folder: Path, twin: TwinHandle | None = None) -> subprocess.CompletedProcess[str]:
    given = {"LABKIT_TWIN": str(twin.state)} if twin else {}
    return subprocess.run(
        [sys.executable, "-m", "labkit", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of a user, with a lab file and the runbooks."""
    (tmp_path / "parameters").mkdir()
    # Room for all apps and the drills.
    text = LAB.read_text().replace("cores: 2", "cores: 4").replace("disk: 10 GiB", "disk: 250 GiB")
    (tmp_path / "parameters" / "lab.yaml").write_text(text)
    for extra in (ROOT / "parameters").glob("*.yaml"):
        if extra.name != "lab.yaml":
            (tmp_path / "parameters" / extra.name).write_text(extra.read_text())
    (tmp_path / "parameters" / "apps").mkdir()
    app = (ROOT / "parameters" / "apps" / "excalidraw.yaml").read_text().replace("efym.net", "small.example")
    (tmp_path / "parameters" / "apps" / "excalidraw.yaml").write_text(app)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    return tmp_path


@pytest.fixture(params=WRITING)
def twin_of(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[str, TwinHandle]]:
    name: str = request.param
    lab_file = home / "parameters" / "lab.yaml"
    twin = start_twin(lab_file, state=home / "twin", scenario=scenario(name), scale=0.005, parent=os.getpid())
    yield name, twin
    twin.stop()


def test_without_approval_nothing_is_written_and_with_it_a_second_run_has_nothing_to_do(
    twin_of: tuple[str, TwinHandle], home: Path
) -> None:
    name, twin = twin_of
    refused = labkit("run", name, "--approve", "none", "--json", folder=home, twin=twin)
    summary = json.loads(refused.stdout)
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "nothing was written" in refused.stderr
    assert sum(twin.status()["writes"].values()) == 0

    done = labkit("run", name, "--approve", summary["digest"], "--json", folder=home, twin=twin)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["changes"] > 0
    assert json.loads(done.stdout)["second_plan_changes"] == 0

    again = labkit("run", name, "--json", folder=home, twin=twin)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(again.stdout)["changes"] == 0


def test_plain_papermill_needs_no_wrapper_and_refuses_an_unknown_parameter(home: Path) -> None:
    notebook = str(ROOT / "notebooks" / "10-provision-vms.ipynb")
    words = [sys.executable, "-m", "papermill", "--no-progress-bar", notebook, str(home / "out.ipynb")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    wrong = subprocess.run(
        [*words, "-p", "aprove", "none"], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert wrong.returncode != 0
    assert "got an unknown name; did you mean approve?" in wrong.stderr
    right = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert right.returncode == 0, right.stderr
    folder = next((home / "outputs").glob("*-provision-vms/summary.json"))
    assert json.loads(folder.read_text())["changes"] == 3


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run", "provision-vm"], 2, "did you mean provision-vms?"),
        (["run", "provision-vms", "-p", "destory", "one"], 2, "did you mean destroy?"),
        (["run", "provision-vms", "--on", "prod"], 2, "on: expected twin or lab, got 'prod'"),
        (["run", "provision-vms", "--approve", "yes"], 2, "approve: expected empty, none, safe, or a plan's digest"),
        (["run", "provision-vms", "--lab", "nowhere.yaml"], 2, "nowhere.yaml: expected a file"),
        (["run", "provision-vms", "-f", "nowhere.yaml"], 2, "nowhere.yaml: expected a readable file"),
        (["run", "provision-vms", "-p", "destroy"], 2, ""),
        (["check", "lab", "nowhere.yaml"], 2, "nowhere.yaml: expected a file"),
        (["runbook"], 2, "runbook"),
        (["rehearse", "--lab", "nowhere.yaml"], 2, "nowhere.yaml: expected a file"),
        (["rehearse", "--fault", "no-such-fault"], 2, "no-such-fault"),
        (["rehearse", "--fault", "host-down:nort"], 2, "a host of lab small (north, south), got nort; did you mean"),
        (["rehearse", "--repo", ".", "--age-key", "keys.txt"], 2, "a reference that begins with one of env:, file:"),
    ],
)
def test_wrong_words_are_refused_before_anything_starts(words: list[str], status: int, said: str, home: Path) -> None:
    ended = labkit(*words, folder=home)
    assert ended.returncode == status, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (home / "outputs").exists() or words[0] == "rehearse"


def test_runbooks_are_listed_with_their_parameters(home: Path) -> None:
    listed = json.loads(labkit("runbooks", "--json", folder=home).stdout)
    assert [row["name"] for row in listed] == list(list_notebooks())
    assert all(row["about"] for row in listed)
    assert "approve: str = ''" in labkit("runbooks", folder=home).stdout


def test_a_lab_of_one_host_and_one_vm_is_rehearsed(home: Path) -> None:
    file = home / "parameters" / "lab.yaml"
    lines = file.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("  two:", "  three:"))]
    (home / "parameters" / "apps" / "excalidraw.yaml").unlink()  # an app of the rehearsal's own stands in
    file.write_text("\n".join(kept).replace("{north: {}, south: {}}", "{north: {}}") + "\n")
    ended = labkit("rehearse", "--json", "--scale", "0.005", folder=home)
    summary = json.loads(ended.stdout)
    assert ended.returncode == 0, ended.stderr
    assert summary["ok"] is True
    assert summary["lab"] == "small"
    *names, loss, last = [row["name"] for row in summary["runbooks"]]
    assert names == list(list_notebooks())
    assert loss == "disaster-recovery (everything lost)"
    assert last == "health-report (of what came back)"
    assert all(row["ok"] and row["second_plan_changes"] == 0 and row["error"] is None for row in summary["runbooks"])
    folder = next((home / "outputs").glob("*-rehearsal"))
    assert json.loads((folder / "summary.json").read_text()) == summary
    page = (folder / "index.html").read_text()
    assert f"href='{Path(summary['runbooks'][-1]['notebook']).parent}/health.html'" in page
    for row in summary["runbooks"]:
        assert (folder / row["notebook"]).exists()
        assert (folder / row["notebook"]).with_suffix(".html").exists()
        assert row["notebook"].removesuffix(".ipynb") + ".html" in page
