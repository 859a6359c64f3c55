"""Nothing is written without approval, and exactly the approved plan with it: on the twin and on the lab."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit.errors import NotApproved, Refused
from labkit.run.journal import read_journal
from tests.e2e.conftest import MakeTwin, lab_on, provision


def summary(lab_file: Path) -> dict[str, object]:
    newest = max((lab_file.parent.parent / "outputs").glob("*-provision-vms*/summary.json"))
    data: dict[str, object] = json.loads(newest.read_text())
    return data


def test_on_the_lab_nothing_is_written_until_the_plan_is_approved(
    make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = make_twin()
    real = lab_on(twin, lab_file, monkeypatch)
    with pytest.raises(NotApproved) as caught:
        provision(real, on="lab")
    assert sum(twin.status()["writes"].values()) == 0
    assert summary(lab_file)["ok"] is False

    with pytest.raises(NotApproved):
        provision(real, on="lab", approve="none")
    with pytest.raises(Refused, match="expected the approved digest 000000000000"):
        provision(real, on="lab", approve="0" * 12)
    assert sum(twin.status()["writes"].values()) == 0

    plan, run = provision(real, on="lab", approve=caught.value.digest)
    assert len(plan) == 3
    assert [event["event"] for event in read_journal(run.folder / "journal.jsonl")][-1] == "finished"
    again, _ = provision(real, on="lab")
    assert len(again) == 0


def test_the_same_plan_has_the_same_digest_on_the_twin_and_on_the_lab(
    make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_twin()
    monkeypatch.setenv("LABKIT_TWIN", str(first.state))
    with pytest.raises(NotApproved) as rehearsed:
        provision(lab_file, approve="none")
    assert sum(first.status()["writes"].values()) == 0
    other = make_twin()
    with pytest.raises(NotApproved) as real:
        provision(lab_on(other, lab_file, monkeypatch), on="lab")
    assert "this very plan was not rehearsed on the twin yet" in str(real.value)
    # The key pairs of the two differ, as a twin's and a lab's do: they are no part of the digest.
    assert rehearsed.value.digest == real.value.digest

    monkeypatch.setenv("LABKIT_TWIN", str(first.state))
    provision(lab_file)
    with pytest.raises(NotApproved, match=r"rehearsed on the twin at 2\d{3}-"):
        provision(lab_on(other, lab_file, monkeypatch), on="lab")


def test_on_the_twin_an_empty_approval_goes_ahead_and_the_second_plan_is_empty(
    make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = make_twin()
    monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
    plan, run = provision(lab_file)
    assert [change.target for change in plan.changes] == ["one", "two", "three"]
    data = json.loads((run.folder / "summary.json").read_text())
    assert data["ok"] is True
    assert data["changes"] == 3
    assert data["second_plan_changes"] == 0
    writes = twin.status()["writes"]
    again, _ = provision(lab_file)
    assert len(again) == 0
    assert twin.status()["writes"] == writes


def test_no_secret_of_the_twin_stands_in_any_file_of_a_run(
    make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = make_twin("clone-fails")
    monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
    with pytest.raises(Exception, match="clone"):
        provision(lab_file)
    provision(lab_file)
    files = [path for path in (lab_file.parent.parent / "outputs").rglob("*") if path.is_file()]
    assert len(files) > 6
    for path in files:
        text = path.read_text()
        for reference, secret in twin.secrets.items():
            for line in secret.splitlines():
                assert len(line) < 12 or line not in text, f"{reference} in {path}"
