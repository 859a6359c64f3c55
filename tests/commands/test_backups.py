from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from labkit.commands.backups import app, mount
from labkit.twin.longhorn.store import BackupStore, StoredVolume, checksum, sparse_reader

BLOCK = 2 << 20
SAMPLE = Path(__file__).parents[1] / "data" / "backupstore"
VOLUME = "pvc-c7e0a1b2-3d4e-45f6-8790-a1b2c3d4e5f6"
START = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    """A copy of the sample store that a test may damage."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "nas"))


def _block(root: Path, number: int) -> Path:
    return sorted(root.rglob("*.blk"))[number]


def test_list_shows_volumes_with_their_claims(run) -> None:
    result = run("list", SAMPLE)
    assert result.exit_code == 0
    assert VOLUME in result.stdout
    assert "shop/data-web-0" in result.stdout
    assert "2026-11-23 11:30:09Z" in result.stdout


def test_list_of_one_claim_shows_its_backups(run) -> None:
    result = run("list", SAMPLE, "--pvc", "shop/data-web-0")
    assert result.exit_code == 0
    assert result.stdout.count("complete") == 3


def test_list_as_json(run) -> None:
    (volume,) = json.loads(run("list", SAMPLE, "--json").stdout)["volumes"]
    assert (volume["volume"], volume["pvc"], volume["size"]) == (VOLUME, "shop/data-web-0", 16777216)
    assert (volume["compression"], volume["block_size"], volume["complete"]) == ("lz4", BLOCK, 3)
    assert (volume["newest"], volume["newest_at"]) == ("backup-f000000000000003", "2026-11-23T11:30:09Z")
    assert volume["schedules"] == [{"job": "backup-daily", "cron": "0 2 * * *"}]
    assert (volume["damages"], volume["locks"]) == ([], [])


def test_list_names_gaps_locks_running_and_damage(run, tmp_path: Path) -> None:
    writer = BackupStore(tmp_path)
    info = {"nightly": {"jobSpec": {"task": "backup", "cron": "0 2 * * *"}}}
    labels = {"VolumeRecurringJobInfo": json.dumps(info), "RecurringJob": "nightly", "volume-encrypted": "enabled"}
    volume = StoredVolume("vol-data", BLOCK, labels=labels, backing_image="parrot")
    today = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0)
    for days in (5, 4, 1, 0):
        when = today - timedelta(days=days)
        writer.write_backup(volume, f"backup-{days}", sparse_reader(b"x" * BLOCK), started=when, finished=when)
    writer.begin_backup(volume, "backup-9", today)
    writer.lock("vol-data", "lock-00000000000000aa", 1, datetime.now(UTC))
    writer.backup_path("vol-data", "backup-5").write_text("{")
    result = run("list", tmp_path, "--json")
    (found,) = json.loads(result.stdout)["volumes"]
    assert result.exit_code == 1
    assert [gap["missed"] for gap in found["gaps"]][:1] == [2]
    assert [backup["state"] for backup in found["backups"]] == ["complete"] * 3 + ["broken", "in progress"]
    assert [(lock["kind"], lock["live"]) for lock in found["locks"]] == [("backup or restore", True)]
    assert [damage["kind"] for damage in found["damages"]] == ["backup-cfg-broken"]
    assert (found["encrypted"], found["backing_image"]) == (True, "parrot")
    text = run("list", tmp_path, "--volume", "vol-data")
    for word in ("1 in progress", "locked: backup", "encrypted", "on backing image parrot", "damaged: 1", "2 missed"):
        assert word in text.stdout
    assert "backup-5" in text.stderr


def test_verify_of_a_whole_store(run) -> None:
    result = run("verify", SAMPLE)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "3 of 3 backups restorable, 6 blocks read (12 MiB)" in result.stdout


@pytest.mark.parametrize("options", [["--backup", "backup-f000000000000001"], ["--at", "2026-11-23T11:30:06Z"]])
def test_verify_of_one_backup(run, options: list[str]) -> None:
    result = run("verify", SAMPLE, *options)
    assert "1 of 1 backups restorable, 2 blocks read" in result.stdout


def test_verify_at_a_time_leaves_out_younger_volumes(run, nas: Path) -> None:
    when = datetime(2026, 11, 23, 12, tzinfo=UTC)
    volume = StoredVolume("vol-young", BLOCK)
    BackupStore(nas).write_backup(volume, "backup-1", sparse_reader(b"x" * BLOCK), started=when, finished=when)
    result = run("verify", nas, "--at", "2026-11-23T11:59:00Z")
    assert (result.exit_code, result.stdout.count("1 of 1 backups restorable")) == (0, 1)
    assert "vol-young: left out:" in result.stderr
    assert run("verify", nas, "--at", "2026-11-23T11:59:00Z", "--volume", "vol-young").exit_code == 2


def test_verify_names_damage_and_what_is_left(run, nas: Path) -> None:
    hurt = _block(nas, 0)
    os.truncate(hurt, 100)
    result = run("verify", nas)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("damage:")]
    assert VOLUME in line
    assert "block-truncated" in line
    assert hurt.name in line
    assert " offset " in line
    (found,) = json.loads(run("verify", nas, "--json").stdout)
    assert (len(found["lost"]), len(found["restorable"])) == (1, 2)
    assert {damage["backup"] for damage in found["damages"]} == set(found["lost"])
    assert run("verify", nas, "--backup", found["restorable"][0]).exit_code == 0


def test_verify_remembers_in_a_state_file(run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert run("verify", SAMPLE, "--state", state).exit_code == 0
    lines = state.read_text().splitlines()
    assert (len(lines), lines[-1]) == (8, "done")
    state.write_text("\n".join(lines[:4]) + "\n")
    again = run("verify", SAMPLE, "--state", state)
    assert "going on with the check" in again.stderr
    assert "3 blocks read" in again.stdout
    assert "3 blocks were found good before" in again.stdout


def test_extract_gives_the_image_that_longhorn_gave(run, tmp_path: Path) -> None:
    manifest = json.loads((SAMPLE / "manifest.json").read_text())
    for backup in manifest["volumes"][0]["backups"]:
        image = tmp_path / f"{backup['backup']}.raw"
        result = run("extract", SAMPLE, image, "--backup", backup["backup"])
        assert result.exit_code == 0
        assert f"sha256 {backup['raw_sha256']}" in result.stdout
        assert hashlib.sha256(image.read_bytes()).hexdigest() == backup["raw_sha256"]


def test_extract_at_a_time_as_json(run, tmp_path: Path) -> None:
    words = (
        "extract",
        SAMPLE,
        tmp_path / "i.raw",
        "--pvc",
        "shop/data-web-0",
        "--at",
        "2026-11-23T11:30:08Z",
        "--json",
    )
    found = json.loads(run(*words).stdout)
    assert (found["backup"], found["taken_at"], found["whole"]) == (
        "backup-f000000000000002",
        "2026-11-23T11:30:07+00:00",
        True,
    )


def test_extract_never_replaces_unless_told(run, tmp_path: Path) -> None:
    image = tmp_path / "i.raw"
    image.write_text("mine")
    result = run("extract", SAMPLE, image)
    assert (result.exit_code, image.read_text()) == (2, "mine")
    assert "--force" in result.stderr
    assert run("extract", SAMPLE, image, "--force").exit_code == 0


def test_extract_of_a_damaged_backup(run, nas: Path, tmp_path: Path) -> None:
    _block(nas, 0).unlink()
    name = json.loads(run("verify", nas, "--json").stdout)[0]["lost"][0]
    image = tmp_path / "i.raw"
    stopped = run("extract", nas, image, "--backup", name)
    assert (stopped.exit_code, image.exists()) == (1, False)
    assert "block-missing" in stopped.stderr
    kept = run("extract", nas, image, "--backup", name, "--keep-going")
    assert (kept.exit_code, image.stat().st_size) == (1, 16777216)
    assert "has holes where blocks are damaged" in kept.stderr


def test_extract_without_volume_cfg(run, nas: Path, tmp_path: Path) -> None:
    next(nas.rglob("volume.cfg")).unlink()
    short = run("extract", nas, tmp_path / "a.raw", "--backup", "backup-f000000000000001")
    assert "--size sets the true one" in short.stderr
    words = ("--backup", "backup-f000000000000001", "--size", "16Mi", "--json")
    found = json.loads(run("extract", nas, tmp_path / "b.raw", *words).stdout)
    manifest = json.loads((SAMPLE / "manifest.json").read_text())
    assert found["sha256"] == manifest["volumes"][0]["backups"][0]["raw_sha256"]
    assert run("extract", nas, tmp_path / "c.raw", *words[:2], "--size", "many").exit_code == 2


def test_diff_of_two_backups_and_of_an_image(run, tmp_path: Path) -> None:
    found = json.loads(run("diff", SAMPLE, "backup-f000000000000001", "backup-f000000000000003", "--json").stdout)
    assert found["bytes"] == sum(one["length"] for one in found["ranges"]) == 2 * BLOCK
    image = tmp_path / "i.raw"
    run("extract", SAMPLE, image, "--backup", "backup-f000000000000001")
    assert run("diff", SAMPLE, "backup-f000000000000001", "--image", image).exit_code == 0
    other = run("diff", SAMPLE, "backup-f000000000000003", "--image", image)
    assert other.exit_code == 1
    assert f"{2 * BLOCK} bytes in 2 changed ranges" in other.stdout
    with image.open("ab") as file:
        file.write(b"more")
    assert "sizes differ" in run("diff", SAMPLE, "backup-f000000000000001", "--image", image).stdout
    both = run("diff", SAMPLE, "backup-f000000000000001", "backup-f000000000000002", "--image", image)
    assert both.exit_code == 2


@pytest.mark.skipif(shutil.which("debugfs", path="/usr/sbin:/sbin") is None, reason="e2fsprogs is not installed")
def test_files_lists_and_reads(run, tmp_path: Path) -> None:
    image = tmp_path / "i.raw"
    run("extract", SAMPLE, image)
    assert "new.txt" in run("files", image).stdout
    assert {entry["name"] for entry in json.loads(run("files", image, "/", "--json").stdout)} >= {"app.log", "www"}
    result = run("files", image, "/new.txt", "--out", tmp_path / "new.txt")
    assert (result.exit_code, (tmp_path / "new.txt").stat().st_size) == (0, 22)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("list", "{tmp}"), 2),
        (("list", "{tmp}/none"), 2),
        (("list", SAMPLE, "--volume", "vol-x"), 2),
        (("list", "sftp://host"), 2),
        (("list", "sftp://me@127.0.0.1:1/x"), 4),
        (("verify", SAMPLE, "--backup", "backup-x"), 2),
        (("verify", SAMPLE, "--at", "soon"), 2),
        (("verify", SAMPLE, "--at", "2020-01-01"), 2),
        (("verify", SAMPLE, "--state", "{tmp}/no/such/folder"), 4),
        (("extract", SAMPLE, "{tmp}/no/i.raw"), 2),
        (("diff", SAMPLE, "backup-x"), 2),
        (("files", "{tmp}/none"), 2),
    ],
)
def test_exit_statuses(run, tmp_path: Path, words: tuple[object, ...], status: int) -> None:
    result = run(*(str(word).format(tmp=tmp_path) for word in words))
    assert (result.exit_code, bool(result.stderr)) == (status, True)


def test_an_unreadable_folder_is_down(run, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every folder")
    (tmp_path / "closed").mkdir(mode=0)
    assert run("list", tmp_path / "closed").exit_code == 4


def test_a_damaged_block_shared_by_backups_names_each(run, tmp_path: Path) -> None:
    writer = BackupStore(tmp_path / "nas")
    volume = StoredVolume("vol-data", 2 * BLOCK)
    for at in (1, 2):
        image = b"a" * BLOCK + bytes([at]) * BLOCK
        when = START + timedelta(days=at)
        writer.write_backup(volume, f"backup-{at}", sparse_reader(image), started=when, finished=when)
    writer.block_path("vol-data", checksum(b"a" * BLOCK)).unlink()
    (found,) = json.loads(run("verify", tmp_path / "nas", "--json").stdout)
    assert [(one["backup"], one["offset"]) for one in found["damages"]] == [("backup-1", 0), ("backup-2", 0)]


def test_mounted_on_the_main_command() -> None:
    parent = typer.Typer()
    parent.command("other")(lambda: None)
    mount(parent)
    assert "verify" in CliRunner().invoke(parent, ["backups", "--help"]).stdout


def test_help_imports_nothing_heavy() -> None:
    program = "import sys, labkit.commands.backups; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"pydantic", "lz4", "asyncssh", "rich.progress", "asyncio"} & set(done.stdout.split())
