"""The loss of everything in a rehearsal, and whether what was backed up came back, by the twin's own checksums. Pure.

The twin knows what each backup held at the moment it was taken, and what was on each volume at the very end; labkit
knows neither. So what is compared here was not written down by whoever restored it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from labkit.errors import counted
from labkit.facts.longhorn import backup_of


@dataclass(frozen=True)
class VolumeRow:
    """One volume that was lost.

    Attributes:
        claim: `namespace/name`.
        backup: the backup that it came back from; "" while it has not.
        taken: the moment whose content that holds, UTC.
        before: the checksum of that content, when the backup was taken.
        after: the checksum of what is there now.
        passed_over: how many newer backups there are that were not taken.
        lost: writes that are newer than the backup.
        problem: why it is not well; "" when the content is that of its backup.
    """

    claim: str
    backup: str = ""
    taken: str = ""
    before: str = ""
    after: str = ""
    passed_over: int = 0
    lost: int = 0
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the content is what was backed up."""
        return not self.problem

    @property
    def remark(self) -> str:
        """What a person should know beside that."""
        words = [self.problem] if self.problem else []
        if self.passed_over:
            words.append(f"{counted(self.passed_over, 'newer backup')} passed over")
        return "; ".join(words)


@dataclass(frozen=True)
class Loss:
    """What was lost in a rehearsal and what came back of it; `notes` say what else happened on the way."""

    rows: tuple[VolumeRow, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all that was backed up is there again."""
        return all(row.ok for row in self.rows)

    @property
    def words(self) -> str:
        """The outcome in one line."""
        good = sum(row.ok for row in self.rows)
        late = sum(row.lost for row in self.rows)
        text = f"{good} of {counted(len(self.rows), 'volume')} came back as they were backed up"
        return f"{text}; {counted(late, 'write')} newer than the backups lost" if late else text

    def to_dict(self) -> dict[str, Any]:
        """Return it in the form of summary.json."""
        rows = [{**asdict(row), "ok": row.ok} for row in self.rows]
        return {"ok": self.ok, "words": self.words, "notes": list(self.notes), "volumes": rows}


def compare(past: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[VolumeRow, ...]:
    """Return a row for each volume that was lost.

    Args:
        past: the twin's record: `backups` by volume and name, `end` by volume.
        now: the volumes that are there, by name.
    """
    by_claim = {_claim(seen): seen for seen in now.values() if seen.get("claim")}
    rows = []
    for volume, end in sorted(past["end"].items(), key=lambda item: _claim(item[1])):
        record = dict(_records(past["backups"], volume, _claim(end)))
        rows.append(_row(_claim(end), record, end, by_claim.get(_claim(end)) or now.get(volume)))
    return tuple(rows)


def _records(backups: Mapping[str, Any], volume: str, claim: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every backup of a claim, of whichever volume it had."""
    for name, found in backups.items():
        for backup, row in found.items():
            if name == volume or _claim(row) == claim:
                yield backup, row


def _row(
    claim: str, record: Mapping[str, Mapping[str, Any]], end: Mapping[str, Any], seen: Mapping[str, Any] | None
) -> VolumeRow:
    if seen is None:
        kept = f"not restored; {counted(len(record), 'backup')} of it on the NAS" if record else "never backed up"
        return VolumeRow(claim, problem=kept, lost=0 if record else int(end["writes"]))
    backup = backup_of(str(seen.get("from_backup") or ""))
    if backup not in record:
        got = f"restored from {backup}, which the twin has no record of" if backup else "new and empty: not restored"
        return VolumeRow(claim, backup, after=str(seen["checksum"]), problem=got)
    taken = record[backup]
    newer = sum(row["taken"] > taken["taken"] for row in record.values())
    same = seen["checksum"] == taken["checksum"]
    return VolumeRow(
        claim, backup, str(taken["taken"]), str(taken["checksum"]), str(seen["checksum"]), newer,
        max(0, int(end["writes"]) - int(taken["writes"])), "" if same else "its content is not that of the backup",
    )  # fmt: skip


def _claim(row: Mapping[str, Any]) -> str:
    return f"{row.get('namespace', '')}/{row.get('claim', '')}"
