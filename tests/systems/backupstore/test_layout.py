from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.systems.backupstore.blockmap import BlockMap, BlockRef, parse_map
from labkit.systems.backupstore.catalog import config_problems
from labkit.systems.backupstore.layout import (
    ConfigError,
    Pvc,
    Schedule,
    backup_named_by,
    is_name,
    parse_backup_config,
    parse_quantity,
    parse_volume_config,
    volume_folder,
)

SUM = "ab" * 32
VOLUME = {
    "Name": "vol-a",
    "Size": "4194304",
    "Labels": {"tier": "gold"},
    "CreatedTime": "2026-11-01T02:00:00Z",
    "LastBackupName": "backup-1",
    "LastBackupAt": "2026-11-01T02:00:00Z",
    "BlockCount": "2",
    "BackingImageName": '""',
    "CompressionMethod": '"lz4"',
    "StorageClassName": '"longhorn"',
    "DataEngine": '"v2"',
}
BACKUP = {
    "Name": "backup-1",
    "VolumeName": "vol-a",
    "SnapshotName": "s",
    "SnapshotCreatedAt": "2026-11-01T02:00:00Z",
    "CreatedTime": "2026-11-01T02:00:02Z",
    "Size": "2097152",
    "Labels": None,
    "Parameters": {"backup-block-size": "2097152", "backup-mode": "full"},
    "IsIncremental": True,
    "CompressionMethod": "lz4",
    "Blocks": [{"Offset": 0, "BlockChecksum": SUM}],
    "SingleFile": {"FilePath": ""},
}


def _bytes(base: dict[str, Any], drop: tuple[str, ...] = (), **more: Any) -> bytes:
    return json.dumps({key: value for key, value in (base | more).items() if key not in drop}).encode()


def test_volume_config_reads_doubly_quoted_fields() -> None:
    config = parse_volume_config(_bytes(VOLUME))
    assert (config.size, config.compression, config.storage_class, config.data_engine, config.backing_image) == (
        4194304,
        "lz4",
        "longhorn",
        "v2",
        "",
    )
    assert config.created_at == datetime(2026, 11, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [('"lz4"', "lz4"), ("gzip", "gzip"), ('""', ""), ("", ""), ('"torn', '"torn'), ('"parrot \\"x\\""', 'parrot "x"')],
)
def test_quoting_is_undone_once_and_only_where_it_is(quoted: str, plain: str) -> None:
    assert parse_volume_config(_bytes(VOLUME, BackingImageName=quoted)).backing_image == plain


def test_old_configs_lack_keys() -> None:
    config = parse_volume_config(b'{"Name":"old","Size":"2097152"}')
    assert (config.compression, config.data_engine, config.last_backup) == ("gzip", "v1", "")
    backup = parse_backup_config(_bytes(BACKUP, drop=("CompressionMethod", "Parameters", "SingleFile", "Labels")))
    assert (backup.compression, backup.block_size, backup.single_file) == ("gzip", 2 << 20, "")


def test_keys_have_any_case_and_what_follows_is_ignored() -> None:
    data = _bytes({key.upper(): value for key, value in VOLUME.items()}) + b'\n{"Name":"other"} trailing'
    assert parse_volume_config(data).name == "vol-a"
    lower = {key.lower(): value for key, value in BACKUP.items()}
    lower["blocks"] = [{"OFFSET": 0, "blockchecksum": SUM}]
    assert list(parse_backup_config(_bytes(lower)).blocks) == [BlockRef(0, bytes.fromhex(SUM))]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        _bytes(VOLUME, Size="many"),
        _bytes(VOLUME, Size="-1"),
        _bytes(VOLUME, drop=("Size",)),
        _bytes(VOLUME, CreatedTime="yesterday"),
    ],
)
def test_broken_volume_configs_are_named(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_volume_config(data)


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({"backup-block-size": "16777216"}, 16 << 20),
        ({"backup-block-size": "16Mi"}, 16 << 20),
        ({"backup-block-size": "0"}, 2 << 20),
        ({"backup-block-size": ""}, 2 << 20),
        ({}, 2 << 20),
        (None, 2 << 20),
    ],
)
def test_block_size_is_a_quantity(parameters: object, size: int) -> None:
    assert parse_backup_config(_bytes(BACKUP, Parameters=parameters)).block_size == size


