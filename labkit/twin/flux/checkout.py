"""The files of a commit as Flux keeps them: without what .sourceignore and spec.ignore leave out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from labkit.sourceignore import SourceIgnore, ignore_folders
from labkit.twin.git.client import git


@dataclass(frozen=True)
class Files:
    """What was checked out: the folder, the digest of its content, and its size in bytes."""

    folder: Path
    digest: str
    size: int


def check_out(mirror: Path, commit: str, folder: Path, ignore: str | None) -> Files:
    """Write the files of a commit into a new folder.

    Args:
        mirror: the bare repository that has the commit.
        commit: its full id.
        folder: where the files go.
        ignore: `spec.ignore` of the source.
    """
    folder.mkdir(parents=True)
    here = ["--git-dir", str(mirror)]
    index = {"GIT_INDEX_FILE": str(folder.with_suffix(".index"))}
    git([*here, "read-tree", commit], index)
    git([*here, "--work-tree", str(folder), "-C", str(folder), "checkout-index", "--all"], index)
    folder.with_suffix(".index").unlink()
    for name in _ignored(folder, ignore):
        (folder / name).unlink()
    return _measured(folder)


def _ignored(folder: Path, spec: str | None) -> list[str]:
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    own = [(where, folder / path) for where, path in ignore_folders(paths)]
    files = {where: file.read_text("utf-8", "replace") for where, file in own if file.is_file()}
    ignore = SourceIgnore(files, spec)
    return [path for path in paths if ignore.excludes(path)]


def _measured(folder: Path) -> Files:
    total, size = hashlib.sha256(), 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            size += len(data)
            total.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode() + data)
    return Files(folder, f"sha256:{total.hexdigest()}", size)
