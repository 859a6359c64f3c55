"""Faults on the way back: a recovery gets over them, or stops with the cause and the next run ends; nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labkit.errors import LabError, StepFailed
from labkit.lab import Lab
from labkit.rules.kept import check_kept, kept_secrets
from labkit.run import start
from labkit.run.journal import Journal
from labkit.systems.access import Access
from labkit.systems.certificates import read_certificates
from labkit.systems.gitread import read_git
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kept import keep_certificates
from tests.disaster.conftest import MakeTwin, problems, recover

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


def during(monkeypatch: pytest.MonkeyPatch, word: str, act: Callable[[], None]) -> None:
    """Act once, beside the run, when its journal first tells of something."""
    write, done = Journal.write, threading.Event()

    def told(self: Journal, event: str, **data: object) -> None:
        write(self, event, **data)
        if word in str(data.get("change")) and not done.is_set():
            done.set()
            threading.Thread(target=act).start()

    monkeypatch.setattr(Journal, "write", told)


def test_what_is_wrong_before_the_start_is_refused_before_anything_is_built(
    make_twin: MakeTwin, lab_file: Path
) -> None:
    twin = make_twin("nas-unreachable")
    for fault, words in (
        ("nas-unreachable", "backup store"),
        ("nfs-empty:100000", "empty"),
        ("wrong-age-key", "git.age_key to open it"),
        ("git-unreachable", "Git git.small.example"),
    ):
        twin.fault(fault)
        with pytest.raises(LabError, match=words):
            recover(lab_file)
        twin.clear(fault)
    assert twin.status()["writes"]["proxmox"] == 0
    assert twin.past()["restores"] == []


def test_a_refused_token_stops_with_the_cause_then_few_replicas_and_a_slow_longhorn_are_got_over(
    make_twin: MakeTwin, lab_file: Path
) -> None:
    """It goes back to an earlier moment, and asks for no certificate: the one that is kept in Git is there first."""
    twin = make_twin("k3s-wrong-token:three", "replica-short:two", "longhorn-slow:4")
    second = sorted({row["taken"] for found in twin.past()["backups"].values() for row in found.values()})[1]
    with pytest.raises(StepFailed, match="token"):
        recover(lab_file, restore_as_of=second)
    twin.clear("k3s-wrong-token")
    recover(lab_file, restore_as_of=second)
    assert problems(twin) == []
    assert {row["writes"] for row in twin.data().values()} == {2}
    run = start("look", lab=lab_file)
    try:
        _look_at_certificates(run.lab, run.access)
    finally:
        run.close()


def _look_at_certificates(lab: Lab, access: Access) -> None:
    git, cluster = read_git(lab, access), open_cluster(lab, access)
    assert [one.id for one in kept_secrets(git)] == ["cert-manager/small-example-tls"]
    assert not list(check_kept(git, datetime.now(UTC)))
    assert list(check_kept(git, datetime.now(UTC) + timedelta(days=200)))
    rows = read_certificates(lab, access).certificates
    assert [row.ready for row in rows if (row.namespace, row.name) == ("cert-manager", "small-example")] == [True]
    assert not list(cluster.items("/apis/cert-manager.io/v1/certificaterequests"))
    text, names = keep_certificates(lab, access)
    assert names == ("cert-manager/letsencrypt-account-key", "cert-manager/small-example-tls")
    assert "PRIVATE KEY" not in text
    assert text.count("ENC[") > 3


def test_an_export_that_is_empty_for_a_minute_while_volumes_come_back(
    make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = make_twin()
    during(monkeypatch, "restored-volume/", lambda: twin.fault("nfs-empty:60"))
    for _ in range(3):
        try:
            recover(lab_file)
            break
        except LabError:
            continue
    past, seen = twin.past(), twin.data()
    assert {row["claim"] for row in seen.values() if row["from_backup"]} == {
        row["claim"] for row in past["end"].values()
    }
    assert not [text for text in problems(twin) if "times" not in text]
