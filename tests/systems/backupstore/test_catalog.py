from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labkit.errors import InputError
from labkit.systems.backupstore.access import open_folder
from labkit.systems.backupstore.catalog import read_catalog
from labkit.systems.backupstore.choose import choose_backup, choose_volumes, parse_utc
from labkit.systems.backupstore.damage import Kind
from labkit.systems.backupstore.extract import extract_backup
from labkit.systems.backupstore.verify import verify_volume
from labkit.twin.longhorn.store import LOCK_DELETION, StoredVolume

BLOCK = 2 << 20


def _edit(path: Path, **more: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def _kinds(chain) -> list[tuple[Kind, str]]:
    return [(damage.kind, damage.backup) for damage in chain.entry("vol-data").damages]


@pytest.mark.parametrize("target", [".", "backupstore"])
def test_the_target_or_its_folder_open_alike(chain, target: str) -> None:
    assert [entry.name for entry in read_catalog(open_folder(chain.root / target)).volumes] == ["vol-data"]


@pytest.mark.parametrize(
    ("names", "words"),
    [(None, "no such folder"), ([], "an empty folder; is the export mounted"), (["media", "iso"], "iso, media")],
)
def test_a_folder_without_a_store_is_named(tmp_path: Path, names: list[str] | None, words: str) -> None:
    root = tmp_path / "nas"
    for name in names if names is not None else ():
        (root / name).mkdir(parents=True)
    if names is not None:
        root.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=words):
        open_folder(root)


def test_foreign_things_are_ignored(chain) -> None:
    volumes = chain.root / "backupstore" / "volumes"
    for path in ("aa/bb/BACKINGIMAGE/locks", "aa/bb/empty-volume", "cc", "aa/bb/.hidden/blocks"):
        (volumes / path).mkdir(parents=True)
    (volumes / "note.txt").write_text("x")
    folder = chain.writer.folder("vol-data")
    (folder / "backups" / "backup_backup-9.cfg.tmp.1700000000").write_text("{")
    (folder / "volume.cfg.tmp.17").write_text("{")
    (entry,) = read_catalog(chain.store).volumes
    assert (len(entry.backups), entry.damages) == (3, ())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, Kind.VOLUME_CFG_MISSING),
        ("", Kind.VOLUME_CFG_BROKEN),
        ('{"Name":"vol-da', Kind.VOLUME_CFG_BROKEN),
        ('{"Name":"other","Size":"8388608"}', Kind.VOLUME_CFG_BROKEN),
    ],
)
def test_a_volume_without_its_config_is_named_and_its_backups_stay(
    chain, tmp_path: Path, text: str | None, kind: Kind
) -> None:
    path = chain.writer.folder("vol-data") / "volume.cfg"
    path.unlink() if text is None else path.write_text(text)
    assert _kinds(chain) == [(kind, "")]
    entry = chain.entry("vol-data")
    report = verify_volume(chain.store, entry)
    assert (report.lost, len(report.restorable), [d.kind for d in report.damages]) == ((), 3, [kind])
    done = extract_backup(chain.store, entry, "backup-2", tmp_path / "i.raw", size=4 * BLOCK)
    assert done.image.read_bytes() == chain.images["vol-data", "backup-2"]
    shorter = extract_backup(chain.store, entry, "backup-2", tmp_path / "j.raw")
    assert shorter.image.read_bytes() == chain.images["vol-data", "backup-2"][: 2 * BLOCK]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("torn", Kind.BACKUP_CFG_BROKEN),
        ("empty", Kind.BACKUP_CFG_BROKEN),
        ({"Name": "backup-1"}, Kind.BACKUP_CFG_BROKEN),
        ({"Size": "0"}, Kind.BACKUP_CFG_BROKEN),
        ({"Blocks": [{"Offset": 1 << 40, "BlockChecksum": "ab" * 32}], "Size": "2097152"}, Kind.MAP_ENTRY),
        ({"Blocks": [{"Offset": 5, "BlockChecksum": "ab" * 32}], "Size": "2097152"}, Kind.MAP_ENTRY),
        ({"Parameters": {"backup-block-size": "16777216"}}, Kind.BACKUP_CFG_BROKEN),
    ],
)
def test_a_broken_backup_config_is_named_and_the_others_stay(chain, change: object, kind: Kind) -> None:
    path = chain.writer.backup_path("vol-data", "backup-2")
    if isinstance(change, dict):
        _edit(path, **change)
    else:
        path.write_bytes(path.read_bytes()[: 0 if change == "empty" else 100])
    assert {(kind, "backup-2")} <= set(_kinds(chain))
    report = verify_volume(chain.store, chain.entry("vol-data"))
    assert (report.lost, report.restorable) == (("backup-2",), ("backup-1", "backup-3"))
    assert {damage.backup for damage in report.damages} == {"backup-2"}


def test_a_missing_backup_config_is_known_from_the_volume(chain) -> None:
    chain.writer.backup_path("vol-data", "backup-3").unlink()
    assert _kinds(chain) == [(Kind.BACKUP_CFG_MISSING, "backup-3")]
    report = verify_volume(chain.store, chain.entry("vol-data"))
    assert report.restorable == ("backup-1", "backup-2")
    assert report.orphans == 1


def test_a_volume_in_the_wrong_place_is_named_and_read(chain) -> None:
    folder = chain.writer.folder("vol-data")
    other = folder.parents[2] / "00" / "11" / "vol-data"
    other.parent.mkdir(parents=True)
    folder.rename(other)
    assert _kinds(chain) == [(Kind.VOLUME_MISPLACED, "")]
    assert verify_volume(chain.store, chain.entry("vol-data")).lost == ()
    assert read_catalog(chain.store, only="vol-data").volumes[0].folder == "volumes/00/11/vol-data"


