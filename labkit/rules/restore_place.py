"""Where the restore of one claim stands: what is there, what of it is right, and what is to be made. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from labkit.facts.longhorn import (
    DEFAULT_GROUP,
    GROUP_LABEL,
    JOB_LABEL,
    Claim,
    LonghornFacts,
    PersistentVolume,
    Volume,
    backup_of,
)
from labkit.facts.restore import KEPT, RESTORED, GitClaim, Holder, HolderFacts, WantedVolume, claim_label
from labkit.rules.restore_choice import current_volume, show_moment

_LONGEST = 40
_HEX = re.compile(r"backup-([0-9a-f]{16})")
_BLOCK = 2 << 20
_SECRETS = "csi.storage.k8s.io/node"


def volume_name(name: str) -> str:
    """Return a name as Longhorn takes it for a volume: at most 40 characters, longer ones cut and hashed."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9]}-{hashlib.sha512(name.encode()).hexdigest()[:8]}"


def beside_names(backup: str) -> Iterator[str]:
    """Yield the names that a volume restored beside another may have: from its backup, then counted."""
    match = _HEX.fullmatch(backup)
    base = f"restored-{match[1] if match else hashlib.sha256(backup.encode()).hexdigest()[:16]}"
    yield base
    for number in range(2, 100):
        yield f"{base}-{number}"


def find_places(
    wanted: Iterable[WantedVolume], longhorn: LonghornFacts | None, holders: HolderFacts | None, *, replace: bool
) -> list[Place]:
    """Return where each restore stands; `wanted` are such that have a backup."""
    return [_find(one, longhorn, holders, replace=replace) for one in wanted]


def is_winner(volume: Volume, wanted: WantedVolume) -> bool:
    """Tell whether a volume was made empty after its claim's backup: it won the race against the restore.

    A volume that a backup is of was there before it. One that came later, from no backup, and has none of its own
    (else that would be the newer one), is a new beginning.
    """
    later = volume.created_at is not None and wanted.taken is not None and volume.created_at > wanted.taken
    return not volume.from_backup and later


