"""Everything is gone but Git, the keys and the NAS: one run brings all of it back with its data, and a second none."""

from __future__ import annotations

from pathlib import Path

import pyrage

from labkit.lab import Lab
from labkit.lab.loader import load_lab
from labkit.twin.git.client import git
from labkit.twin.repository import lab_values, materialise
from tests.disaster.conftest import MakeTwin, problems, recover


def loosened(folder: Path, lab: Lab) -> tuple[str, str]:
    """Write the example repository with a claim that Git does not pin; returns its folder and its age key."""
    identity = pyrage.x25519.Identity.generate()
    tree = materialise(folder, age_recipient=str(identity.to_public()), values=lab_values(lab), commit=False)
    claim = tree / "kubernetes" / "apps" / "linkding" / "pvc.yaml"
    claim.write_text("".join(line for line in claim.read_text().splitlines(True) if "volumeName" not in line))
    git(["-C", tree, "init", "--quiet", f"--initial-branch={lab.git.branch}"])
    git(["-C", tree, "add", "--all"])
    git(["-C", tree, "-c", "user.name=me", "-c", "user.email=me@small.example", "commit", "--quiet", "-m", "Lab"])
    return str(tree), str(identity)


def test_a_lab_comes_back_with_its_data(make_twin: MakeTwin, lab_file: Path, tmp_path: Path) -> None:
    """The newest backup of one volume is damaged, and one claim is not pinned: its volume had a made-up name."""
    repo, age_key = loosened(tmp_path / "repository", load_lab(lab_file))
    twin = make_twin("backup-corrupt:actual-data", repo=repo, age_key=age_key)
    plan = recover(lab_file)
    assert len(plan) > 40
    assert problems(twin) == []
    claims = {row["claim"]: row for row in twin.data().values()}
    assert all(row["mounted"] for row in claims.values())
    assert claims["actual-data"]["writes"] == 2  # the backup of the night before is taken
    assert claims["linkding-data"]["writes"] == 3
    assert not recover(lab_file)
