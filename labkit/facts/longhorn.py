"""What was read of Longhorn and of what is bound to its volumes. Sizes are bytes. Pure.

Names follow Longhorn's own objects; what they leave to be worked out (which condition is good news, what a label
holds as JSON) is worked out here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from pydantic import Field

from labkit.facts.evidence import Evidence, Leftover
from labkit.facts.proxmox import Fact

NAMESPACE = "longhorn-system"
DRIVER = "driver.longhorn.io"
JOB_LABEL = "recurring-job.longhorn.io/"
GROUP_LABEL = "recurring-job-group.longhorn.io/"
DEFAULT_GROUP = "default"


def backup_of(url: str) -> str:
    """Return the backup that a URL of Longhorn names, as in a volume's `fromBackup`; "" when it names none."""
    return parse_qs(urlsplit(url).query).get("backup", [""])[0]


class Replica(Fact):
    """One replica of a volume."""

    name: str
    volume: str
    node: str
    """The node that it is on; "" when it has found none."""
    running: bool = False
    failed_at: str = ""


class RestoreProgress(Fact):
    """How far the restore of a volume is, from its engine: the least of its replicas."""

    percent: int = 0
    error: str = ""


class Volume(Fact):
    """One Longhorn volume."""

    name: str
    size: int
    replicas: int
    """How many are wanted."""
    state: str = ""
    """creating, attached, detached, attaching, detaching or deleting."""
    robustness: str = ""
    """healthy, degraded, faulted, or unknown for a detached volume."""
    actual_size: int = 0
    node: str = ""
    """Where it is attached."""
    access_mode: str = "rwo"
    encrypted: bool = False
    from_backup: str = ""
    restore_required: bool = False
    restore_initiated: bool = False
    restore_failed: str = ""
    """Why its restore failed; "" when it did not."""
    restore: RestoreProgress | None = None
    scheduled: bool = True
    unscheduled_because: str = ""
    last_backup: str = ""
    last_backup_at: datetime | None = None
    backup_target: str = "default"
    namespace: str = ""
    """Of the claim that it is or was used by."""
    claim: str = ""
    pv: str = ""
    labels: Mapping[str, str] = Field(default_factory=dict)
    checked: str = ""
    """The SHA-256 over its files as they were right after its restore, before any app had them."""
    created_at: datetime | None = None
    uid: str = ""

    @property
    def jobs(self) -> tuple[str, ...]:
        """The recurring jobs that it is in by name."""
        return tuple(sorted(
            key.removeprefix(JOB_LABEL) for key, value in self.labels.items()
            if key.startswith(JOB_LABEL) and key != f"{JOB_LABEL}source" and value == "enabled"
        ))  # fmt: skip

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of recurring jobs that it is in; a volume without any such label is in `default`."""
        named = tuple(sorted(
            key.removeprefix(GROUP_LABEL) for key, value in self.labels.items()
            if key.startswith(GROUP_LABEL) and value == "enabled"
        ))  # fmt: skip
        return named if named or self.jobs else (DEFAULT_GROUP,)

    @property
    def is_restoring(self) -> bool:
        """Whether it is made from a backup and that has not ended: before the first pass neither flag is set."""
        return bool(self.from_backup) and (self.restore_required or not self.restore_initiated)


class BackupTarget(Fact):
    """One backup target."""

    name: str
    url: str
    available: bool = False
    problem: str = ""
    """What Longhorn says against it."""
    last_synced: datetime | None = None
    poll_seconds: int = 0
    """0: it is never polled."""


class BackupVolume(Fact):
    """What Longhorn knows of the backups of one volume in a target; its own name is not the volume's."""

    name: str
    volume: str
    target: str = "default"
    last_backup: str = ""
    last_backup_at: datetime | None = None
    last_synced: datetime | None = None
    storage_class: str = ""
    problem: str = ""


class Backup(Fact):
    """One backup, as the cluster knows it."""

    name: str
    volume: str
    target: str = "default"
    state: str = ""
    """Completed, InProgress, Error, ..."""
    created: datetime | None = None
    """When it was made, UTC."""
    snapshot_created: datetime | None = None
    """The moment whose content it holds, UTC."""
    volume_size: int = 0
    """Of the block device: what a restored volume has."""
    size: int = 0
    url: str = ""
    namespace: str = ""
    """Of the claim that used the volume, from its label KubernetesStatus; "" when it has none."""
    claim: str = ""
    job: str = ""
    """The recurring job that made it."""
    drill: str = ""
    """The claim that a drill made it for, as `labkit.facts.evidence` has it; "" when none did."""
    snapshot: str = ""
    error: str = ""
    progress: int = 0
    last_synced: datetime | None = None


