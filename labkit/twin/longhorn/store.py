"""Write and read a backup store as Longhorn does: the twin's NAS holds real blocks, so that a restore can be proved.

This is no part of the reader that labkit uses on real stores: both follow the format on their own, and tests hold one
against the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lz4.frame

from labkit.errors import LabError

MIB = 1 << 20
LOCK_BACKUP = 1
LOCK_DELETION = 2

ReadBlock = Callable[[int, int], "bytes | None"]
"""Gives the bytes of a volume at (offset, length), or None where it was never written."""


class StoreError(LabError):
    """Report what Longhorn would refuse: a damaged or missing part of the store."""


@dataclass(frozen=True)
class StoredVolume:
    """A volume as its backups describe it; `size` and `block_size` in bytes."""

    name: str
    size: int
    block_size: int = 2 * MIB
    compression: str = "lz4"
    storage_class: str = "longhorn"
    data_engine: str = "v1"
    backing_image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def image_reader(image: bytes) -> ReadBlock:
    """Read blocks from bytes, every block counted as written."""
    return lambda offset, length: image[offset : offset + length]


def sparse_reader(image: bytes) -> ReadBlock:
    """Read blocks from bytes; blocks of zeros count as never written."""

    def read(offset: int, length: int) -> bytes | None:
        block = image[offset : offset + length]
        return block if block.strip(b"\0") else None

    return read


def checksum(block: bytes) -> str:
    """Give the name of a block: the first 64 hex digits of its SHA-512."""
    return hashlib.sha512(block).hexdigest()[:64]


def compress(method: str, block: bytes) -> bytes:
    """Give the file of a block, with the headers that Go's libraries write."""
    if method == "none":
        return block
    if method == "gzip":
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        trailer = zlib.crc32(block).to_bytes(4, "little") + (len(block) & 0xFFFFFFFF).to_bytes(4, "little")
        return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packer.compress(block) + packer.flush() + trailer
    if method == "lz4":
        packed: bytes = lz4.frame.compress(
            block,
            block_size=lz4.frame.BLOCKSIZE_MAX4MB,
            block_linked=False,
            content_checksum=True,
            store_size=False,
        )
        return packed
    raise StoreError(f"compression: expected lz4, gzip or none, got {method}")


def decompress(method: str, data: bytes) -> bytes:
    """Give the content of a block's file; raises `StoreError`."""
    try:
        if method == "lz4":
            content: bytes = lz4.frame.decompress(data)
            return content
        return data if method == "none" else zlib.decompress(data, 31)
    except (RuntimeError, zlib.error) as exc:
        raise StoreError(f"cannot decompress with {method}: {exc}") from exc