@pytest.mark.parametrize("size", ["4Mi", "-2Mi", "two", "1.5Mi"])
def test_other_block_sizes_are_refused(size: str) -> None:
    with pytest.raises(ConfigError):
        parse_backup_config(_bytes(BACKUP, Parameters={"backup-block-size": size}))


@pytest.mark.parametrize(
    ("text", "value"), [("2097152", 2 << 20), ("2Mi", 2 << 20), ("10Gi", 10 << 30), ("1k", 1000), (" 5 ", 5)]
)
def test_quantities(text: str, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"CreatedTime": ""}, (False, "")),
        ({"CreatedTime": "2026-11-01T02:00:02.123456789Z"}, (True, "")),
        ({"SingleFile": {"FilePath": "backupstore/x.bak"}}, (True, "backupstore/x.bak")),
        ({"SingleFile": None}, (True, "")),
    ],
)
def test_states(change: dict[str, Any], state: tuple[bool, str]) -> None:
    config = parse_backup_config(_bytes(BACKUP, **change))
    assert (config.is_complete, config.single_file) == state


@pytest.mark.parametrize(
    "entry",
    [
        {"Offset": -2097152, "BlockChecksum": SUM},
        {"Offset": 1, "BlockChecksum": SUM},
        {"Offset": "0", "BlockChecksum": SUM},
        {"Offset": 0.0, "BlockChecksum": SUM},
        {"Offset": True, "BlockChecksum": SUM},
        {"Offset": 1 << 70, "BlockChecksum": SUM},
        {"Offset": 0, "BlockChecksum": SUM.upper()},
        {"Offset": 0, "BlockChecksum": SUM[:-1]},
        {"Offset": 0, "BlockChecksum": "../../../../etc/passwd"},
        {"Offset": 0},
        {"BlockChecksum": SUM},
        {},
        None,
        7,
    ],
)
def test_wrong_entries_are_faults_and_the_others_stay(entry: object) -> None:
    good = {"Offset": 2097152, "BlockChecksum": SUM}
    blocks, faults, count = parse_map([entry, good], 2 << 20)
    assert (list(blocks), len(faults), count) == ([BlockRef(2097152, bytes.fromhex(SUM))], 1, 2)


@pytest.mark.parametrize("value", ["text", {"Offset": 0}, 5])
def test_a_map_that_is_no_array_is_a_fault(value: object) -> None:
    assert len(parse_map(value, 2 << 20)[1]) == 1


