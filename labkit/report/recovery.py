"""What came back, from when, what is lost, and what a person still has to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from typing import Any

import pandas as pd

from labkit.facts.flux import FluxFacts
from labkit.facts.longhorn import LonghornFacts, Volume
from labkit.facts.restore import KEPT, RESTORED, HolderFacts, WantedVolume, claim_label
from labkit.report.html import Cell, box, table

_HEAD = (
    "claim", "volume", "backup", "as of (UTC)", "lost", "sha256 before", "sha256 after", "seconds", "kept", "remark",
)  # fmt: skip
_SHORT = 16


@dataclass(frozen=True)
class RecoveryRow:
    """One volume: where it comes from, and what of it is known.

    Attributes:
        claim: `namespace/name`.
        volume: the Longhorn volume that the claim uses now.
        backup: that it comes from; "" for one that was never away.
        taken: the moment whose content it holds.
        lost: what is not in it.
        before: the SHA-256 over its files, as a drill of that backup has seen them; "" where none has.
        after: the same as it came back, before any app had it; "" where nobody looked.
        seconds: how long its restore took; 0 when it was not this run's.
        kept: volumes that were set aside for this claim.
        remark: backups that were passed over, and why; a failure.
    """

    claim: str
    volume: str
    backup: str = ""
    taken: str = ""
    lost: str = ""
    before: str = ""
    after: str = ""
    seconds: float = 0.0
    kept: tuple[str, ...] = ()
    remark: str = ""

    @property
    def differs(self) -> bool:
        """Whether the content is known before and after, and is not the same."""
        return bool(self.before and self.after) and self.before != self.after

    def cells(self) -> list[str | Cell]:
        """Return the row as the table shows it."""
        after = self.after[:_SHORT]
        return [
            self.claim, self.volume, self.backup, self.taken, self.lost, self.before[:_SHORT],
            Cell(f"{after} differs", "error") if self.differs else after,
            f"{self.seconds:.0f}" if self.seconds else "", ", ".join(self.kept), self.remark,
        ]  # fmt: skip


@dataclass(frozen=True)
class RecoveryReport:
    """The report of a recovery: a row per volume, and what is left to a person."""

    rows: tuple[RecoveryRow, ...]
    todo: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [" | ".join(cell if isinstance(cell, str) else cell.text for cell in row.cells()) for row in self.rows]
        return "\n".join([" | ".join(_HEAD), *lines, *(f"- {one}" for one in self.todo)])

    def _repr_html_(self) -> str:
        rest = "".join(f"<li>{escape(one)}</li>" for one in self.todo)
        tail = f"<p>What a person still has to do:</p><ul>{rest}</ul>" if self.todo else "<p>Nothing is left to do.</p>"
        return box(table(_HEAD, (row.cells() for row in self.rows)), tail)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {"volumes": [asdict(row) for row in self.rows], "todo": [*self.todo]}


def recovery_report(
    wanted: Iterable[WantedVolume],
    longhorn: LonghornFacts,
    holders: HolderFacts,
    flux: FluxFacts,
    events: Iterable[Mapping[str, Any]] = (),
) -> RecoveryReport:
    """Return what became of the volumes of a recovery.

    Args:
        wanted: the volumes that were needed, with the backups that were chosen.
        longhorn: the cluster afterwards.
        holders: the workloads afterwards.
        flux: Flux afterwards.
        events: of the run's journal, for durations and failures.
    """
    told = list(events)
    given = list(wanted)
    rows = tuple(_row(one, longhorn, told) for one in given)
    return RecoveryReport(rows, tuple(_todo(given, rows, longhorn, holders, flux)))


def volume_table(wanted: Iterable[WantedVolume]) -> pd.DataFrame:
    """Return one row per needed volume: the backup that it will come from, how old it is, whether it was verified."""
    rows = [
        {
            "claim": one.id,
            "volume in the store": one.source or one.use,
            "backup": one.backup.name if one.backup is not None else "",
            "as of (UTC)": _time(one.taken),
            "size (GiB)": f"{one.size / 2**30:.1f}" if one.size else "",
            "verified": "yes" if one.backup is not None and one.backup.verified else "",
            "remark": one.problem or _passed(one),
        }
        for one in wanted
    ]
    return pd.DataFrame(rows).set_index("claim").rename_axis(None) if rows else pd.DataFrame()


def _row(one: WantedVolume, longhorn: LonghornFacts, events: Sequence[Mapping[str, Any]]) -> RecoveryRow:
    volume = _volume_of(one, longhorn)
    came = volume is not None and one.backup is not None and f"backup={one.backup.name}" in volume.from_backup
    proof = longhorn.proof(one.claim.namespace, one.claim.name)
    backup = one.backup.name if one.backup is not None else ""
    failed = _failure(one, events)
    return RecoveryRow(
        claim=one.id,
        volume=volume.name if volume is not None else "none",
        backup=backup if came or failed else "",
        taken=_time(one.taken) if came or failed else "",
        lost=_lost(one) if came else "",
        before=proof.tree if came and proof is not None and proof.backup == backup else "",
        after=volume.checked if came and volume is not None else "",
        seconds=_seconds(volume.name, events) if volume is not None else 0.0,
        kept=_kept(one, longhorn, volume),
        remark="; ".join(filter(None, (failed, _passed(one), "" if came else _why_not(one, volume)))),
    )


def _volume_of(one: WantedVolume, longhorn: LonghornFacts) -> Volume | None:
    claim = longhorn.find_claim(one.claim.namespace, one.claim.name)
    pv = longhorn.pv(claim.volume) if claim is not None else None
    return longhorn.volume(pv.handle) if pv is not None else None


def _lost(one: WantedVolume) -> str:
    text = f"written after {_time(one.taken)}"
    if one.newest is not None and one.taken is not None and one.newest > one.taken:
        text += f" (the store has backups up to {_time(one.newest)})"
    return text


def _passed(one: WantedVolume) -> str:
    return "; ".join(f"passed over {passed.name} of {_time(passed.taken)}: {passed.why}" for passed in one.passed_over)


def _why_not(one: WantedVolume, volume: Volume | None) -> str:
    if one.use:
        return "back on the volume that was kept"
    if volume is None:
        return one.problem or "not restored"
    return "began empty" if one.may_be_empty else "was not away"


def _kept(one: WantedVolume, longhorn: LonghornFacts, now: Volume | None) -> tuple[str, ...]:
    label = claim_label(one.claim.namespace, one.claim.name)
    kept = [one.name for one in longhorn.volumes if one.labels.get(KEPT) == label]
    return tuple(name for name in kept if now is None or name != now.name)


def _seconds(volume: str, events: Sequence[Mapping[str, Any]]) -> float:
    """How long the restore of a volume took, by the journal."""
    mine = [event for event in events if event.get("change") == f"restored-volume/{volume}/create"]
    began = next((str(event["time"]) for event in mine if event["event"] == "change started"), "")
    ended = next((str(event["time"]) for event in reversed(mine) if event["event"] == "change done"), "")
    if not began or not ended:
        return 0.0
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def _failure(one: WantedVolume, events: Sequence[Mapping[str, Any]]) -> str:
    """Why something of this volume failed in this run."""
    began = {
        str(event.get("change")): event.get("after") or {} for event in events if event["event"] == "change started"
    }
    for event in events:
        name = str(event.get("change"))
        mine = f"/{one.id}/" in name or (began.get(name) or {}).get("claim") == one.id
        if event["event"] == "change failed" and mine:
            return f"failed: {' '.join(str(event.get('text')).split())}"
    return ""


def _todo(
    wanted: Sequence[WantedVolume],
    rows: Sequence[RecoveryRow],
    longhorn: LonghornFacts,
    holders: HolderFacts,
    flux: FluxFacts,
) -> Iterator[str]:
    for row in rows:
        if row.differs:
            yield f"{row.claim}: its content is not what the drill of {row.backup} saw; look at it before you trust it"
        if row.backup:
            yield f"{row.claim}: look at the app; what was written after {row.taken} is to be done again"
        for name in row.kept:
            yield (
                f"{row.claim}: volume {name} was kept; back to it: scope=volume, volumes=[{row.claim}={name}]; "
                "delete it in Longhorn when you are sure that it is not needed"
            )
    yield from _damaged(wanted)
    labels = {claim_label(one.claim.namespace, one.claim.name): one.id for one in wanted}
    for volume in longhorn.volumes:
        if volume.restore_failed and volume.labels.get(RESTORED) in labels:
            yield f"volume {volume.name} is a restore that failed: delete it in Longhorn"
    for holder in holders.holders:
        if holder.held:
            yield f"{holder.id} is scaled down: run disaster-recovery again"
    for one in flux.kustomizations:
        if one.suspended:
            yield f"Kustomization {one.namespace}/{one.name} is suspended by {one.suspended_by or 'somebody'}"


def _damaged(wanted: Iterable[WantedVolume]) -> Iterator[str]:
    for one in wanted:
        for passed in one.passed_over:
            yield (
                f"{one.id}: backup {passed.name} is damaged; run backup-drill with full, which writes every block "
                "anew, and look at the NAS's disks"
            )
        if one.may_be_empty and one.problem:
            yield f"{one.id}: it began empty, for {one.problem}"


def _time(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment is not None else ""