class RecurringJob(Fact):
    """One recurring job."""

    name: str
    task: str
    cron: str
    retain: int = 0
    groups: tuple[str, ...] = ()

    @property
    def is_backup(self) -> bool:
        """Whether it makes backups of volumes."""
        return self.task in {"backup", "backup-force-create"}


class LonghornDisk(Fact):
    """One disk of a node."""

    name: str
    maximum: int = 0
    available: int = 0
    reserved: int = 0
    scheduled: int = 0
    schedulable: bool = True
    problem: str = ""


class LonghornNode(Fact):
    """One node as Longhorn sees it."""

    name: str
    ready: bool = True
    schedulable: bool = True
    """Whether it is allowed and able to take replicas."""
    zone: str = ""
    problem: str = ""
    disks: tuple[LonghornDisk, ...] = ()


class Claim(Fact):
    """One PersistentVolumeClaim of any class."""

    namespace: str
    name: str
    phase: str = ""
    volume: str = ""
    """The PV that it names or is bound to."""
    storage_class: str = ""
    requested: int = 0
    access_modes: tuple[str, ...] = ()
    labels: Mapping[str, str] = Field(default_factory=dict)
    created_at: datetime | None = None
    deleting: bool = False
    pods: tuple[str, ...] = ()
    """The pods that use it, by name."""
    kustomization: str = ""
    """The Flux Kustomization that applies it, `namespace/name`; "" when none does."""


class PersistentVolume(Fact):
    """One PersistentVolume."""

    name: str
    phase: str = ""
    driver: str = ""
    """csi driver, or nfs, local, ..."""
    handle: str = ""
    """The Longhorn volume behind it."""
    storage_class: str = ""
    reclaim: str = ""
    capacity: int = 0
    claim_namespace: str = ""
    claim: str = ""
    claim_uid: str = ""
    access_modes: tuple[str, ...] = ()
    fs_type: str = ""


class LonghornFacts(Fact):
    """Longhorn, the claims and the PVs of the cluster, as read at one moment."""

    installed: str = ""
    """Longhorn's version, for example 1.10.2; "" when it is not there."""
    ready: bool = False
    """Whether its manager and CSI driver run."""
    volumes: tuple[Volume, ...] = ()
    replicas: tuple[Replica, ...] = ()
    targets: tuple[BackupTarget, ...] = ()
    backup_volumes: tuple[BackupVolume, ...] = ()
    backups: tuple[Backup, ...] = ()
    jobs: tuple[RecurringJob, ...] = ()
    nodes: tuple[LonghornNode, ...] = ()
    settings: Mapping[str, str] = Field(default_factory=dict)
    """By name; where 1.10 keeps one value per data engine, that of v1."""
    claims: tuple[Claim, ...] = ()
    pvs: tuple[PersistentVolume, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    """What drills have shown, the newest of each claim."""
    leftovers: tuple[Leftover, ...] = ()
    """What drills that were interrupted left behind."""
    read_at: datetime

    def volume(self, name: str) -> Volume | None:
        """Return a volume by name."""
        return next((volume for volume in self.volumes if volume.name == name), None)

    def pv(self, name: str) -> PersistentVolume | None:
        """Return a PersistentVolume by name."""
        return next((pv for pv in self.pvs if pv.name == name), None)

    def find_claim(self, namespace: str, name: str) -> Claim | None:
        """Return a claim by namespace and name."""
        return next((claim for claim in self.claims if (claim.namespace, claim.name) == (namespace, name)), None)

    def proof(self, namespace: str, claim: str) -> Evidence | None:
        """Return what the latest drill of a claim has shown."""
        return next((one for one in self.evidence if (one.namespace, one.claim) == (namespace, claim)), None)

    def target(self, name: str = "default") -> BackupTarget | None:
        """Return a backup target by name."""
        return next((target for target in self.targets if target.name == name), None)
