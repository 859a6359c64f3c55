"""The bytes of volumes: trees, checksums, holes."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.twin.longhorn.contents import (
    ContentError,
    checksum,
    checksum_lines,
    is_blank,
    pack,
    read_tree,
    tree_checksum,
    write_tree,
)
from labkit.twin.longhorn.images import Images, allocated, block_reader, copy_sparse

MIB = 1 << 20
NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z0-9]{1,8}){0,2}\.bin", fullmatch=True)


@settings(max_examples=25)
@given(files=st.dictionaries(NAMES, st.binary(max_size=3000), max_size=6))
def test_trees_come_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    image = Images(tmp_path_factory.mktemp("images")).create("volume", 4 * MIB)
    write_tree(image, files)
    assert read_tree(image) == files
    assert checksum(image) == tree_checksum(files)
    assert image.stat().st_size == 4 * MIB
    assert image.read_bytes()[: len(pack(files))] == pack(dict(reversed(files.items())))


def test_an_image_is_a_tar(tmp_path: Path) -> None:
    image = Images(tmp_path).create("volume", 64 * MIB)
    assert is_blank(image)
    assert read_tree(image) == {}
    write_tree(image, {"a/b": b"1" * 5000, "c": b"2"})
    assert not is_blank(image)
    with tarfile.open(image) as archive:
        assert archive.getnames() == ["a/b", "c"]
    assert allocated(image) < MIB
    write_tree(image, {"c": b"3"})
    assert read_tree(image) == {"c": b"3"}


def test_checksums_are_those_of_sha256sum() -> None:
    files = {"b": b"2", "a": b"1"}
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  ./{name}\n" for name in "ab"]
    assert checksum_lines(files) == "".join(lines)
    assert tree_checksum(files) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_what_does_not_fit_or_is_no_tree(tmp_path: Path) -> None:
    image = Images(tmp_path).create("small", 4096)
    with pytest.raises(ContentError, match="expected at most 4096 bytes"):
        write_tree(image, {"a": b"x" * 8192})
    image.write_bytes(b"\xff" * 4096)
    with pytest.raises(ContentError, match="expected a file tree"):
        read_tree(image)


def test_holes_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(16 * MIB)
        file.seek(8 * MIB)
        file.write(b"x" * 10)
    assert copy_sparse(source, target) < MIB
    assert target.read_bytes() == source.read_bytes()
    assert allocated(target) < MIB
    read = block_reader(target)
    found = [read(offset, 2 * MIB) for offset in range(0, 16 * MIB, 2 * MIB)]
    assert [block is not None for block in found] == [False] * 4 + [True] + [False] * 3
    assert found[4] == b"x" * 10 + b"\0" * (2 * MIB - 10)


def test_snapshots_of_images(tmp_path: Path) -> None:
    images = Images(tmp_path)
    write_tree(images.create("volume", MIB), {"a": b"old"})
    images.take("volume", "first")
    write_tree(images.path("volume"), {"a": b"new"})
    assert read_tree(images.snapshot("volume", "first")) == {"a": b"old"}
    images.drop("volume", "first")
    images.remove("volume")
    assert list(tmp_path.iterdir()) == []
