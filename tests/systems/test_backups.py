"""The store of a lab without its cluster: where it is, what it holds, and what is said when it is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labkit.errors import InputError, SystemDown
from labkit.lab import Lab, load_lab
from labkit.secrets import Secrets
from labkit.systems.access import Access
from labkit.systems.backups import Wanted, hash_backup, open_store, read_store, store_place, verify_backups
from labkit.systems.backupstore.verify import verify_volume
from labkit.twin.longhorn.store import BackupStore, StoredVolume, checksum, sparse_reader

BLOCK = 2 << 20
START = datetime(2026, 11, 1, 2, tzinfo=UTC)
LAB = load_lab(Path(__file__).parents[1] / "data" / "drill" / "lab.yaml")
URL = LAB.nas.backup_target


def lab_with(store: str | None) -> Lab:
    return LAB.model_copy(update={"nas": LAB.nas.model_copy(update={"store": store})})


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(on="lab", secrets=Secrets(), state=tmp_path / "state")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A store with two volumes of two blocks, two backups each."""
    folder = tmp_path / "export"
    writer = BackupStore(folder)
    known = '{"namespace":"media","pvcName":"photos"}'
    for name in ("pvc-1", "pvc-2"):
        for number in (1, 2):
            image = bytes([number]) * BLOCK + name.encode() * (BLOCK // 5) + bytes(BLOCK % 5)
            started = START + timedelta(days=number)
            writer.write_backup(StoredVolume(name, 2 * BLOCK), f"backup-{name}-{number}", sparse_reader(image),
                                started=started, finished=started, labels={"KubernetesStatus": known})  # fmt: skip
    return folder


def test_a_mount_goes_before_the_lab_file_and_its_options_do_not_matter(access: Access, tmp_path: Path) -> None:
    mounted = Access(on="lab", secrets=access.secrets, state=access.state, mounts={URL: tmp_path})
    with_options = LAB.model_copy(
        update={"nas": LAB.nas.model_copy(update={"backup_target": f"{URL}/?nfsOptions=soft"})}
    )
    assert store_place(with_options, mounted) == tmp_path
    assert store_place(lab_with("/mnt/backups"), mounted) == tmp_path
    assert store_place(lab_with("/mnt/backups"), access) == Path("/mnt/backups")
    assert store_place(lab_with("sftp://me@nas.lan/tank"), access) == "sftp://me@nas.lan/tank"


def test_a_lab_file_that_does_not_say_where_is_told_what_to_write(access: Access) -> None:
    with pytest.raises(InputError, match=r"nas.store: expected the place of the backup store, got nothing") as caught:
        store_place(LAB, access)
    assert "nas.store: /mnt/backups, or sftp://user@host/path" in caught.value.next_step
    found = read_store(LAB, access)
    assert found.problem.startswith(
        f"{URL}: expected the place of the backup store, got nothing; mount the export here"
    )
    assert not found.empty


def test_what_the_store_holds(access: Access, export: Path) -> None:
    found = read_store(lab_with(str(export)), access)
    assert (found.problem, found.empty, found.where) == ("", False, str(export))
    assert [one.name for one in found.volumes] == ["pvc-1", "pvc-2"]
    first = found.volumes[0]
    assert (first.namespace, first.claim, first.size) == ("media", "photos", 2 * BLOCK)
    assert [one.name for one in first.backups] == ["backup-pvc-1-1", "backup-pvc-1-2"]
    assert first.at(None) == first.backups[1]
    assert first.at(START + timedelta(days=1, hours=3)) == first.backups[0]
    assert first.at(START) is None


def test_an_empty_folder_and_none_are_told_apart(access: Access, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = read_store(lab_with(str(tmp_path / "empty")), access)
    assert empty.empty
    assert "got an empty folder; is the export mounted?" in empty.problem
    missing = read_store(lab_with(str(tmp_path / "nowhere")), access)
    assert not missing.empty
    assert "got no such folder" in missing.problem


def test_backups_are_verified_side_by_side_with_their_damage(access: Access, export: Path) -> None:
    bad = BackupStore(export).block_path("pvc-2", checksum(bytes([2]) * BLOCK))
    bad.write_bytes(b"rotten")
    said: list[str] = []
    seen: list[int] = []
    wanted = [Wanted(name, f"backup-{name}-{number}") for name in ("pvc-1", "pvc-2") for number in (1, 2)]
    lab = lab_with(str(export))
    found = verify_backups(lab, access, [*wanted, Wanted("pvc-9", "x")], on_volume=said.append, on_block=seen.append)
    state = {one.name: one.is_restorable for volume in found for one in volume.backups}
    assert state == {"backup-pvc-1-1": True, "backup-pvc-1-2": True, "backup-pvc-2-1": True, "backup-pvc-2-2": False}
    assert all(one.verified for volume in found for one in volume.backups)
    assert "pvc-2: 1 of 2 backups whole" in said
    assert len(seen) == 6
    assert "offset 0" in found[1].backups[1].damage[0]


def test_a_backup_is_hashed_and_one_that_is_missing_is_told(access: Access, export: Path) -> None:
    lab = lab_with(str(export))
    report = hash_backup(lab, access, Wanted("pvc-1", "backup-pvc-1-1"))
    assert report.is_whole
    with open_store(lab, access) as store:
        assert store.where == str(export)
    with pytest.raises(InputError, match="pvc-9: expected backup b, got no such volume"):
        hash_backup(lab, access, Wanted("pvc-9", "b"))
    with pytest.raises(InputError, match="got only backup-pvc-1-1, backup-pvc-1-2"):
        hash_backup(lab, access, Wanted("pvc-1", "b"))


def test_a_store_behind_sftp_that_does_not_answer_is_a_problem_in_words(access: Access) -> None:
    lab = lab_with("sftp://me@127.0.0.1:9/tank")
    found = read_store(lab, access)
    assert not found.empty
    assert "sftp://me@127.0.0.1:9/tank: expected a connection" in found.problem
    with pytest.raises(SystemDown), open_store(lab, access) as store:
        verify_volume(store, None)  # type: ignore[arg-type]  # never reached
