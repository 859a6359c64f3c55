"""What Flux makes of a repository before it builds: its artifact, without the files that are left out."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from labkit.facts.repository import SourceFile
from labkit.sourceignore import SourceIgnore, ignore_folders
from labkit.systems.repository.assemble import Assembler
from labkit.systems.repository.files import decode
from labkit.systems.repository.kustomize import Kustomize
from labkit.systems.repository.layout import Layout

_UNREAD = re.compile(r"^(\.github|\.circleci)/|(^|/)\.(git\w+|sops\.yaml)$")
"""Files that no build reads, so that it does not matter whether they lie there."""


@dataclass(frozen=True)
class Artifact:
    """The files that one source hands on, and what builds from them."""

    layout: Layout
    kustomize: Kustomize
    assembler: Assembler


class Artifacts:
    """Makes the artifacts of a repository, one for each text of `spec.ignore`; `close` removes what was made for it.

    Args:
        root: the repository.
        paths: all its files.
        files: those that were parsed, by path.
        pool: where programs run.
    """

    def __init__(
        self, root: Path, paths: Sequence[str], files: Mapping[str, SourceFile], pool: ThreadPoolExecutor
    ) -> None:
        self._root = root
        self._paths = paths
        self._files = files
        self._pool = pool
        self._ignores = {folder: _text(root / path) for folder, path in ignore_folders(paths)}
        self._made: dict[str | None, Artifact] = {}
        self._scratch: list[Path] = []

    @property
    def calls(self) -> int:
        """How often kustomize was called."""
        return sum(one.kustomize.calls for one in self._made.values())

    @property
    def ignored(self) -> frozenset[str]:
        """The files that no artifact has which was built from."""
        built = [one for one in self._made.values() if one.kustomize.calls] or list(self._made.values())
        return frozenset.intersection(*(one.layout.ignored for one in built)) if built else frozenset()

    def of(self, spec: str | None) -> Artifact:
        """Return the artifact of a source with that `spec.ignore`."""
        if spec not in self._made:
            self._made[spec] = self._make(SourceIgnore(self._ignores, spec))
        return self._made[spec]

    def close(self) -> None:
        """Remove the copies."""
        for folder in self._scratch:
            shutil.rmtree(folder, ignore_errors=True)

    def _make(self, ignore: SourceIgnore) -> Artifact:
        out = frozenset(path for path in self._paths if ignore.excludes(path))
        kept = [path for path in self._paths if path not in out]
        layout = Layout(kept, {path: self._files[path] for path in kept if path in self._files}, out)
        matters = any(not _UNREAD.search(path) for path in out)
        root = self._copy(kept) if matters else self._root
        return Artifact(layout, Kustomize(root, layout, self._pool), Assembler(layout, str(root.resolve())))

    def _copy(self, kept: Iterable[str]) -> Path:
        """Make a tree that has only these files, as links where that is possible: nothing is written to them."""
        scratch = Path(tempfile.mkdtemp(prefix="labkit-artifact-"))
        self._scratch.append(scratch)
        made: set[Path] = set()
        for path in kept:
            target = scratch / path
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            _put(self._root / path, target)
        return scratch


def _put(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or another's file
        try:
            shutil.copyfile(source, target)
        except OSError:
            return  # it cannot be read, which is a finding of its own


def _text(path: Path) -> str:
    try:
        return decode(path.read_bytes()) or ""
    except OSError:
        return ""