class BackupStore:
    """A backup target on a file system; `root` is the folder that the target's URL points to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, volume: str) -> Path:
        """Give the folder of a volume."""
        digest = hashlib.sha512(volume.encode()).hexdigest()
        return self.root / "backupstore" / "volumes" / digest[0:2] / digest[2:4] / volume

    def block_path(self, volume: str, name: str) -> Path:
        """Give the path of a block's file."""
        return self.folder(volume) / "blocks" / name[0:2] / name[2:4] / f"{name}.blk"

    def backup_path(self, volume: str, backup: str) -> Path:
        """Give the path of a backup's config."""
        return self.folder(volume) / "backups" / f"backup_{backup}.cfg"

    def volumes(self) -> list[str]:
        """List the volumes, sorted."""
        return sorted(path.parent.name for path in self.root.glob("backupstore/volumes/*/*/*/volume.cfg"))

    def backups(self, volume: str) -> list[str]:
        """List the backups of a volume, sorted by name."""
        files = (self.folder(volume) / "backups").glob("backup_*.cfg")
        return sorted(path.name.removeprefix("backup_").removesuffix(".cfg") for path in files)

    def volume_config(self, volume: str) -> dict[str, Any]:
        """Read a volume.cfg as JSON; raises `StoreError`."""
        return _read(self.folder(volume) / "volume.cfg")

    def backup_config(self, volume: str, backup: str) -> dict[str, Any]:
        """Read a backup's config as JSON; raises `StoreError`."""
        return _read(self.backup_path(volume, backup))

    def begin_backup(self, volume: StoredVolume, backup: str, now: datetime) -> None:
        """Write what stands there while a backup runs: volume.cfg if absent, and a config without CreatedTime."""
        if not (self.folder(volume.name) / "volume.cfg").exists():
            self._write_volume(volume, _volume_fields(volume, created=now))
        fields = _backup_fields(volume, backup, "", {}, "incremental") | {"SnapshotCreatedAt": _time(now)}
        _write(self.backup_path(volume.name, backup), fields)

    def write_backup(
        self,
        volume: StoredVolume,
        backup: str,
        read: ReadBlock,
        *,
        started: datetime,
        finished: datetime,
        snapshot: str = "",
        labels: Mapping[str, str] | None = None,
        mode: str = "incremental",
    ) -> dict[str, Any]:
        """Back up a volume and give the config written; blocks that are there stay, unless `mode` is full."""
        if volume.size % volume.block_size:
            raise StoreError(
                f"volume {volume.name}: expected a size in blocks of {volume.block_size}, got {volume.size}"
            )
        self.begin_backup(volume, backup, started)
        old = self.volume_config(volume.name)
        counts = {"new": 0, "again": 0}
        blocks: list[dict[str, Any]] = []
        for offset in range(0, volume.size, volume.block_size):
            block = read(offset, volume.block_size)
            if block is not None:
                name = self._add_block(volume, block, counts, again=mode == "full")
                blocks.append({"Offset": offset, "BlockChecksum": name})
        merged = dict(volume.labels if labels is None else labels)
        fields = _backup_fields(volume, backup, snapshot, merged, mode) | {
            "SnapshotCreatedAt": _time(started),
            "CreatedTime": _time(finished),
            "Size": str(len(blocks) * volume.block_size),
            "IsIncremental": bool(old["LastBackupName"]) and mode == "incremental",
            "NewlyUploadedDataSize": str(counts["new"]),
            "ReUploadedDataSize": str(counts["again"]),
            "Blocks": blocks,
        }
        fields = {key: fields[key] for key in _BACKUP_ORDER if key != "Blocks" or blocks}
        _write(self.backup_path(volume.name, backup), fields)
        self._write_volume(
            volume,
            _volume_fields(volume, created=started)
            | {
                "Labels": merged,
                "CreatedTime": old["CreatedTime"],
                "LastBackupName": backup,
                "LastBackupAt": _time(started),
                "BlockCount": str(self._count_blocks(volume.name)),
            },
        )
        return fields

    def restore(self, volume: str, backup: str) -> Iterator[tuple[int, bytes]]:
        """Give (offset, block) of a backup; raises `StoreError` at a damaged block, as Longhorn's restore does."""
        config = self.backup_config(volume, backup)
        if not config["CreatedTime"]:
            raise StoreError(f"backup {backup} of {volume}: expected a complete backup, got one in progress")
        for entry in config.get("Blocks") or ():
            yield entry["Offset"], self.read_block(volume, config, entry["BlockChecksum"])

    def read_block(self, volume: str, config: Mapping[str, Any], name: str) -> bytes:
        """Give the content of a block that a backup's config names; raises `StoreError` when it is damaged."""
        path = self.block_path(volume, name)
        try:
            block = decompress(config.get("CompressionMethod") or "gzip", path.read_bytes())
        except OSError as exc:
            raise StoreError(f"block {path.name} of {volume}: {exc.strerror}") from exc
        if checksum(block) != name:
            raise StoreError(f"block {path.name} of {volume}: expected its checksum, got {checksum(block)}")
        return block

    def restore_image(self, volume: str, backup: str) -> bytes:
        """Give the whole image of a small volume."""
        image = bytearray(int(self.volume_config(volume)["Size"]))
        for offset, block in self.restore(volume, backup):
            image[offset : offset + len(block)] = block
        return bytes(image)

    def delete_backup(self, volume: str, backup: str) -> None:
        """Remove a backup's config, then the blocks that no other backup names; not while another is in progress."""
        self.backup_path(volume, backup).unlink()
        left = [self.backup_config(volume, name) for name in self.backups(volume)]
        config = self.volume_config(volume)
        if config["LastBackupName"] == backup:
            newest = max((c for c in left if c["CreatedTime"]), key=lambda c: str(c["SnapshotCreatedAt"]), default=None)
            config["LastBackupName"] = newest["Name"] if newest else ""
            config["LastBackupAt"] = newest["SnapshotCreatedAt"] if newest else ""
        if all(c["CreatedTime"] for c in left):
            self._sweep(volume, {entry["BlockChecksum"] for c in left for entry in c.get("Blocks") or ()})
            config["BlockCount"] = str(self._count_blocks(volume))
        _write(self.folder(volume) / "volume.cfg", config)

    def delete_volume(self, volume: str) -> None:
        """Remove a volume with all its backups."""
        shutil.rmtree(self.folder(volume))

    def lock(self, volume: str, name: str, kind: int, now: datetime, *, acquired: bool = True) -> Path:
        """Write a lock file, as old as `now` says; the caller removes it. `name` is `lock-` and 16 hex digits."""
        path = self.folder(volume) / "locks" / f"{name}.lck"
        _write(path, {"Name": name, "Type": kind, "Acquired": acquired})
        os.utime(path, (now.timestamp(), now.timestamp()))
        return path

    def _add_block(self, volume: StoredVolume, block: bytes, counts: dict[str, int], *, again: bool) -> str:
        name = checksum(block)
        path = self.block_path(volume.name, name)
        is_new = not path.exists()
        if is_new or again:
            data = compress(volume.compression, block)
            _replace(path, data)
            counts["new" if is_new else "again"] += len(data)
        return name

    def _count_blocks(self, volume: str) -> int:
        return sum(1 for _ in self.folder(volume).glob("blocks/*/*/*.blk"))

    def _sweep(self, volume: str, named: set[str]) -> None:
        for path in list(self.folder(volume).glob("blocks/*/*/*.blk")):
            if path.stem not in named:
                path.unlink()
                _remove_empty(path.parent, self.folder(volume))
        _remove_empty(self.folder(volume) / "backups", self.folder(volume))

    def _write_volume(self, volume: StoredVolume, fields: dict[str, Any]) -> None:
        _write(self.folder(volume.name) / "volume.cfg", fields)


