from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from labkit.errors import InputError, StepFailed
from labkit.systems.backupstore.access import open_folder
from labkit.systems.backupstore.catalog import read_catalog
from labkit.systems.backupstore.extract import extract_backup
from labkit.systems.backupstore.files import content_of, list_files, read_file

needs_debugfs = pytest.mark.skipif(
    shutil.which("debugfs", path="/usr/sbin:/sbin:/usr/bin:/bin") is None, reason="e2fsprogs is not installed"
)


@pytest.fixture
def image(sample_store: Path, tmp_path: Path) -> Path:
    store = open_folder(sample_store)
    (entry,) = read_catalog(store).volumes
    return extract_backup(store, entry, "backup-f000000000000003", tmp_path / "f.raw").image


@needs_debugfs
def test_a_folder_lists(image: Path) -> None:
    found = {entry.name: (entry.kind, entry.size) for entry in list_files(image)}
    assert found == {
        "app.log": ("file", 400000),
        "blob.bin": ("file", 50000),
        "lost+found": ("folder", 0),
        "new.txt": ("file", 22),
        "www": ("folder", 0),
    }
    assert [entry.kind for entry in list_files(image, "/www")]


@needs_debugfs
def test_a_file_is_read_out(image: Path, tmp_path: Path) -> None:
    out = tmp_path / 'with "quotes" and spaces'
    assert read_file(image, "/blob.bin", out) == 50000 == out.stat().st_size
    assert len(hashlib.sha256(out.read_bytes()).hexdigest()) == 64
    with pytest.raises(InputError, match="one that exists"):
        read_file(image, "/blob.bin", out)


@needs_debugfs
@pytest.mark.parametrize(
    ("path", "words"), [("/none", "not found"), ("/www", "a plain file"), ("/a\nb", "line breaks")]
)
def test_paths_that_cannot_be_read(image: Path, tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_file(image, path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.raw"]


@needs_debugfs
def test_a_folder_that_is_not_there(image: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        list_files(image, "/none")


def test_without_debugfs_a_clear_word(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("labkit.systems.backupstore.files._SBIN", "")
    with pytest.raises(StepFailed, match="install the package e2fsprogs"):
        list_files(image)


@pytest.mark.parametrize(
    ("head", "kind", "words"),
    [
        (b"LUKS\xba\xbe" + bytes(600), "luks", "cryptsetup"),
        (b"XFSB" + bytes(600), "xfs", "XFS"),
        (bytes(510) + b"\x55\xaa", "partitions", "losetup"),
        (bytes(0x10040) + b"_BHRfS_M", "btrfs", "Btrfs"),
        (b"", "unknown", "none that is known"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, head: bytes, kind: str, words: str) -> None:
    image = tmp_path / "i.raw"
    image.write_bytes(head)
    assert content_of(image) == kind
    with pytest.raises(InputError, match=words):
        list_files(image)


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an image that can be read"):
        list_files(tmp_path / "none")
