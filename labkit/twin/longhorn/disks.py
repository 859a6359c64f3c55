"""The disks of the machines, as Longhorn finds them: a folder each, with an id and the replicas' own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Protocol

_CONFIG = "longhorn-disk.cfg"
_META = "volume.meta"


class Disks(Protocol):
    """Where the folder /var/lib/longhorn of a node is."""

    def folder(self, node: str) -> Path | None:
        """Return the folder on a node's machine, None while that machine is off or gone."""
        ...


class FolderDisks:
    """Disks for a cluster without machines: a folder for each node, until it is lost."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.off: set[str] = set()

    def folder(self, node: str) -> Path | None:
        """Return a node's folder."""
        return None if node in self.off else self._root / node

    def lose(self, node: str) -> None:
        """Destroy what is on a node's disk."""
        shutil.rmtree(self._root / node, ignore_errors=True)


def disk_id(folder: Path) -> str | None:
    """Return the UUID that stands on a disk, None for one that Longhorn has not met."""
    file = folder / _CONFIG
    return str(json.loads(file.read_text())["diskUUID"]) if file.exists() else None


def name_disk(folder: Path, name: str, ident: str) -> str:
    """Write a name and a UUID on a new disk; return the UUID."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIG).write_text(json.dumps({"diskName": name, "diskUUID": ident, "diskDriver": ""}))
    return ident


def put_replica(folder: Path, directory: str, image: str, size: int) -> None:
    """Put a replica's files on a disk; they tell which image holds its bytes."""
    place = folder / "replicas" / directory
    place.mkdir(parents=True, exist_ok=True)
    meta = {"Size": size, "Head": "volume-head-000.img", "Dirty": True, "Rebuilding": False, "Error": "",
            "Parent": "", "SectorSize": 512, "BackingFilePath": "", "Image": image}  # fmt: skip
    (place / _META).write_text(json.dumps(meta))


def replica_image(folder: Path, directory: str) -> str | None:
    """Return the image of a replica that is on a disk, None when it is not there."""
    file = folder / "replicas" / directory / _META
    return str(json.loads(file.read_text())["Image"]) if file.exists() else None


def drop_replica(folder: Path, directory: str) -> None:
    """Remove a replica's files from a disk."""
    shutil.rmtree(folder / "replicas" / directory, ignore_errors=True)
