"""What a restore looks at: the claims that Git names, the backup chosen for each, and who uses them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from labkit.facts.backups import StoredBackup
from labkit.facts.proxmox import Fact

HELD = "labkit/replicas"
"""The annotation of a workload that a restore has scaled down: how many replicas it had."""
KEPT = "labkit/kept-for"
"""The label of a Longhorn volume that was set aside: the claim that it was in use by, `namespace.name`."""
KEPT_GROUP = "labkit-kept"
"""The group of recurring jobs of a volume that was set aside: no job names it, so that nothing backs it up as if it
were the claim's."""
RESTORED = "labkit/restored-for"
"""The label of a Longhorn volume that a restore has made: the claim that it is for, `namespace.name`."""
CLAIM = "labkit/claim"
"""The annotation of a restored volume that keeps the manifest of the claim while that is made anew."""
SHA256 = "labkit/sha256"
"""The annotation of a restored volume: the checksum of its files before any app wrote to it."""


class GitClaim(Fact):
    """A PersistentVolumeClaim on Longhorn, as Git wants it, or as the cluster has it when Git does not name it."""

    namespace: str
    name: str
    pinned: str = ""
    """Its `volumeName`: the PersistentVolume that it must be bound to."""
    handle: str = ""
    """The Longhorn volume of a PersistentVolume that stands in Git itself."""
    storage_class: str = ""
    requested: int = 0
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    job_labels: Mapping[str, str] = Field(default_factory=dict)
    """The labels of recurring jobs and their groups that its volume gets; none leave it to the group default."""
    parameters: Mapping[str, str] = Field(default_factory=dict)
    """Of its storage class."""
    mount_options: tuple[str, ...] = ()
    kustomization: str = ""
    """The Flux Kustomization that applies it, `namespace/name`."""
    place: str = ""
    """`file:line` in Git; empty for a claim that Git does not name."""
    template: str = ""
    """The StatefulSet whose template makes it, `namespace/name`."""

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class PassedOver(Fact):
    """A newer backup that was not taken, and why."""

    name: str
    volume: str
    taken: datetime | None = None
    why: str = ""


class WantedVolume(Fact):
    """A volume that is needed, and the backup that it shall come from."""

    claim: GitClaim
    backup: StoredBackup | None = None
    """None when nothing can be restored: `problem` says why."""
    taken: datetime | None = None
    """The moment whose content the backup holds, UTC."""
    size: int = 0
    """Of the block device, from the store."""
    job_labels: Mapping[str, str] = Field(default_factory=dict)
    """The labels of recurring jobs as its backups remember them, for what Git does not say."""
    passed_over: tuple[PassedOver, ...] = ()
    """Damaged or unfinished backups that would have been nearer to the wanted moment."""
    newest: datetime | None = None
    """The moment of the newest backup in the store, also when that is later than wanted."""
    others: tuple[str, ...] = ()
    """Other volumes in the store with backups of the same claim."""
    problem: str = ""
    use: str = ""
    """A Longhorn volume of the cluster that the claim shall go to as it is: one that was kept, for an undo."""
    may_be_empty: bool = False
    """Whether a person has said that it may begin empty, since nothing can be restored."""

    @property
    def id(self) -> str:
        """The claim, `namespace/name`."""
        return self.claim.id

    @property
    def source(self) -> str:
        """The volume in the store that the backup is of."""
        return self.backup.volume if self.backup is not None else ""


class Holder(Fact):
    """A workload that mounts claims: a Deployment, StatefulSet, DaemonSet, CronJob, or a Job or Pod of nobody."""

    kind: str
    namespace: str
    name: str
    replicas: int = 0
    """How many are wanted; for a CronJob 1, or 0 when it is suspended."""
    running: int = 0
    """Its pods that have not ended."""
    ready: int = 0
    """How many of them are ready."""
    claims: tuple[str, ...] = ()
    """Names of the claims in its namespace."""
    held: str = ""
    """What the annotation `labkit/replicas` says: an interrupted restore has scaled it down."""
    kustomization: str = ""
    release: str = ""
    """The Helm release that it belongs to, `namespace/name`."""

    @property
    def id(self) -> str:
        """`Deployment/default/karakeep`."""
        return f"{self.kind}/{self.namespace}/{self.name}"


class HolderFacts(Fact):
    """All workloads that mount a claim."""

    holders: tuple[Holder, ...] = ()
    read_at: datetime

    def of(self, namespace: str, claim: str) -> tuple[Holder, ...]:
        """Return who uses a claim."""
        return tuple(one for one in self.holders if one.namespace == namespace and claim in one.claims)


def claim_label(namespace: str, name: str) -> str:
    """Return a claim as a label's value can hold it: `namespace.name`, cut to 63 characters."""
    return f"{namespace}.{name}"[:63].rstrip("-_.")
