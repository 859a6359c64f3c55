"""Everything is gone but Git, the keys and the NAS: one run brings all of it back with its data, and a second none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from labkit.rules.kept import check_kept, kept_secrets
from labkit.run import start
from labkit.systems.certificates import read_certificates
from labkit.systems.gitread import read_git
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kept import keep_certificates
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


def test_kept_certificates_are_put_back_and_no_new_ones_asked_for(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin()
    run = start("look", lab=lab_file)
    git = read_git(run.lab, run.access)
    kept = kept_secrets(git)
    assert [one.id for one in kept] == ["cert-manager/small-example-tls"]
    assert not list(check_kept(git, datetime.now(UTC)))
    assert list(check_kept(git, datetime.now(UTC) + timedelta(days=200)))
    recover(lab_file)
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