@dataclass(frozen=True)
class Place:
    """One claim: the volume that it is to have, and what of the way there is left.

    Attributes:
        wanted: the claim and its backup.
        volume: the name of the Longhorn volume that it is to have.
        seen: that volume, when it is there.
        pv: the name of the PersistentVolume.
        seen_pv: what is there under that name.
        current: the volume that the claim uses now.
        current_pv: the PersistentVolume that the claim names now.
        claim_phase: of the claim, `Deleting` for one that is on its way out; "" when it is not there.
        holders: the workloads that mount the claim.
        restored: whether `volume` comes from the wanted backup (and is not one that was alive).
        replace: whether a volume that is alive gives way.
        has_own_backup: whether the volume has made a backup itself since it was restored.
    """

    wanted: WantedVolume
    volume: str
    seen: Volume | None
    pv: str
    seen_pv: PersistentVolume | None
    current: Volume | None
    current_pv: str
    claim_phase: str
    holders: tuple[Holder, ...]
    restored: bool
    replace: bool
    has_own_backup: bool

    @property
    def id(self) -> str:
        """The claim, `namespace/name`."""
        return self.wanted.id

    @property
    def backup(self) -> str:
        """The name of the backup."""
        return self.wanted.backup.name if self.wanted.backup is not None else ""

    @property
    def started(self) -> bool:
        """Whether the volume is there already, perhaps half restored."""
        return self.seen is not None

    @property
    def to_restore(self) -> bool:
        """Whether a restore is to be begun, or awaited.

        One that was begun counts until somebody has looked at its content: a plan must not change while it goes on.
        """
        return self.seen is None or self.seen.is_restoring or self.to_check

    @property
    def to_check(self) -> bool:
        """Whether nobody has looked at the content of the restored volume, and no app has written to it."""
        if self.wanted.claim.parameters.get("encrypted") == "true":
            return False  # its key is the app's
        return self.restored and self.to_bind and (self.seen is None or not self.seen.checked)

    @property
    def is_bound(self) -> bool:
        """Whether the claim uses the right volume already."""
        return self.current is not None and self.current.name == self.volume and self.claim_phase == "Bound"

    @property
    def to_bind(self) -> bool:
        """Whether a PersistentVolume for the claim is to be made, or freed of a claim that is gone."""
        if self.is_bound or self.wanted.claim.handle:
            return False  # done, or Git has the PersistentVolume itself
        return self.seen_pv is None or self.seen_pv.handle != self.volume or self.pv_is_stale or self.to_switch

    @property
    def pv_is_stale(self) -> bool:
        """Whether the right PersistentVolume is still reserved for a claim that is gone."""
        pv = self.seen_pv
        return pv is not None and pv.handle == self.volume and pv.phase == "Released"

    @property
    def to_switch(self) -> bool:
        """Whether what is in the way has to be taken out first: a claim or a PersistentVolume of another volume."""
        if self.is_bound or self.wanted.claim.handle:
            return False
        taken = self.seen_pv is not None and self.seen_pv.handle != self.volume
        elsewhere = bool(self.current_pv) and self.current_pv != self.pv
        gone = not self.claim_phase and (self.replace or any(holder.held for holder in self.holders))
        return taken or elsewhere or gone or self.claim_phase in ("Lost", "Deleting")

    @property
    def ready(self) -> tuple[str, ...]:
        """The ids of the changes after which the volume can be used."""
        if self.to_check:
            return (f"volume-content/{self.id}/act",)
        return (f"restored-volume/{self.volume}/create",) if self.to_restore else ()

    @property
    def fs_type(self) -> str:
        """The file system."""
        return self.wanted.claim.parameters.get("fsType", "ext4")

    def volume_spec(self) -> dict[str, JsonValue]:
        """Return what the volume is made from."""
        wanted, claim, old = self.wanted, self.wanted.claim, self.current
        found = volume_shape(claim, self._job_labels())
        found |= {"backup": self.backup, "of": wanted.source, "taken": show_moment(wanted.taken), "size": wanted.size}
        if old is not None:
            found["replicas"] = old.replicas
        if claim.requested > wanted.size:
            found["grow"] = -(-claim.requested // _BLOCK) * _BLOCK
        return found

    def _job_labels(self) -> dict[str, str]:
        """The labels of jobs and groups: of the volume that gives way, else of the claim in Git, else as backed up."""
        if self.current is None:
            return dict(self.wanted.claim.job_labels or self.wanted.job_labels)
        own = {k: v for k, v in self.current.labels.items() if k.startswith((JOB_LABEL, GROUP_LABEL))}
        return {} if set(own) <= {GROUP_LABEL + DEFAULT_GROUP} else dict(sorted(own.items()))

    def pv_spec(self) -> dict[str, JsonValue]:
        """Return what the PersistentVolume is made from."""
        if self.wanted.use:
            claim = self.wanted.claim
            return pv_shape(claim, self.volume, self.wanted.size) | {"labels": {**self._job_labels()}}
        return pv_shape(self.wanted.claim, self.volume, max(self.wanted.size, self.wanted.claim.requested))

    def restore_note(self) -> str:
        """Say which backup, and what was passed over."""
        text = f"for {self.id}, as of {show_moment(self.wanted.taken)}"
        if self.started:
            text = f"goes on with the restore that is under way, {text}"
        if passed := self.wanted.passed_over:
            text += f"; passed over: {', '.join(f'{one.name} ({one.why})' for one in passed)}"
        return text


def volume_shape(claim: GitClaim, job_labels: Mapping[str, str] | None = None) -> dict[str, JsonValue]:
    """Return what no backup says of a volume, and Git does."""
    given = claim.parameters
    jobs = claim.job_labels if job_labels is None else job_labels
    found: dict[str, JsonValue] = {
        "claim": claim.id, "access": "rwx" if "ReadWriteMany" in claim.access_modes else "rwo",
        "labels": {RESTORED: claim_label(claim.namespace, claim.name), **jobs},
    }  # fmt: skip
    if given.get("numberOfReplicas", "").isdecimal():
        found["replicas"] = int(given["numberOfReplicas"])
    for key in ("dataLocality", "nodeSelector", "diskSelector", "encrypted", "staleReplicaTimeout"):
        if given.get(key):
            found[key] = given[key]
    return found


def pv_shape(claim: GitClaim, volume: str, size: int) -> dict[str, JsonValue]:
    """Return what a PersistentVolume for a claim is made from."""
    found: dict[str, JsonValue] = {
        "volume": volume, "claim": claim.id, "class": claim.storage_class, "size": size,
        "fs": claim.parameters.get("fsType", "ext4"), "modes": [*claim.access_modes],
    }  # fmt: skip
    if claim.mount_options:
        found["mount"] = [*claim.mount_options]
    if secrets := {key: value for key, value in claim.parameters.items() if key.startswith(_SECRETS)}:
        found["secrets"] = dict(sorted(secrets.items()))
    return found


def _find(wanted: WantedVolume, longhorn: LonghornFacts | None, holders: HolderFacts | None, *, replace: bool) -> Place:
    claim = wanted.claim
    current = current_volume(claim, longhorn)
    seen_claim = longhorn.find_claim(claim.namespace, claim.name) if longhorn is not None else None
    name, restored = _volume_for(wanted, longhorn, current, replace=replace)
    pv = claim.pinned or name
    seen = longhorn.volume(name) if longhorn is not None else None
    return Place(
        wanted=wanted,
        volume=name,
        seen=seen,
        pv=pv,
        seen_pv=longhorn.pv(pv) if longhorn is not None else None,
        current=current,
        current_pv=_bound_pv(longhorn, seen_claim.volume) if seen_claim is not None and longhorn is not None else "",
        claim_phase=_phase(seen_claim),
        holders=holders.of(claim.namespace, claim.name) if holders is not None else (),
        restored=restored,
        replace=replace,
        has_own_backup=_has_own_backup(seen, longhorn),
    )


def _phase(claim: Claim | None) -> str:
    if claim is None:
        return ""
    return "Deleting" if claim.deleting else claim.phase or "Pending"


def _bound_pv(longhorn: LonghornFacts, name: str) -> str:
    """The PersistentVolume that a claim names; "" while there is none of that name."""
    return name if longhorn.pv(name) is not None else ""


def _volume_for(
    wanted: WantedVolume, longhorn: LonghornFacts | None, current: Volume | None, *, replace: bool
) -> tuple[str, bool]:
    """Return the name of the volume that a claim is to have, and whether it comes from the wanted backup."""
    claim, backup = wanted.claim, wanted.backup.name if wanted.backup is not None else ""
    if wanted.use:
        return wanted.use, False
    pinned = volume_name(claim.handle or claim.pinned or wanted.source)
    if longhorn is None:
        return pinned, True
    if current is not None and _is_from(current, backup):
        return current.name, True
    if not replace:
        there = longhorn.volume(pinned)
        for one in (current, there if there is not None and KEPT not in there.labels else None):
            if one is not None and not one.is_restoring and not one.restore_failed and not is_winner(one, wanted):
                return one.name, _is_from(one, backup)
    for name in (pinned, *(() if claim.handle else beside_names(backup))):
        found = longhorn.volume(name)
        if found is None or _is_from(found, backup):
            return name, True
    return pinned, False


def _is_from(volume: Volume, backup: str) -> bool:
    """Whether a volume comes from a backup, its restore has not failed, and it was not set aside since."""
    return backup_of(volume.from_backup) == backup and not volume.restore_failed and KEPT not in volume.labels


def _has_own_backup(volume: Volume | None, longhorn: LonghornFacts | None) -> bool:
    if volume is None or longhorn is None or volume.created_at is None:
        return False
    since = volume.created_at
    return any(
        one.volume == volume.name and one.state == "Completed" and one.created is not None and one.created >= since
        for one in longhorn.backups
    )
