"""The bare repository of the Git host, and somebody else who commits to it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from labkit.errors import StepFailed
from labkit.twin.git.client import git

_WHO = {
    "GIT_AUTHOR_NAME": "somebody else", "GIT_AUTHOR_EMAIL": "somebody@example.net",
    "GIT_COMMITTER_NAME": "somebody else", "GIT_COMMITTER_EMAIL": "somebody@example.net",
}  # fmt: skip


class Bare:
    """A bare repository: where its branch is and what stands in it."""

    def __init__(self, folder: Path, branch: str) -> None:
        self.folder = folder
        self.branch = branch

    def head(self) -> str:
        """Return the commit of the branch; "" while the branch is not there."""
        try:
            return git(["-C", self.folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{self.branch}"]).strip()
        except StepFailed:
            return ""

    def files(self) -> dict[str, bytes]:
        """Return every file of the branch by its path; links are left out, and a branch that is not there has none."""
        if not self.head():
            return {}
        lines = git(["-C", self.folder, "ls-tree", "-r", "-z", "--full-tree", self.branch]).split("\0")
        pairs = [line.split("\t", 1) for line in lines if line]
        names = [path for about, path in pairs if about.startswith("100")]
        with tempfile.TemporaryDirectory(prefix="labkit-bare-") as folder:
            self.check_out(self.head(), Path(folder))
            return {name: (Path(folder) / name).read_bytes() for name in names}

    def check_out(self, commit: str, folder: Path) -> None:
        """Write the files of a commit into a folder."""
        env = {"GIT_INDEX_FILE": str(folder / ".labkit-index")}
        git(["--git-dir", self.folder, "read-tree", commit], env)
        git(["--git-dir", self.folder, "--work-tree", folder, "checkout-index", "--all", "--force"], env)
        (folder / ".labkit-index").unlink(missing_ok=True)

    def commit(self, changes: Mapping[str, bytes | None], message: str) -> str:
        """Commit files (None deletes one) on top of the branch; return the new commit."""
        head = self.head()
        with tempfile.TemporaryDirectory(prefix="labkit-bare-") as name:
            env = {"GIT_INDEX_FILE": str(Path(name) / "index"), **_WHO}
            here = ["--git-dir", str(self.folder)]
            if head:
                git([*here, "read-tree", head], env)
            lines = []
            for path, content in changes.items():
                blob = "0" * 40 if content is None else git([*here, "hash-object", "-w", "--stdin"], env, content)
                lines.append(f"{0 if content is None else 100644} {blob.strip()}\t{path}\n")
            git([*here, "update-index", "--index-info"], env, "".join(lines).encode())
            tree = git([*here, "write-tree"], env).strip()
            parents = ["-p", head] if head else []
            commit = git([*here, "commit-tree", tree, *parents, "-m", message], env).strip()
        git(["--git-dir", self.folder, "update-ref", f"refs/heads/{self.branch}", commit, head or "0" * 40])
        return commit


class Person:
    """Somebody else who pushes: changes that a fault brings and takes back."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._done: dict[str, dict[str, bytes | None]] = {}

    def follow(self, wanted: Mapping[str, Callable[[Mapping[str, bytes]], Mapping[str, bytes | None]]]) -> None:
        """Make the changes of faults that are new, and take back those of faults that are gone."""
        for fault in [one for one in self._done if one not in wanted]:
            self._bare.commit(self._done.pop(fault), f"Take back: {fault}")
        for fault in [one for one in wanted if one not in self._done]:
            files = self._bare.files()
            changes = wanted[fault](files)
            if changes:
                self._done[fault] = {path: files.get(path) for path in changes}
                self._bare.commit(changes, f"Somebody else: {fault}")

    def note(self) -> str:
        """Commit something harmless, as somebody does right before a push; return the commit."""
        notes = self._bare.files().get("NOTES.md", b"# Notes\n")
        return self._bare.commit({"NOTES.md": notes + b"- bought a new switch\n"}, "Write a note")


def serve_copy(source: str, folder: Path, branch: str, *, wanted: str = "") -> Bare:
    """Make the bare repository of the host out of another one; one without any commit gives an empty one.

    Args:
        source: the path or URL of a repository.
        folder: where the bare one goes.
        branch: the branch that it serves.
        wanted: the branch of the source; its current one when empty.

    Raises:
        StepFailed: it cannot be cloned, or has no such branch.
    """
    local = Path(source).expanduser()
    git(["clone", "--quiet", "--bare", "--no-local", str(local.resolve()) if local.exists() else source, folder])
    git(["-C", folder, "config", "receive.denyNonFastForwards", "true"])
    if not wanted and not git(["-C", folder, "for-each-ref"]).strip():
        git(["-C", folder, "symbolic-ref", "HEAD", f"refs/heads/{branch}"])
        return Bare(folder, branch)
    chosen = wanted or git(["-C", folder, "symbolic-ref", "--short", "HEAD"]).strip()
    commit = git(["-C", folder, "rev-parse", "--verify", f"refs/heads/{chosen}"]).strip()
    git(["-C", folder, "update-ref", f"refs/heads/{branch}", commit])
    git(["-C", folder, "symbolic-ref", "HEAD", f"refs/heads/{branch}"])
    return Bare(folder, branch)