def test_backups_in_progress_are_listed_and_never_chosen(chain) -> None:
    volume = StoredVolume("vol-data", 4 * BLOCK)
    chain.writer.begin_backup(volume, "backup-4", chain.clock)
    entry = chain.entry("vol-data")
    assert [(item.name, item.state) for item in entry.backups][-1] == ("backup-4", "in progress")
    assert entry.damages == ()
    assert choose_backup(read_catalog(chain.store))[1].name == "backup-3"
    with pytest.raises(InputError, match="in progress"):
        choose_backup(read_catalog(chain.store), backup="backup-4")
    with pytest.raises(InputError, match="in progress"):
        extract_backup(chain.store, entry, "backup-4", chain.root.parent / "i.raw")
    report = verify_volume(chain.store, entry)
    assert (report.restorable, report.damages) == (("backup-1", "backup-2", "backup-3"), ())


def test_single_file_backups_are_told_apart(chain) -> None:
    _edit(chain.writer.backup_path("vol-data", "backup-3"), SingleFile={"FilePath": "backupstore/x.bak"})
    assert chain.entry("vol-data").backups[-1].state == "single file"
    assert choose_backup(read_catalog(chain.store))[1].name == "backup-2"


def test_locks_tell_what_runs(chain) -> None:
    now = datetime.now(UTC)
    chain.writer.lock("vol-data", "lock-00000000000000aa", LOCK_DELETION, now)
    chain.writer.lock("vol-data", "lock-00000000000000bb", 1, now - timedelta(days=3), acquired=False)
    (chain.writer.folder("vol-data") / "locks" / "lock-00000000000000cc.lck").write_text("{")
    (chain.writer.folder("vol-data") / "locks" / "other").write_text("{")
    found = [(lock.kind, lock.acquired, lock.is_live(now)) for lock in chain.entry("vol-data").locks]
    assert found == [("deletion", True, True), ("backup or restore", False, False), ("unreadable", False, True)]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "backup-3"),
        ({"at": "2026-11-02T02:00:00Z"}, "backup-2"),
        ({"at": "2026-11-02T01:59:59"}, "backup-1"),
        ({"at": "2026-11-02T03:00:00+01:00"}, "backup-2"),
        ({"at": "2030-01-01"}, "backup-3"),
        ({"backup": "backup-1"}, "backup-1"),
        ({"volume": "vol-data"}, "backup-3"),
        ({"pvc": "shop/data"}, "backup-3"),
        ({"pvc": "shop/data", "at": "2026-11-01T02:00:00Z"}, "backup-1"),
    ],
)
def test_choices(make_lab, make_block, options: dict[str, str], name: str) -> None:
    lab = make_lab("nas")
    labels = {"KubernetesStatus": json.dumps({"namespace": "shop", "pvcName": "data"})}
    for at in (1, 2, 3):
        volume = StoredVolume("vol-data", BLOCK, labels=labels)
        lab.back_up(volume, f"backup-{at}", make_block("text", at))
    if "at" in options:
        options = options | {"at": parse_utc(options["at"])}
    assert choose_backup(read_catalog(lab.store), **options)[1].name == name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at": datetime(2026, 10, 1, tzinfo=UTC), "volume": "vol-data"}, "the oldest is backup-1 from 2026-11-01"),
        ({"backup": "backup-9"}, "expected one of backup-1, backup-2, backup-3, backup-1"),
        ({"volume": "vol-x"}, "expected one of vol-data, vol-other"),
        ({"pvc": "a/b"}, "expected something that the store holds"),
        ({}, "expected one volume, got 2: vol-data"),
        ({"backup": "backup-1"}, "expected one volume, got 2"),
    ],
)
def test_choices_that_cannot_be_followed(chain, make_block, options: dict[str, object], words: str) -> None:
    chain.back_up(StoredVolume("vol-other", BLOCK), "backup-1", make_block("text", 1))
    with pytest.raises(InputError, match=words):
        choose_backup(read_catalog(chain.store), **options)


def test_a_time_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="2026-11-23T11:30:00Z, got yesterday"):
        parse_utc("yesterday")


def test_volumes_are_chosen_by_claim_or_all(chain) -> None:
    catalog = read_catalog(chain.store)
    assert choose_volumes(catalog) == catalog.volumes == choose_volumes(catalog, volume="vol-data")


def test_a_grown_volume_reads_old_backups_with_zeros_at_the_end(chain, make_block, tmp_path: Path) -> None:
    image = chain.images["vol-data", "backup-3"] + make_block("text", 9)
    chain.back_up(StoredVolume("vol-data", 5 * BLOCK), "backup-4", image)
    done = extract_backup(chain.store, chain.entry("vol-data"), "backup-1", tmp_path / "i.raw")
    assert done.image.read_bytes() == chain.images["vol-data", "backup-1"] + bytes(BLOCK)


def test_a_volume_whose_backups_are_all_gone_is_listed(chain) -> None:
    for at in (1, 2, 3):
        chain.writer.delete_backup("vol-data", f"backup-{at}")
    assert [path.name for path in chain.writer.folder("vol-data").iterdir()] == ["volume.cfg"]
    entry = chain.entry("vol-data")
    assert (entry.newest, entry.backups, entry.damages) == (None, (), ())
    with pytest.raises(InputError, match="expected a complete backup, got none"):
        choose_backup(read_catalog(chain.store))
