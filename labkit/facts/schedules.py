"""What was seen of scheduled runs: when each was due by its schedule, and when it ran. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from labkit.facts.proxmox import Fact

How = Literal["systemd", "cron", "kubernetes"]


class Schedule(Fact):
    """One scheduled runbook, as its last run or its installation wrote it down.

    `cron` and `zone` say when it is due. `since` is when it was first heard of: it is due from then on. `missed` are
    the times at which no run began, as the run after them found. `success` is the end of the last run that did what
    it was asked to do; with `findings_ok` a run that only found something is one of these.
    """

    name: str
    lab: str
    runbook: str
    how: How
    cron: str
    zone: str = "UTC"
    since: datetime
    findings_ok: bool = False
    on: str = "twin"
    lab_file: str = ""
    outputs: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    status: int | None = None
    success: datetime | None = None
    missed: tuple[datetime, ...] = ()
    host: str = ""
    pid: int = 0
    running: bool = False
    problem: str = ""
    """Why nothing can be said about it: its file cannot be read."""

    @property
    def where(self) -> str:
        """Its name for people: `homelab/health-report`."""
        return f"{self.lab}/{self.name}"


class RunSeen(Fact):
    """The runs of one runbook on one lab, as their folders tell."""

    runbook: str
    on: str
    started: datetime | None = None
    ended: datetime | None = None
    success: datetime | None = None


class ScheduleFacts(Fact):
    """All schedules of a lab that this machine, or the lab's cluster, knows of, and when this was looked at."""

    schedules: tuple[Schedule, ...] = ()
    runs: tuple[RunSeen, ...] = ()
    read_at: datetime
