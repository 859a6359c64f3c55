"""What the health report looks at inside the guests: one record for each machine of the lab, in whatever state it is.

Sizes are bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from labkit.facts.proxmox import Fact


class FileSystem(Fact):
    """One file system that k3s or Longhorn lives on."""

    target: str
    total: int = 0
    used: int = 0
    free: int = 0
    inodes: int = 0
    inodes_used: int = 0

    @property
    def percent(self) -> float:
        """How full it is, as `df` has it: without what only root may use."""
        return 100 * self.used / (self.used + self.free) if self.used + self.free else 0.0

    @property
    def inode_percent(self) -> float:
        """How many of its inodes are taken; 0 for one that has no fixed number of them."""
        return 100 * self.inodes_used / self.inodes if self.inodes else 0.0


class UnitState(Fact):
    """A unit of systemd: active, activating, inactive, failed; and how often systemd started it again."""

    state: str = "inactive"
    restarts: int = 0


class NodeCertificate(Fact):
    """A certificate of k3s on a node, by its file below /var/lib/rancher/k3s."""

    file: str
    expires: datetime


class GuestHealth(Fact):
    """One machine as one command over SSH showed it; everything else is empty when it did not answer."""

    name: str
    address: str = ""
    reachable: bool = False
    host_key: Literal["ok", "wrong", "unknown"] = "unknown"
    """`wrong` when another machine answered than the one that was made."""
    problem: str = ""
    """Why it could not be read."""
    clock_offset: float | None = None
    """Seconds that its clock is ahead of this machine's."""
    clock_error: float = 0.0
    """How far off that may be."""
    synchronized: bool | None = None
    """Whether its clock is kept right over the network; None when it does not say."""
    kernel: str = ""
    uptime: float = 0.0
    """Seconds since its start."""
    memory: int = 0
    memory_free: int = 0
    """What programs can still get: MemAvailable."""
    file_systems: tuple[FileSystem, ...] = ()
    read_only: bool = False
    """Whether the root file system was made read-only, as the kernel does after an error."""
    reboot_since: datetime | None = None
    """Since when an update asks for a restart."""
    reboot_for: tuple[str, ...] = ()
    """The packages that ask for it."""
    failed_units: tuple[str, ...] = ()
    units: dict[str, UnitState] = Field(default_factory=dict)
    """k3s, k3s-agent, qemu-guest-agent."""
    k3s_version: str = ""
    """The version of the installed program."""
    certificates: tuple[NodeCertificate, ...] = ()

    def unit(self, name: str) -> UnitState:
        """The state of a unit; an inactive one when there is none."""
        return self.units.get(name, UnitState())

    @property
    def agent(self) -> str:
        """The state of the Proxmox guest agent."""
        return self.unit("qemu-guest-agent").state

    @property
    def memory_percent(self) -> float:
        """How much of the memory is in use; 0 when it is not known."""
        return 100 * (self.memory - self.memory_free) / self.memory if self.memory else 0.0


class GuestHealthFacts(Fact):
    """What was seen of all machines of the lab."""

    guests: tuple[GuestHealth, ...] = ()
    read_at: datetime

    def guest(self, name: str) -> GuestHealth:
        """The record of a machine; an unreachable one when it was not asked."""
        found = next((guest for guest in self.guests if guest.name == name), None)
        return found if found is not None else GuestHealth(name=name, problem="not read")
