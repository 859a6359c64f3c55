"""The files of a commit as Flux keeps them: without what .sourceignore and spec.ignore leave out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from labkit.twin.git.client import git

_ALWAYS = (".git/", ".gitignore", ".gitmodules", ".gitattributes")
_DEFAULT = (
    "*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip", ".github/", ".circleci/",
    ".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml", "cloudbuild.yaml", "codeship-services.yml",
    "codeship-steps.yml", "**/.goreleaser.yml", "**/.sops.yaml", "**/.flux.yaml",
)  # fmt: skip


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
        ignore: patterns in place of those that Flux leaves out by itself.
    """
    folder.mkdir(parents=True)
    here = ["--git-dir", str(mirror)]
    index = {"GIT_INDEX_FILE": str(folder.with_suffix(".index"))}
    git([*here, "read-tree", commit], index)
    git([*here, "--work-tree", str(folder), "-C", str(folder), "checkout-index", "--all"], index)
    folder.with_suffix(".index").unlink()
    for name in _ignored(mirror, folder, ignore):
        (folder / name).unlink()
    return _measured(folder)


def _ignored(mirror: Path, folder: Path, ignore: str | None) -> list[str]:
    lines = [*_ALWAYS, *(_DEFAULT if ignore is None else ignore.splitlines())]
    own = folder / ".sourceignore"
    if own.is_file():
        lines += own.read_text(encoding="utf-8", errors="replace").splitlines()
    patterns, none = folder.with_suffix(".ignore"), {"GIT_INDEX_FILE": str(folder.with_suffix(".none"))}
    patterns.write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ["--others", "--ignored", "-z", f"--exclude-from={patterns}"]
    found = git(["--git-dir", mirror, "--work-tree", folder, "-C", folder, "ls-files", *options], none)
    patterns.unlink()
    return [name for name in found.split("\0") if name]


def _measured(folder: Path) -> Files:
    total, size = hashlib.sha256(), 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            size += len(data)
            total.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode() + data)
    return Files(folder, f"sha256:{total.hexdigest()}", size)