_BACKUP_ORDER = (
    "Name",
    "VolumeName",
    "SnapshotName",
    "SnapshotCreatedAt",
    "CreatedTime",
    "Size",
    "Labels",
    "Parameters",
    "IsIncremental",
    "CompressionMethod",
    "NewlyUploadedDataSize",
    "ReUploadedDataSize",
    "ProcessingBlocks",
    "Blocks",
    "SingleFile",
)


def _volume_fields(volume: StoredVolume, *, created: datetime) -> dict[str, Any]:
    return {
        "Name": volume.name,
        "Size": str(volume.size),
        "Labels": dict(volume.labels),
        "CreatedTime": _time(created),
        "LastBackupName": "",
        "LastBackupAt": "",
        "BlockCount": "0",
        "BackingImageName": json.dumps(volume.backing_image),
        "BackingImageChecksum": '""',
        "CompressionMethod": json.dumps(volume.compression),
        "StorageClassName": json.dumps(volume.storage_class),
        "DataEngine": json.dumps(volume.data_engine),
    }


def _backup_fields(
    volume: StoredVolume, backup: str, snapshot: str, labels: Mapping[str, str], mode: str
) -> dict[str, Any]:
    return {
        "Name": backup,
        "VolumeName": volume.name,
        "SnapshotName": snapshot,
        "SnapshotCreatedAt": "",
        "CreatedTime": "",
        "Size": "0",
        "Labels": dict(labels),
        "Parameters": {"backup-block-size": str(volume.block_size), "backup-mode": mode},
        "IsIncremental": False,
        "CompressionMethod": volume.compression,
        "NewlyUploadedDataSize": "0",
        "ReUploadedDataSize": "0",
        "ProcessingBlocks": None,
        "SingleFile": {"FilePath": ""},
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _go_json(fields: Mapping[str, Any]) -> bytes:
    """Write JSON as Go does: no white space, UTF-8, and some characters escaped."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def _write(path: Path, fields: Mapping[str, Any]) -> None:
    _replace(path, _go_json(fields))


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.tmp.{time.time_ns()}")
    part.write_bytes(data)
    part.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise StoreError(f"{path.name}: expected a JSON object, got: {exc}") from exc
    if not isinstance(found, dict):
        raise StoreError(f"{path.name}: expected a JSON object, got {type(found).__name__}")
    return found


def _remove_empty(folder: Path, stop: Path) -> None:
    """Remove a folder and its parents below `stop` as far as they are empty."""
    while folder != stop and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
