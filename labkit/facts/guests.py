"""What was read from the guests over SSH: one record for each machine of the lab, whether it answered or not.

No secret is in here: tokens are compared where they are read, and only the outcome is kept.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from labkit.facts.proxmox import Fact


class TokenState(StrEnum):
    """How a token on a guest compares with the lab's; `unknown` when the lab's cannot be resolved."""

    NONE = "none"
    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"


class TokenForm(StrEnum):
    """The form of the lab's own token: a first server takes the short one only."""

    SHORT = "short"
    FULL = "full"
    ODD = "odd"
    """It has characters that get lost on the way."""
    MISSING = "missing"


class VipManifest(Fact):
    """The manifest of kube-vip on a server; empty texts for what is not in it."""

    address: str = ""
    interface: str = ""
    version: str = ""
    digest: str = ""
    """A name for all of it: equal for files of equal meaning."""


class Guest(Fact):
    """One machine as SSH showed it; everything else is empty when it did not answer."""

    name: str
    address: str
    reachable: bool = False
    host_key: Literal["ok", "wrong", "unknown"] = "unknown"
    """`wrong` when another machine answered than the one that was made."""
    problem: str = ""
    """Why it could not be read."""
    arch: str = ""
    """As `uname -m` says it: x86_64, aarch64."""
    clock_offset: float | None = None
    """Seconds that its clock is ahead of this machine's."""
    clock_error: float = 0.0
    """How far off that may be: half the time that the question took."""
    memory: int = 0
    """Bytes of RAM."""
    disk_free: int = 0
    """Free bytes of the root file system."""
    modules: tuple[str, ...] = ()
    """Kernel modules that are loaded, of those that anyone asks for."""
    packages: dict[str, str] | None = None
    """Installed Debian packages with their versions, of those asked for; None without dpkg."""
    ports: tuple[int, ...] = ()
    """TCP ports that something listens on, beyond loopback."""
    addresses: tuple[str, ...] = ()
    """All addresses of the machine."""
    interfaces: dict[str, str] = Field(default_factory=dict)
    """The network interface that has each of them."""
    units: dict[str, str] = Field(default_factory=dict)
    """State of the units k3s and k3s-agent: active, activating, inactive, failed."""
    version: str = ""
    """The version of the installed k3s, or empty."""
    config: dict[str, JsonValue] | None = None
    """/etc/rancher/k3s/config.yaml without its token; None when there is none."""
    config_token: TokenState = TokenState.NONE
    server_token: TokenState = TokenState.NONE
    """The token that the server's data was made with."""
    server_db: bool = False
    """Whether there is an etcd database."""
    cluster_ca: str = ""
    """The fingerprint of the CA of the cluster that the machine belongs to, or belonged to."""
    kube_vip: VipManifest | None = None
    """The manifest of kube-vip that k3s applies; None without one."""
    restoring: bool = False
    """Whether a restore of etcd was begun on it, or has stopped it, and has not come to its end."""

    def unit(self, role: str) -> str:
        """The state of the unit of a role; `inactive` when there is none."""
        return self.units.get("k3s" if role == "server" else "k3s-agent", "inactive")

    @property
    def installed(self) -> bool:
        """Whether k3s is there in any form."""
        return bool(self.version) or any(state != "inactive" for state in self.units.values())

    @property
    def fresh(self) -> bool:
        """Whether it answered and never was part of a cluster."""
        return self.reachable and not self.server_db and not self.cluster_ca


class AirgapProblem(Fact):
    """What is wrong with a file that is to be carried to the guests."""

    file: str
    expected: str
    got: str
    remedy: str = ""


class Airgap(Fact):
    """The folder with what is carried to guests that fetch nothing themselves."""

    folder: str
    problems: tuple[AirgapProblem, ...] = ()
    versions: tuple[str, ...] = ()
    """The versions that the bytes of its k3s name; empty when they name none."""


class GuestFacts(Fact):
    """What was seen of all machines of the lab."""

    guests: tuple[Guest, ...] = ()
    token: TokenForm = TokenForm.SHORT
    """The form of the token that the lab file refers to."""
    airgap: Airgap | None = None
    """None when the guests fetch k3s themselves."""
    read_at: datetime

    def guest(self, name: str) -> Guest:
        """The record of a machine; an unreachable one when it was not asked."""
        found = next((guest for guest in self.guests if guest.name == name), None)
        return found if found is not None else Guest(name=name, address="", problem="not read")
