"""What was read of a TrueNAS box. Sizes are bytes, times UTC. Pure."""

from __future__ import annotations

from datetime import datetime

from labkit.facts.proxmox import Fact


class PoolDisk(Fact):
    """One member of a pool that is not as it should be, or has counted errors."""

    name: str
    status: str
    errors: int = 0
    """Reads, writes and checksums that failed."""


class Pool(Fact):
    """One ZFS pool; an exported or missing one is OFFLINE and has no size."""

    name: str
    status: str
    healthy: bool
    warning: bool = False
    detail: str = ""
    size: int = 0
    allocated: int = 0
    free: int = 0
    scan: str = ""
    """SCRUB or RESILVER, the last one; "" when there was none."""
    scan_state: str = ""
    scan_end: datetime | None = None
    scan_errors: int = 0
    bad_disks: tuple[PoolDisk, ...] = ()

    @property
    def percent(self) -> float:
        """How full it is; 0 when its size is not known."""
        return 100 * self.allocated / self.size if self.size else 0.0


class Dataset(Fact):
    """One dataset."""

    name: str
    mountpoint: str = ""
    used: int = 0
    available: int = 0
    quota: int = 0
    """0: none."""
    locked: bool = False


class NfsShare(Fact):
    """One NFS export."""

    path: str
    enabled: bool
    read_only: bool = False
    networks: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    locked: bool = False


class NasTask(Fact):
    """One periodic snapshot task, or one replication."""

    name: str
    dataset: str
    target: str = ""
    """Where a replication goes."""
    enabled: bool = True
    state: str = ""
    """PENDING, WAITING, RUNNING, FINISHED, ERROR or HOLD."""
    at: datetime | None = None
    """When that state came about."""
    last_snapshot: str = ""
    problem: str = ""
    cron: str = ""
    """Its schedule as five fields; "" when it has none of its own."""


class NasAlert(Fact):
    """One alert that nobody has dismissed."""

    level: str
    """INFO, NOTICE, WARNING, ERROR, CRITICAL, ALERT or EMERGENCY."""
    kind: str
    text: str
    at: datetime | None = None


class NasDisk(Fact):
    """One disk."""

    name: str
    model: str = ""
    serial: str = ""
    pool: str = ""
    temperature: int | None = None
    failed_test: str = ""
    """What its last SMART test says when it failed; releases from 25.10 on tell it by an alert instead."""


class NasKey(Fact):
    """The API key that was used."""

    name: str
    expires: datetime | None = None


class NasFacts(Fact):
    """A TrueNAS box at one moment."""

    used: bool = True
    """Whether the lab file names an API key; nothing is known otherwise."""
    version: str = ""
    hostname: str = ""
    uptime: int = 0
    """Seconds."""
    pools: tuple[Pool, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    shares: tuple[NfsShare, ...] = ()
    nfs_running: bool = False
    nfs_protocols: tuple[str, ...] = ()
    snapshot_tasks: tuple[NasTask, ...] = ()
    replications: tuple[NasTask, ...] = ()
    backup_dataset: str = ""
    """The dataset that holds the backup target; "" when none does."""
    newest_snapshot: datetime | None = None
    """Of the dataset that holds the backup target."""
    alerts: tuple[NasAlert, ...] = ()
    disks: tuple[NasDisk, ...] = ()
    keys: tuple[NasKey, ...] = ()
    read_at: datetime

    def dataset_of(self, path: str) -> Dataset | None:
        """Return the dataset that a path of the box lies in: the one with the longest mountpoint before it."""
        inside = [one for one in self.datasets if one.mountpoint and f"{path}/".startswith(f"{one.mountpoint}/")]
        return max(inside, key=lambda one: len(one.mountpoint), default=None)

    def share_of(self, path: str) -> NfsShare | None:
        """Return the export that a path of the box lies in."""
        inside = [one for one in self.shares if f"{path}/".startswith(f"{one.path}/")]
        return max(inside, key=lambda one: len(one.path), default=None)
