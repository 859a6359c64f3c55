"""`labkit twin`, as a person uses it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from labkit.commands.twin import app
from labkit.errors import InputError, Refused, SystemDown
from labkit.twin.ailments import AILMENTS
from labkit.twin.faults import FAULTS

LAB = str(Path(__file__).parent.parent / "data" / "twin" / "lab.yaml")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_from_up_to_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "twin"
    monkeypatch.setenv("LABKIT_TWIN", str(state))
    said = run("up", "--lab", LAB, "--fault", "slow:1", "--scale", "0.01").output
    try:
        assert f"export LABKIT_TWIN={state}" in said
        with pytest.raises(Refused, match="runs already"):
            run("up", "--lab", LAB)
        assert "slow:1" in run("status").output
        assert "until cleared" in run("fault", "no-quorum").output
        seen = json.loads(run("status", "--json").output)
        assert (seen["lab"], seen["scale"], seen["faults"]) == ("bench", 0.01, ["slow:1", "no-quorum"])
        assert "is off" in run("clear", "no-quorum").output
        assert "was not on" in run("clear", "no-quorum").output
    finally:
        assert "has ended" in run("down").output
    assert not state.exists()
    assert "No twin runs" in run("down").output
    with pytest.raises(SystemDown):
        run("status")


def test_ailments_are_listed() -> None:
    rows = json.loads(run("ailments", "--json").output)
    assert {row["name"] for row in rows} == AILMENTS.keys()
    assert "nas-pool-degraded" in run("ailments").output


def test_faults_are_listed() -> None:
    rows = json.loads(run("faults", "--json").output)
    assert [row["name"] for row in rows] == sorted(FAULTS)
    assert "template-locked" in run("faults").output


NO_KEY = str(Path(__file__))


@pytest.mark.parametrize("words", [
    ("up", "--lab", LAB, "--age-key", "~/keys.txt"), ("up", "--lab", LAB, "--age-key", f"file:{NO_KEY}"),
    ("up", "--lab", LAB, "--scenario", "nirvana"), ("up", "--lab", LAB, "--proxmox", "7"), ("fault", "no-such"),
])  # fmt: skip
def test_mistakes_are_told_before_anything_starts(words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run(*words, "--state", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_lab_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: expected a file"):
        run("up", "--lab", str(tmp_path / "none.yaml"), "--state", str(tmp_path / "state"))
