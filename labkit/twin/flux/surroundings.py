"""What the controllers of Flux need beside the API: a folder, ways to hosts, faults, charts, and workers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from labkit.twin.charts.catalogue import Catalogue
from labkit.twin.faults import Faults

P = ParamSpec("P")
T = TypeVar("T")
SourceKey = tuple[str, str, str]
"""Kind, namespace and name of a source."""
_WIDTH = 2
_KEPT = 3


@dataclass
class Surroundings:
    """Shared by all controllers of one cluster.

    Attributes:
        folder: for mirrors of repositories, their files by revision, and builds.
        route: where `host, port` of the LAN is on loopback; None for a host that the twin does not have.
        faults: those that are on.
        catalogue: the charts that there are.
        artifacts: what the source controller has stored.
    """

    folder: Path
    route: Callable[[str, int], tuple[str, int] | None]
    faults: Faults = field(default_factory=Faults)
    catalogue: Catalogue = field(default_factory=Catalogue)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.artifacts = Artifacts()
        self._free: asyncio.Semaphore | None = None

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something slow in a thread; only a few at once, since each runs a program."""
        if self._free is None:
            self._free = asyncio.Semaphore(_WIDTH)
        async with self._free:
            return await asyncio.to_thread(function, *args, **kwargs)


class Artifacts:
    """The folders with the files of sources, the newest revisions of each."""

    def __init__(self) -> None:
        self._kept: dict[SourceKey, dict[str, Path]] = {}

    def path(self, key: SourceKey, revision: str) -> Path | None:
        """Return the folder of a revision, None when it is not stored."""
        return self._kept.get(key, {}).get(revision)

    def put(self, key: SourceKey, revision: str, folder: Path) -> None:
        """Store a revision, and throw away old ones."""
        kept = self._kept.setdefault(key, {})
        kept.pop(revision, None)
        kept[revision] = folder
        while len(kept) > _KEPT:
            shutil.rmtree(kept.pop(next(iter(kept))), ignore_errors=True)

    def drop(self, key: SourceKey) -> None:
        """Throw away everything of a source."""
        for folder in self._kept.pop(key, {}).values():
            shutil.rmtree(folder, ignore_errors=True)
