"""The twin's own record of what each backup holds and of what was there last: what a restore is held against."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.twin.longhorn.contents import read_tree, tree_checksum
from labkit.twin.longhorn.trees import identity


class Past:
    """What no part of labkit can see: contents by their checksum, from the moment that they were there."""

    def __init__(self) -> None:
        self._backups: dict[str, dict[str, dict[str, Any]]] = {}
        self._end: dict[str, Any] = {}
        self._restores: list[tuple[str, str]] = []

    def note_backup(self, volume: str, backup: str, taken: datetime, files: Mapping[str, bytes]) -> None:
        """Note the files that a backup holds."""
        told = identity(files)
        self._backups.setdefault(volume, {})[backup] = {
            "taken": taken.astimezone(UTC).isoformat().replace("+00:00", "Z"), "checksum": tree_checksum(files),
            "writes": told.get("writes", 0), "namespace": told.get("namespace", ""), "claim": told.get("claim", ""),
        }  # fmt: skip

    def note_image(self, volume: str, backup: str, image: Path, taken: datetime) -> None:
        """Note what a backup holds by the image that it was taken from; what is no tree of files is left out."""
        try:
            files = read_tree(image)
        except (LabError, OSError):
            return
        self.note_backup(volume, backup, taken, files)

    def note_end(self, seen: Mapping[str, Any]) -> None:
        """Note what was on all volumes right before they were lost; restores are counted from here on."""
        self._end = dict(seen)
        self._restores = []

    def note_restore(self, volume: str, backup: str) -> None:
        """Note that a volume begins to be restored."""
        self._restores.append((volume, backup))

    def view(self) -> dict[str, Any]:
        """Return `backups`, by volume and name, `end`, by volume: {} while nothing was lost, and `restores` since."""
        return {"backups": self._backups, "end": self._end, "restores": [list(one) for one in self._restores]}
