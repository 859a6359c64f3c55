"""Everything is gone but Git, the keys and the NAS: one run brings all of it back with its data, and a second none."""

from __future__ import annotations

from pathlib import Path

from tests.disaster.conftest import MakeTwin, problems, recover


def test_a_lab_comes_back_with_its_data(make_twin: MakeTwin, lab_file: Path) -> None:
    twin = make_twin("backup-corrupt:linkding-data")
    plan = recover(lab_file)
    assert len(plan) > 40
    assert problems(twin) == []
    claims = {row["claim"]: row for row in twin.data().values()}
    assert all(row["mounted"] for row in claims.values())
    assert claims["linkding-data"]["writes"] == 2  # the newest backup is damaged: the one before it is taken
    assert claims["actual-data"]["writes"] == 3
    assert not recover(lab_file)
