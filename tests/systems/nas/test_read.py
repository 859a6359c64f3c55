"""A NAS of each release, read over its own protocol: certificate verified, key taken or not, gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.errors import InputError, SystemDown
from labkit.lab.loader import load_lab
from labkit.lab.models import Lab, Tls
from labkit.secrets import Secrets
from labkit.systems.access import Access
from labkit.systems.nas import read_nas
from labkit.twin.client import TwinHandle, start_twin

LAB = Path(__file__).parents[2] / "data" / "twin" / "lab.yaml"
PLACE = "nas.lan:443"


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(LAB)


@pytest.fixture(scope="module", params=["25.04", "25.10"])
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinHandle]:
    state = tmp_path_factory.mktemp("nas")
    handle = start_twin(LAB, state=state, scale=0.004, parent=os.getpid(), nas=request.param)
    yield handle
    handle.stop(remove=True)


def access(twin: TwinHandle, tmp_path: Path, *, key: str = "", tls: Tls | None = None) -> Access:
    secrets = {**twin.secrets, **({"env:BENCH_NAS": key} if key else {})}
    trust = {PLACE: tls or Tls(ca=twin.trust[PLACE]["ca"])}
    return Access(on="twin", secrets=Secrets(overrides=secrets), state=tmp_path, connect_file=twin.connect_file,
                  closed=True, trust=trust)  # fmt: skip


def test_a_healthy_box(twin: TwinHandle, lab: Lab, tmp_path: Path) -> None:
    facts = read_nas(lab, access(twin, tmp_path))
    assert facts.version[:5] in {"25.04", "25.10"}
    (pool,) = facts.pools
    assert (pool.name, pool.status, pool.healthy, pool.scan, pool.scan_state) == (
        "tank", "ONLINE", True, "SCRUB", "FINISHED")  # fmt: skip
    assert pool.size > pool.allocated > 0
    assert pool.scan_end is not None
    assert not pool.bad_disks
    assert facts.backup_dataset == "tank/backups"
    assert facts.newest_snapshot is not None
    assert 0 < (facts.read_at - facts.newest_snapshot).total_seconds() < 2 * 86400
    assert facts.dataset_of("/mnt/tank/media/shows").name == "tank/media"  # type: ignore[union-attr]
    assert facts.share_of("/mnt/tank/backups").enabled  # type: ignore[union-attr]
    assert facts.share_of("/mnt/tank/backups-other") is None
    assert (facts.nfs_running, "NFSV4" in facts.nfs_protocols) == (True, True)
    assert [task.cron for task in facts.snapshot_tasks] == ["0 4 * * *"]
    assert [task.state for task in facts.replications] == ["FINISHED"]
    assert {disk.temperature for disk in facts.disks} == {34}
    assert {disk.pool for disk in facts.disks} == {"tank"}
    assert facts.alerts == (), "the only one is dismissed"
    assert [key.expires for key in facts.keys] == [None]


def test_the_number_of_calls_is_known(twin: TwinHandle, lab: Lab, tmp_path: Path) -> None:
    twin.reset()
    read_nas(lab, access(twin, tmp_path))
    status = twin.status()
    assert status["requests"]["nas"] == 1, "one connection"
    assert not status["writes"].get("nas")


def test_a_key_that_it_does_not_take(twin: TwinHandle, lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_nas(lab, access(twin, tmp_path, key="1-wrong-key-of-somebody"))
    assert "nas.api_key" in str(caught.value)
    assert "env:BENCH_NAS: AUTH_ERR" in str(caught.value)
    assert "wrong-key" not in str(caught.value)


def test_another_certificate_gets_no_key(twin: TwinHandle, lab: Lab, tmp_path: Path) -> None:
    pinned = access(twin, tmp_path, tls=Tls(fingerprint=":".join(["AB"] * 32)))
    with pytest.raises(SystemDown, match="expected the certificate with fingerprint AB:AB"):
        read_nas(lab, pinned)
    with pytest.raises(SystemDown, match="CERTIFICATE_VERIFY_FAILED"):
        read_nas(lab, access(twin, tmp_path, tls=Tls()))


def test_without_a_key_nothing_is_asked(twin: TwinHandle, lab: Lab, tmp_path: Path) -> None:
    twin.reset()
    bare = lab.model_copy(update={"nas": lab.nas.model_copy(update={"api_key": None})})
    assert not read_nas(bare, access(twin, tmp_path)).used
    assert not twin.status()["requests"].get("nas")


def test_a_box_that_is_gone(twin: TwinHandle, lab: Lab, tmp_path: Path) -> None:
    twin.fault("nas-unreachable")
    try:
        with pytest.raises(SystemDown, match=r"TrueNAS nas\.lan:443: expected an answer"):
            read_nas(lab, access(twin, tmp_path))
    finally:
        twin.clear("nas-unreachable")
