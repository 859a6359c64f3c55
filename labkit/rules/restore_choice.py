"""Which backup each claim comes back from: the newest good one at or before a moment, never a later one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from labkit.errors import InputError, Mistake
from labkit.facts.backups import StoredBackup, StoredVolume, StoreFacts
from labkit.facts.longhorn import LonghornFacts, Volume
from labkit.facts.restore import GitClaim, PassedOver, WantedVolume

_NEVER = datetime.min.replace(tzinfo=UTC)


def parse_moment(text: str) -> datetime | None:
    """Read `restore_as_of`: a moment in UTC such as `2026-08-10T20:00:00Z`; None when it is empty.

    Raises:
        InputError: it is no moment.
    """
    if not text.strip():
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        expected = "a moment in UTC, such as 2026-08-10T20:00:00Z"
        raise InputError([Mistake("parameters", 0, 0, "restore_as_of", expected, repr(text))]) from exc
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def show_moment(moment: datetime | None) -> str:
    """Write a moment as `restore_as_of` takes it; `never` for None."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else "never"


def wanted_volumes(
    claims: Iterable[GitClaim],
    store: StoreFacts,
    *,
    as_of: datetime | None = None,
    longhorn: LonghornFacts | None = None,
    sources: Mapping[str, str] | None = None,
) -> tuple[WantedVolume, ...]:
    """Return for each claim the backup that it shall come from.

    A backup counts for a claim when its label names the claim, or when it is of the volume that the claim is pinned
    to or uses now. Of all those the newest restorable one at or before `as_of` is taken, whichever volume it is of; a
    damaged one is passed over, and that is said. A claim without any gets a `problem`.

    Args:
        claims: from `git_claims` (and `living_claims` for those that Git does not name).
        store: the backup store, read without the cluster; with the damage that a verification found.
        as_of: the moment to go back to, UTC; the newest when None. Backups that a volume made after it was itself
            restored do not count then: else every restore would ask for the next one.
        longhorn: the living cluster, or None when there is none.
        sources: by `namespace/name` of a claim, the volume of the store that its backup must be of.
    """
    wanted = list(claims)
    pins = {_volume_of(one): one.id for one in wanted if _volume_of(one)}
    return tuple(
        _choose(_Candidates(one, store, longhorn, pins, (sources or {}).get(one.id, "")), as_of) for one in wanted
    )


def _volume_of(claim: GitClaim) -> str:
    return claim.handle or claim.pinned


def current_volume(claim: GitClaim, longhorn: LonghornFacts | None) -> Volume | None:
    """Return the Longhorn volume that a claim uses now; None when there is none."""
    if longhorn is None or (seen := longhorn.find_claim(claim.namespace, claim.name)) is None:
        return None
    pv = longhorn.pv(seen.volume)
    ours = pv is not None and (pv.claim_namespace, pv.claim) == (claim.namespace, claim.name)
    return longhorn.volume(pv.handle) if pv is not None and ours else None


class _Candidates:
    """The backups that count for one claim."""

    def __init__(
        self, claim: GitClaim, store: StoreFacts, longhorn: LonghornFacts | None, pins: Mapping[str, str], source: str
    ) -> None:
        self.claim = claim
        self._current = current_volume(claim, longhorn)
        self._pins = pins
        self.volumes = {one.name: one for one in store.volumes if self._counts(one, source)}

    def _counts(self, volume: StoredVolume, source: str) -> bool:
        if source:
            return volume.name == source
        if self._pins.get(volume.name, self.claim.id) != self.claim.id:
            return False  # Git has given that volume to another claim
        if volume.name in self._own_names():
            return True
        return self._names_claim(volume) or any(self._names_claim(one) for one in volume.backups)

    def _own_names(self) -> set[str]:
        """The volumes whose backups are ours whatever their labels say."""
        return {_volume_of(self.claim), self._current.name if self._current is not None else ""} - {""}

    def _names_claim(self, one: StoredVolume | StoredBackup) -> bool:
        return (one.namespace, one.claim) == (self.claim.namespace, self.claim.name)

    def backups(self, *, newest: bool) -> list[StoredBackup]:
        """Return those that count, the newest first; ones that were never finished at the end."""
        found = [one for volume in self.volumes.values() for one in volume.backups if self._fits(one)]
        found = [one for one in found if not (newest and self._is_own(one))]
        return sorted(found, key=lambda one: (moment_of(one) or _NEVER, one.name), reverse=True)

    def _fits(self, backup: StoredBackup) -> bool:
        """Whether a backup of a volume that had several claims in its life is one of ours."""
        return backup.volume in self._own_names() or not backup.claim or self._names_claim(backup)

    def _is_own(self, backup: StoredBackup) -> bool:
        """Whether the volume in use has made a backup after it was itself restored."""
        now, taken = self._current, moment_of(backup)
        if now is None or not now.from_backup or now.name != backup.volume:
            return False
        return now.created_at is not None and taken is not None and taken >= now.created_at


def moment_of(backup: StoredBackup) -> datetime | None:
    """Return the moment whose content a backup holds; None for one that was never finished."""
    return backup.snapshot_created or backup.created


def _choose(candidates: _Candidates, as_of: datetime | None) -> WantedVolume:
    claim, rows = candidates.claim, candidates.backups(newest=as_of is None)
    times = [taken for one in rows if (taken := moment_of(one)) is not None and one.created is not None]
    early = [one for one in rows if as_of is None or (moment_of(one) or _NEVER) <= as_of]
    chosen = next((one for one in early if one.is_restorable and candidates.volumes[one.volume].size), None)
    passed = tuple(_passed_over(candidates, early, chosen))
    found = WantedVolume(claim=claim, passed_over=passed, newest=max(times, default=None))
    if chosen is None:
        return found.model_copy(update={"problem": _problem(rows, early, as_of)})
    more = {
        "backup": chosen,
        "taken": moment_of(chosen),
        "size": candidates.volumes[chosen.volume].size,
        "job_labels": candidates.volumes[chosen.volume].job_labels,
        "others": tuple(sorted(name for name in candidates.volumes if name != chosen.volume)),
    }
    return found.model_copy(update=more)


def _passed_over(
    candidates: _Candidates, early: Sequence[StoredBackup], chosen: StoredBackup | None
) -> Iterator[PassedOver]:
    last = moment_of(chosen) if chosen is not None else None
    for one in early:
        taken = moment_of(one)
        sized = bool(candidates.volumes[one.volume].size)
        if one is chosen or taken is None or (one.is_restorable and sized) or (last is not None and taken < last):
            continue
        unfinished = "it was never finished" if one.created is None else "the store does not say its volume's size"
        why = "; ".join(one.damage) or unfinished
        yield PassedOver(name=one.name, volume=one.volume, taken=taken, why=why)


def _problem(rows: Sequence[StoredBackup], early: Sequence[StoredBackup], as_of: datetime | None) -> str:
    if not rows:
        return "no backup of it is in the store"
    oldest = min((taken for one in rows if (taken := moment_of(one)) is not None), default=None)
    if not early or (as_of is not None and oldest is not None and oldest > as_of):
        return f"the oldest backup is from {show_moment(oldest)}, later than {show_moment(as_of)}"
    when = f" up to {show_moment(as_of)}" if as_of is not None else ""
    return f"none of its {len(early)} backups{when} can be restored: {'; '.join(early[0].damage) or 'never finished'}"
