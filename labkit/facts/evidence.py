"""What says that a backup was brought back and looked at: kept in the cluster, dated. Pure.

The words `drill` and `scratch` stand for what a drill makes to look at a backup, and removes again: all of it carries
the label `LABEL`, so that what an interrupted drill left behind is known as such.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from labkit.facts.proxmox import Fact

CONFIG_MAP = "labkit-restore-evidence"
"""In Longhorn's namespace; a key for each claim, `namespace.name`, with JSON."""
LABEL = "labkit.io/drill"
"""On everything that a drill makes; its value is the key of the claim."""
PREFIX = "labkit-drill-"
"""What the names of scratch volumes, claims' namespaces and snapshots begin with."""


DRILL, RECOVERY = "backup-drill", "disaster-recovery"
"""The runbooks that bring a backup back and look at it."""


class Evidence(Fact):
    """What the latest drill of one claim's volume has shown, or the recovery that brought it back."""

    namespace: str
    claim: str
    volume: str
    """The live volume; after a recovery the restored one."""
    by: str = DRILL
    """The runbook that looked."""
    backup: str
    target: str = "default"
    proven: bool
    """Whether the backup came back with files that can all be read; in a drill also byte for byte as in the store."""
    at: datetime
    """When that was looked at, UTC."""
    backup_at: datetime | None = None
    """The moment whose content the backup holds, UTC."""
    problem: str = ""
    """Why it is not proven."""
    blocks: int = 0
    """How many distinct blocks a drill has read from the store, each with its checksum."""
    size: int = 0
    """Of the block device, in bytes."""
    device: str = ""
    """The SHA-256 of the whole device, the same from the store and from the restored volume."""
    tree: str = ""
    """The SHA-256 over `sha256  ./path` of every file of the restored volume, sorted by path."""
    files: int = 0
    probe: str = ""
    """What the probe command of the app said at last; "" when it has none."""
    seconds: float = 0.0
    """How long the restore itself took."""

    @property
    def key(self) -> str:
        """How the evidence is filed."""
        return claim_key(self.namespace, self.claim)


class Leftover(Fact):
    """Something that a drill made and did not come to remove."""

    kind: str
    """Namespace, PersistentVolume, Volume, Backup or Snapshot."""
    name: str
    of: str = ""
    """The key of the claim that it was made for; "" when it does not say."""
    volume: str = ""
    """For a backup or snapshot: the live volume that it was taken of."""


def claim_key(namespace: str, claim: str) -> str:
    """Return what a claim is called where no `/` may stand: in keys of a ConfigMap and in labels' values."""
    return f"{namespace}.{claim}"


def scratch_name(namespace: str, claim: str) -> str:
    """Return what the scratch volume of a claim and all around it is called; at most 40 characters, as volumes may."""
    return PREFIX + hashlib.sha256(f"{namespace}/{claim}".encode()).hexdigest()[:12]


def label_value(namespace: str, claim: str) -> str:
    """Return the value of `LABEL` for a claim: its key, or what is left of it in 63 characters."""
    key = claim_key(namespace, claim)
    return key if len(key) <= 63 else f"{key[:50]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
