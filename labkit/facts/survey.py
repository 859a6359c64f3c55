"""What a survey of all systems gives for one that did not answer. Pure."""

from __future__ import annotations

from labkit.facts.proxmox import Fact


class Unread(Fact):
    """A system that could not be read, and why: a finding of its own, never the end of a report."""

    system: str
    reason: str
    next_step: str = ""
