"""The rows that the tables and plots of a health report are made from: plain, whatever they were read from. Pure.

Sizes are bytes, times UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from labkit.facts.proxmox import Fact


class CapacityRow(Fact):
    """How full something is: a storage of a host, the disk of a VM, a pool."""

    name: str
    """For example venus/local-lvm."""
    kind: str
    used: int
    total: int
    per_day: float | None = None
    """How many bytes more a day, over the last weeks; None when too little is known."""
    days_left: float | None = None
    """Until it is full at that pace; None when it does not grow."""

    @property
    def share(self) -> float:
        """How full it is, 0 to 1."""
        return min(1.0, self.used / self.total) if self.total > 0 else 0.0


class BackupRow(Fact):
    """How old the newest backup of a volume is, against its schedule."""

    volume: str
    """The claim that uses it, for people: media/karakeep-data."""
    last: datetime | None = None
    """None when there is none."""
    every_hours: float | None = None
    """The longest time between two backups that its schedule allows; None without a schedule."""
    copies: int = 0
    new: bool = False
    """Whether its first backup is not due yet."""
    problem: str = ""

    def hours(self, now: datetime) -> float | None:
        """How old the newest backup is."""
        return None if self.last is None else max(0.0, (now - self.last).total_seconds() / 3600)

    def is_late(self, now: datetime) -> bool:
        """Whether one was missed: an hour is left for making it."""
        age = self.hours(now)
        return self.every_hours is not None and (age is None or age > self.every_hours + 1)


class CertificateRow(Fact):
    """How long a certificate lasts."""

    name: str
    kind: str
    expires: datetime
    renews: datetime | None = None
    """When it is renewed by itself; None when nobody does."""
    also: int = 0
    """How many other names the same certificate is shown for."""

    def days(self, now: datetime) -> float:
        """How many days are left; negative when it has ended."""
        return (self.expires - now).total_seconds() / 86400


class RestartRow(Fact):
    """How often the containers of a pod were restarted."""

    name: str
    """namespace/pod"""
    count: int
    """Since the pod was made."""
    recent: int | None = None
    """Since the report of about a day ago; None when there is none."""
    last: datetime | None = None
    reason: str = ""


class FluxRow(Fact):
    """One object of Flux, below the one that it comes from or waits for."""

    id: str
    """Kustomization/flux-system/apps"""
    parent: str = ""
    state: Literal["ready", "working", "suspended", "failed"] = "ready"
    revision: str = ""
    problem: str = ""

    @property
    def label(self) -> str:
        """Its kind and name, and its namespace where that is not Flux's own."""
        kind, space, name = self.id.split("/", 2)
        return f"{kind} {name}" if space == "flux-system" else f"{kind} {space}/{name}"


class ReplicaRow(Fact):
    """Where the healthy replicas of a volume are, by physical host."""

    volume: str
    wanted: int
    hosts: Mapping[str, int] = Field(default_factory=dict)
    state: str = ""
    """healthy, degraded, faulted, detached."""

    @property
    def count(self) -> int:
        """How many healthy replicas there are."""
        return sum(self.hosts.values())

    @property
    def in_one_place(self) -> bool:
        """Whether one host holds all of several, so that its loss takes them all."""
        return self.wanted > 1 and sum(number > 0 for number in self.hosts.values()) <= 1


class ResponseRow(Fact):
    """How fast a route answers, and how fast it usually does: milliseconds."""

    host: str
    now: float
    status: int = 0
    problem: str = ""
    low: float | None = None
    median: float | None = None
    high: float | None = None
    """The span of the last weeks, without the slowest and fastest tenth."""


class ScoreRow(Fact):
    """The score of one report."""

    at: datetime
    score: int
    light: str


class Overview(Fact):
    """All rows of one report."""

    capacity: tuple[CapacityRow, ...] = ()
    backups: tuple[BackupRow, ...] = ()
    certificates: tuple[CertificateRow, ...] = ()
    restarts: tuple[RestartRow, ...] = ()
    flux: tuple[FluxRow, ...] = ()
    replicas: tuple[ReplicaRow, ...] = ()
    responses: tuple[ResponseRow, ...] = ()
    scores: tuple[ScoreRow, ...] = ()
    pods: int = 0
    """How many pods were looked at."""
    hosts: tuple[str, ...] = ()
    """The physical hosts, in the order of the lab file."""
