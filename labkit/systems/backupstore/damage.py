"""What can be wrong in a backup store, each named by volume, backup, offset and file. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of damage."""

    VOLUME_CFG_MISSING = "volume-cfg-missing"
    VOLUME_CFG_BROKEN = "volume-cfg-broken"
    VOLUME_MISPLACED = "volume-misplaced"
    BACKUP_CFG_MISSING = "backup-cfg-missing"
    BACKUP_CFG_BROKEN = "backup-cfg-broken"
    MAP_ENTRY = "map-entry"
    BLOCK_MISSING = "block-missing"
    BLOCK_UNREADABLE = "block-unreadable"
    BLOCK_TRUNCATED = "block-truncated"
    BLOCK_UNDECODABLE = "block-undecodable"
    BLOCK_LENGTH = "block-length"
    BLOCK_CHECKSUM = "block-checksum"
    BLOCK_FRAME = "block-frame"


# labkit reads such backups all the same: the cfg of the volume only adds its size, and a block whose content has
# the right checksum is right, whatever its wrapping says. Longhorn itself refuses them.
_HARMLESS = frozenset(
    {
        Kind.VOLUME_CFG_MISSING,
        Kind.VOLUME_CFG_BROKEN,
        Kind.VOLUME_MISPLACED,
        Kind.BACKUP_CFG_MISSING,
        Kind.BLOCK_FRAME,
    }
)


@dataclass(frozen=True, order=True)
class Damage:
    """One thing that is wrong.

    `backup` is empty when the damage is the volume's; `offset` is -1 when it is no place in the image; `file` is the
    path below the store's `backupstore` folder.
    """

    volume: str
    backup: str
    offset: int
    file: str
    kind: Kind
    detail: str = ""

    @property
    def costs_backup(self) -> bool:
        """Tell whether the backup can no longer be read in full by labkit."""
        return self.kind not in _HARMLESS

    def __str__(self) -> str:
        backup = f" backup {self.backup}" if self.backup else ""
        place = f" offset {self.offset}" if self.offset >= 0 else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"volume {self.volume}{backup}{place}: {self.kind} {self.file}{detail}"

    def as_json(self) -> dict[str, str | int | None]:
        """Give the fields for JSON; None where there is no backup or offset."""
        return {
            "volume": self.volume,
            "backup": self.backup or None,
            "offset": self.offset if self.offset >= 0 else None,
            "file": self.file,
            "kind": str(self.kind),
            "detail": self.detail,
        }


def lost_backups(damages: Iterable[Damage]) -> frozenset[tuple[str, str]]:
    """Give the (volume, backup) pairs that can no longer be read in full."""
    return frozenset((d.volume, d.backup) for d in damages if d.costs_backup and d.backup)
