"""Everything is gone but Git, the keys and the NAS: one run brings all of it back with its data, and a second none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage

from labkit.lab import Lab
from labkit.lab.loader import load_lab
from labkit.rules.kept import check_kept, kept_secrets
from labkit.run import start
from labkit.systems.certificates import read_certificates
from labkit.systems.gitread import read_git
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kept import keep_certificates
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


def test_an_earlier_moment_with_certificates_that_were_kept(make_twin: MakeTwin, lab_file: Path) -> None:
    """No certificate is asked for: the one that is kept in Git is there before cert-manager."""
    twin = make_twin()
    run = start("look", lab=lab_file)
    git = read_git(run.lab, run.access)
    kept = kept_secrets(git)
    assert [one.id for one in kept] == ["cert-manager/small-example-tls"]
    assert not list(check_kept(git, datetime.now(UTC)))
    assert list(check_kept(git, datetime.now(UTC) + timedelta(days=200)))
    second = sorted({row["taken"] for found in twin.past()["backups"].values() for row in found.values()})[1]
    recover(lab_file, restore_as_of=second)
    assert problems(twin) == []
    assert {row["writes"] for row in twin.data().values()} == {2}
    cluster = open_cluster(run.lab, run.access)
    rows = read_certificates(run.lab, run.access).certificates
    assert [(row.namespace, row.name, row.ready) for row in rows if row.name == "small-example"] == [
        ("cert-manager", "small-example", True)
    ]
    assert not list(cluster.items("/apis/cert-manager.io/v1/certificaterequests"))
    text, names = keep_certificates(run.lab, run.access)
    assert names == ("cert-manager/letsencrypt-account-key", "cert-manager/small-example-tls")
    assert "PRIVATE KEY" not in text
    assert text.count("ENC[") > 3
    run.close()
