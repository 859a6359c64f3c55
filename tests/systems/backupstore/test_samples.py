"""Stores that Longhorn's own code wrote read exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.systems.backupstore.access import open_folder
from labkit.systems.backupstore.catalog import read_catalog
from labkit.systems.backupstore.extract import extract_backup
from labkit.systems.backupstore.layout import Pvc
from labkit.systems.backupstore.verify import verify_volume
from labkit.twin.longhorn.store import BackupStore, StoredVolume

OUTER = Path(__file__).parents[4] / "shared" / "backupstore"


def _reads_exactly(root: Path, manifest: dict[str, Any], folder: Path) -> int:
    store = open_folder(root)
    entries = {entry.name: entry for entry in read_catalog(store).volumes}
    count = 0
    for volume in manifest["volumes"]:
        entry = entries[volume["volume"]]
        assert entry.config is not None
        assert (entry.config.size, entry.config.compression) == (volume["size"], volume["compression"])
        kept = [backup for backup in volume["backups"] if not backup.get("deleted")]
        assert {config.name for config in entry.complete} == {backup["backup"] for backup in kept}
        report = verify_volume(store, entry)
        assert (report.damages, report.lost, report.orphans) == ((), (), 0)
        assert report.blocks == entry.config.block_count
        for backup in kept:
            done = extract_backup(store, entry, backup["backup"], folder / f"{backup['backup']}.raw")
            assert (done.size, done.sha256) == (backup["raw_size"], backup["raw_sha256"])
            count += 1
    return count


def test_the_sample_store_reads_exactly(sample_store: Path, tmp_path: Path) -> None:
    manifest = json.loads((sample_store / "manifest.json").read_text())
    assert _reads_exactly(sample_store, manifest, tmp_path) == 3


def test_stores_beside_the_repository_read_exactly(tmp_path: Path) -> None:
    if not OUTER.is_dir():
        pytest.skip("no folder ../shared/backupstore beside the repository: its stores are not read")
    manifest = json.loads((OUTER / "manifest.json").read_text())
    assert _reads_exactly(OUTER / "store", manifest, tmp_path) == 9


def test_the_sample_store_names_the_former_claim_and_its_job(sample_store: Path) -> None:
    (entry,) = read_catalog(open_folder(sample_store)).volumes
    assert entry.pvc == Pvc("shop", "data-web-0")
    assert [one.job for one in entry.schedules] == ["backup-daily"]
    assert [config.job for config in entry.complete] == ["", "", "backup-daily"]
    assert entry.complete[0].labels["note"] == 'before upgrade = ok, ümlaut & "quotes" <tag>'


def test_the_writer_writes_the_keys_that_longhorn_writes(sample_store: Path, make_lab, make_block) -> None:
    """Hold the twin's writer against a store of Longhorn's own: same keys, same order, same types."""
    real = BackupStore(sample_store)
    (volume,) = real.volumes()
    lab = make_lab("nas")
    lab.back_up(StoredVolume("vol-data", 2 << 20, labels={"a": "<b>&"}), "backup-1", make_block("text", 1))
    pairs = [
        (real.volume_config(volume), lab.writer.volume_config("vol-data")),
        (real.backup_config(volume, real.backups(volume)[-1]), lab.writer.backup_config("vol-data", "backup-1")),
    ]
    for theirs, ours in pairs:
        assert list(theirs) == list(ours)
        assert {key: type(value) for key, value in theirs.items()} == {key: type(v) for key, v in ours.items()}
    assert b'"a":"\\u003cb\\u003e\\u0026"' in lab.writer.backup_path("vol-data", "backup-1").read_bytes()
