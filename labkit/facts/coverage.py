"""How each claim is backed up, as worked out from Longhorn and the store. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from labkit.facts.evidence import Evidence
from labkit.facts.proxmox import Fact


class Cover(StrEnum):
    """How a claim stands against its schedule."""

    ON_TIME = "on time"
    NEW = "not due yet"
    LATE = "late"
    NEVER = "never backed up"
    NO_JOB = "no backup job"
    NO_TARGET = "target away"
    ELSEWHERE = "not on Longhorn"


class Coverage(Fact):
    """One claim and its backups."""

    namespace: str
    claim: str
    volume: str = ""
    """The Longhorn volume; "" for a claim that lies elsewhere."""
    lies_on: str = ""
    """For a claim that lies elsewhere: nfs, local, ..."""
    size: int = 0
    used: int = 0
    state: str = ""
    """Of the volume: attached, detached, ..."""
    jobs: tuple[str, ...] = ()
    """The recurring jobs that back it up, `name (cron)`."""
    target: str = ""
    cover: Cover
    backups: int = 0
    last: str = ""
    """The newest complete backup."""
    last_at: datetime | None = None
    """The moment whose content that holds, UTC."""
    age: float | None = None
    """Seconds since then; None without any backup."""
    allowed: float | None = None
    """The seconds that its schedule allows now; None without a schedule."""
    missed: int = 0
    """How many times a backup was due since the last one and did not come."""
    stored: bool = False
    """Whether the store itself has that backup."""
    proof: Evidence | None = None
    """What its latest drill has shown."""

    @property
    def id(self) -> str:
        """`namespace/claim`."""
        return f"{self.namespace}/{self.claim}"


def span(seconds: float | None) -> str:
    """Write a span for people: 5 min, 3 h, 2 days."""
    if seconds is None:
        return ""
    for least, unit, word in ((172800, 86400, "days"), (7200, 3600, "h")):
        if seconds >= least:
            return f"{seconds / unit:.0f} {word}"
    return f"{max(0.0, seconds) / 60:.0f} min"
