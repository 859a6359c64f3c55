"""How a twin is started, and how long things take in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

DEFAULT_SCALE = 0.02
"""Real seconds per twin second, unless told otherwise."""

Version = Literal["8.4", "9.1"]
VERSIONS: tuple[Version, ...] = ("8.4", "9.1")
NasVersion = Literal["25.04", "25.10"]
NAS_VERSIONS: tuple[NasVersion, ...] = ("25.04", "25.10")
SCENARIOS = ("empty", "provisioned", "k3s", "k3s-behind", "quorum-lost", "flux", "running", "ailing",
             "disaster")  # fmt: skip
"""In the order in which they build on each other; `k3s-behind` is a cluster one minor version older than the lab's,
in `quorum-lost` half of its servers or more have lost their data,
in `flux` everything of the repository is reconciled and Ready, `running` has backups and drills behind it as well,
`ailing` is that with everything wrong that a health report knows, in `disaster` all of that is lost but Git, the user's
own files and the NAS with its backups."""


@dataclass(frozen=True)
class Pace:
    """How long things take, in twin seconds; disks count in GiB."""

    clone: float = 5.0
    clone_per_gib: float = 2.0
    start: float = 2.0
    stop: float = 1.0
    shutdown: float = 6.0
    boot: float = 20.0
    """From power on to an answering guest agent and SSH server."""
    cloud_init: float = 15.0
    """From there to the end of cloud-init, at the first boot."""
    cloud_init_again: float = 2.0
    """The same at later boots."""
    resize: float = 1.0
    delete: float = 2.0
    backup: float = 30.0
    other: float = 1.0
    """Any other task."""
    lock_wait: float = 10.0
    """How long a request waits for the lock of a configuration."""
    clone_lock_wait: float = 1.0
    """How long a clone waits for that of its template."""
    k3s_download: float = 10.0
    """Fetching the k3s binary on a guest."""
    k3s_start: float = 12.0
    """From the start of a first or returning server until its API answers."""
    k3s_join: float = 15.0
    """The same for a server that joins."""
    k3s_promote: float = 5.0
    """From then until its etcd member votes; meanwhile no other server can join."""
    k3s_agent: float = 8.0
    """From the start of an agent until its unit is active."""
    k3s_node: float = 3.0
    """From an active unit until its node is Ready."""
    k3s_snapshot: float = 2.0
    """Saving or restoring a snapshot of etcd."""

    def clone_seconds(self, gib: float) -> float:
        """Return how long a full clone of a disk of that size takes."""
        return self.clone + self.clone_per_gib * gib


@dataclass(frozen=True)
class Options:
    """Everything that a twin is started with."""

    lab_file: Path
    state: Path
    scenario: str = "empty"
    seed: int = 1
    scale: float = DEFAULT_SCALE
    faults: tuple[str, ...] = ()
    parent: int | None = None
    temporary: bool = False
    """Whether its folder goes with it."""
    repo: str = ""
    """A path or URL of the repository that the lab's Git host serves; the example when empty."""
    repo_branch: str = ""
    """The branch of it; its current one when empty."""
    age_key: str = field(default="", repr=False)
    """The text of the age key that opens the repository's secrets; one of the twin's own when empty."""
    log: Path | None = None
    proxmox: Version = "9.1"
    nas: NasVersion = "25.10"
    pace: Pace = field(default_factory=Pace)
