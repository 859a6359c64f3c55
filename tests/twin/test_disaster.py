"""The loss of everything: what goes, what stays, and the twin's own record of what each backup holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from labkit.lab.loader import load_lab
from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.k3s.userfiles import user_file
from labkit.twin.longhorn.contents import read_tree, tree_checksum
from labkit.twin.longhorn.former import nights
from labkit.twin.longhorn.store import BackupStore, StoreError

LAB = Path(__file__).parents[1] / "data" / "disaster" / "lab.yaml"
URL = "nfs://nas.lan:/tank/backups"
CLAIMS = {"authelia-config", "linkding-data", "actual-data", "jellyfin-config", "karakeep-data", "karakeep-search"}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinHandle]:
    state = tmp_path_factory.mktemp("twin")
    running = start_twin(LAB, state=state, scenario="disaster", scale=0.004, parent=os.getpid())
    yield running
    running.stop(remove=True)


def test_backups_of_a_lab_that_ran_are_on_the_nas(twin: TwinHandle, tmp_path: Path) -> None:
    past, store = twin.past(), BackupStore(Path(twin.exports[URL]))
    assert {row["claim"] for row in past["end"].values()} == CLAIMS
    assert store.volumes() == sorted(past["end"])
    for volume, found in past["backups"].items():
        assert store.backups(volume) == sorted(found)
        assert [row["writes"] for row in sorted(found.values(), key=lambda row: row["taken"])] == [1, 2, 3]
        assert past["end"][volume]["writes"] == 4
    volume, name = next((v, b) for v, found in past["backups"].items() for b, row in found.items()
                        if (row["claim"], row["writes"]) == ("linkding-data", 2))  # fmt: skip
    image = tmp_path / "image"
    with image.open("wb") as file:
        for offset, block in store.restore(volume, name):
            file.seek(offset)
            file.write(block)
    assert tree_checksum(read_tree(image)) == past["backups"][volume][name]["checksum"]


def test_the_machines_are_gone_and_the_user_has_a_kubeconfig_of_the_lost_cluster(twin: TwinHandle) -> None:
    assert twin.data() == {}
    lab = load_lab(LAB)
    kept = yaml.safe_load(user_file(twin.state, lab.k3s.kubeconfig).read_text())
    assert kept["current-context"] == lab.name
    assert set(twin.secrets) >= {lab.git.age_key, lab.git.deploy_key, lab.k3s.token}


def test_a_block_of_the_newest_backup_is_corrupt_without_any_cluster(twin: TwinHandle) -> None:
    volume = next(v for v, row in twin.past()["end"].items() if row["claim"] == "actual-data")
    newest = max(twin.past()["backups"][volume].items(), key=lambda item: item[1]["taken"])[0]
    store = BackupStore(Path(twin.exports[URL]))
    twin.fault("backup-corrupt:actual-data")
    assert twin.status()["faults"] == []
    whole = {name: _is_whole(store, volume, name) for name in store.backups(volume)}
    assert [name for name, good in whole.items() if not good] == [newest]


def _is_whole(store: BackupStore, volume: str, backup: str) -> bool:
    try:
        return bool(list(store.restore(volume, backup)))
    except StoreError:
        return False


def test_the_nights_before_a_moment_are_past() -> None:
    early, late = datetime(2026, 8, 10, 2, 59, tzinfo=UTC), datetime(2026, 8, 10, 3, 1, tzinfo=UTC)
    assert [moment.day for moment in nights(early)] == [7, 8, 9]
    assert [moment.day for moment in nights(late)] == [8, 9, 10]