def test_an_offset_listed_twice_is_a_fault() -> None:
    _, faults, _ = parse_map([{"Offset": 0, "BlockChecksum": SUM}, {"Offset": 0, "BlockChecksum": "cd" * 32}], 2 << 20)
    assert [fault.offset for fault in faults] == [0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"CreatedTime": "", "Size": "0", "Blocks": None}, []),
        ({"Name": "backup-2"}, ["expected backup backup-1 of vol-a"]),
        ({"VolumeName": "vol-b"}, ["expected backup backup-1 of vol-a"]),
        ({"Blocks": None}, ["Size: expected 0"]),
        ({"Size": "4194304"}, ["Size: expected 2097152"]),
        ({"Blocks": [{"Offset": 4194304, "BlockChecksum": SUM}]}, ["beyond the volume's 4194304 bytes"]),
        ({"Blocks": [{"Offset": 7, "BlockChecksum": SUM}]}, ["multiple of 2097152"]),
    ],
)
def test_configs_are_held_against_their_place_and_volume(change: dict[str, Any], words: list[str]) -> None:
    config = parse_backup_config(_bytes(BACKUP, **change))
    found = [text for _, _, text in config_problems(config, "vol-a", "backup-1", 4194304)]
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_labels_tell_the_former_claim_and_its_jobs() -> None:
    jobs = {
        "nightly": {"jobSpec": {"task": "backup", "cron": "0 2 * * *"}, "fromGroup": ["default", "often"]},
        "forced": {"jobSpec": {"task": "backup-force-create", "cron": "0 3 * * 0"}, "fromJob": True},
        "snap": {"jobSpec": {"task": "snapshot", "cron": "0 * * * *"}},
        "odd": "text",
    }
    labels = {
        "KubernetesStatus": json.dumps({"namespace": "shop", "pvcName": "data-web-0", "workloadsStatus": None}),
        "VolumeRecurringJobInfo": json.dumps(jobs),
        "RecurringJob": "nightly",
    }
    config = parse_backup_config(_bytes(BACKUP, Labels=labels))
    assert config.pvc == Pvc("shop", "data-web-0")
    assert config.schedules == (Schedule("forced", "0 3 * * 0"), Schedule("nightly", "0 2 * * *"))
    assert config.job == "nightly"
    assert config.job_labels == {
        "recurring-job-group.longhorn.io/default": "enabled", "recurring-job-group.longhorn.io/often": "enabled",
        "recurring-job.longhorn.io/forced": "enabled",
    }  # fmt: skip
    del jobs["forced"]
    jobs["nightly"] = {"fromGroup": ["default"]}
    default = parse_backup_config(_bytes(BACKUP, Labels={"VolumeRecurringJobInfo": json.dumps(jobs)}))
    assert default.job_labels == {}


@pytest.mark.parametrize("status", ["", "{", "[]", "null", '{"namespace":1}', '{"namespace":"a","pvcName":""}'])
def test_strange_labels_cost_nothing(status: str) -> None:
    labels = {"KubernetesStatus": status, "VolumeRecurringJobInfo": status, "odd": 5}
    config = parse_backup_config(_bytes(BACKUP, Labels=labels))
    assert (config.pvc, config.schedules, config.job_labels) == (None, (), {})
    assert "odd" not in config.labels


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("backup_backup-01.cfg", "backup-01"),
        ("backup_backup_x.cfg", "backup_x"),
        ("backup_a.cfg", None),
        ("backup_backup-01.cfg.tmp.1700000000", None),
        ("volume.cfg", None),
        ("backup_-x.cfg", None),
    ],
)
def test_backup_file_names(file: str, name: str | None) -> None:
    assert backup_named_by(file) == name


def test_volume_folder_and_names() -> None:
    assert volume_folder("pvc-c7e0a1b2-3d4e-45f6-8790-a1b2c3d4e5f6").startswith("3e/49/pvc-")
    assert [is_name(name) for name in ("ab", "a", ".a", "a/b", "a b")] == [True, False, False, False, False]


@given(st.dictionaries(st.integers(0, 10_000), st.binary(min_size=32, max_size=32), max_size=50))
def test_maps_come_back_sorted_from_json(blocks: dict[int, bytes]) -> None:
    entries = [{"Offset": at * (2 << 20), "BlockChecksum": digest.hex()} for at, digest in blocks.items()]
    found, faults, count = parse_map(entries, 2 << 20)
    assert list(found) == [BlockRef(at * (2 << 20), blocks[at]) for at in sorted(blocks)]
    assert (faults, count, len(found)) == ((), len(blocks), len(blocks))
    assert found == BlockMap(found)


@given(st.binary(max_size=200))
def test_any_bytes_either_read_or_are_named(data: bytes) -> None:
    for parse in (parse_volume_config, parse_backup_config):
        with contextlib.suppress(ConfigError):
            parse(data)


@given(st.integers(0, len(_bytes(BACKUP)) - 1), st.integers(0, 255))
def test_a_changed_byte_never_ends_in_another_error(at: int, byte: int) -> None:
    data = bytearray(_bytes(BACKUP))
    data[at] = byte
    try:
        config = parse_backup_config(bytes(data))
    except ConfigError:
        return
    assert config.block_size in {2 << 20, 16 << 20}
