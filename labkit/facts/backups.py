"""What a backup store holds, as read without a cluster. Times are UTC, sizes bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from labkit.facts.proxmox import Fact


class StoredBackup(Fact):
    """One backup in the store."""

    name: str
    volume: str
    created: datetime | None = None
    """None while it is being made, or when that was broken off: it cannot be restored."""
    snapshot_created: datetime | None = None
    size: int = 0
    blocks: int = 0
    namespace: str = ""
    """Of the claim that used the volume; "" when the backup does not say."""
    claim: str = ""
    damage: tuple[str, ...] = ()
    """What is wrong with it, a sentence each, as far as it was looked at."""
    verified: bool = False
    """Whether every block of it was read and compared with its checksum."""

    @property
    def is_restorable(self) -> bool:
        """Whether it is complete and nothing is known against it."""
        return self.created is not None and not self.damage


class StoredVolume(Fact):
    """One volume in the store, its backups the oldest first."""

    name: str
    size: int = 0
    namespace: str = ""
    claim: str = ""
    storage_class: str = ""
    job_labels: Mapping[str, str] = Field(default_factory=dict)
    """The labels that put it into its recurring jobs, as its backups remember them; none for the group default."""
    backups: tuple[StoredBackup, ...] = ()
    damage: tuple[str, ...] = ()

    def at(self, moment: datetime | None) -> StoredBackup | None:
        """Return the newest restorable backup at or before a moment; the newest of all for None."""
        fit = [one for one in self.backups if one.is_restorable and (moment is None or _taken(one) <= moment)]
        return max(fit, key=lambda one: (_taken(one), one.name), default=None)


class StoreFacts(Fact):
    """The backup store of a lab."""

    where: str
    """The folder or address that it was read from."""
    volumes: tuple[StoredVolume, ...] = ()
    problem: str = ""
    """Why it could not be read, or that it is empty; "" when it was read."""
    empty: bool = False
    """Whether there is no backup at all: nothing was backed up yet, or another folder is mounted."""
    read_at: datetime

    def volume(self, name: str) -> StoredVolume | None:
        """Return a volume of the store by name."""
        return next((volume for volume in self.volumes if volume.name == name), None)


def _taken(backup: StoredBackup) -> datetime:
    """The moment whose content a backup holds."""
    moment = backup.snapshot_created or backup.created
    assert moment is not None  # noqa: S101  # restorable ones have one
    return moment
