"""What a survey of all systems gives beside their facts: what did not answer, and what reading took. Pure."""

from __future__ import annotations

from pydantic import Field

from labkit.facts.proxmox import Fact


class Unread(Fact):
    """A system that could not be read, and why: a finding of its own, never the end of a report."""

    system: str
    reason: str
    next_step: str = ""


class Reading(Fact):
    """How the reading of one system went."""

    system: str
    seconds: float = 0.0
    problem: str = ""
    """Why it could not be read; "" when it was."""


class SurveyCost(Fact):
    """What reading all systems took."""

    readings: tuple[Reading, ...] = ()
    seconds: float = 0.0
    """Of all of them side by side."""
    requests: dict[str, int] = Field(default_factory=dict)
    """By what was asked: proxmox, kubernetes, ssh, https, nas, git, or `host:port`."""

    @property
    def slowest(self) -> Reading | None:
        """The system that took longest."""
        return max(self.readings, key=lambda one: one.seconds, default=None)
