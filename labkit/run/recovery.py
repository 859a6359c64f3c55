"""What a recovery does between reading and planning: the chosen backups are verified before anything is built."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from labkit.errors import counted
from labkit.redaction import redact
from labkit.rules.needed import Goal, needed_volumes, to_restore
from labkit.run.core import Run
from labkit.run.journal import read_journal
from labkit.run.notices import show
from labkit.systems.verified import forget_verdicts, verify_wanted

_GIB = 1 << 30
_MUCH = 4 * _GIB


def verify_store(run: Run, facts: Mapping[str, Any], goal: Goal) -> dict[str, Any]:
    """Verify, block by block and without a cluster, the backup of every volume that is to be restored.

    A damaged one is passed over for the one before it, which is verified in its turn.

    Args:
        run: the run.
        facts: of `recovery_reads(goal)`, as it has read them.
        goal: what is asked for.

    Returns:
        The facts, with the store as it was read again.

    Raises:
        SystemDown: the store went away.
        InputError: it cannot be opened, or a name of the goal stands for nothing.
    """
    forget_verdicts(run.access)
    seen = {**facts, "verified": run.read("verified")}
    while True:
        claims = to_restore(seen, goal)
        wanted = [one for one in needed_volumes(seen, goal) if one.id in claims and one.backup is not None]
        unseen = [one for one in wanted if one.backup is not None and not one.backup.verified]
        if not unseen:
            return seen
        names = [one.backup.name for one in unseen if one.backup is not None]
        told = _Told(sum(one.backup.size for one in unseen if one.backup is not None), len(names))
        verify_wanted(run.lab, run.access, unseen, on_block=told.add)
        run.journal.write("verified", backups=names)
        seen["verified"] = run.read("verified")


class _Told:
    """Tells how far a verification is: by tenths when there is much to read."""

    def __init__(self, size: int, count: int) -> None:
        self._size, self._seen, self._tenth = size, 0, 0
        self._guard = threading.Lock()
        show(f"verifies {counted(count, 'backup')} in the store, {size / _GIB:.2g} GiB")

    def add(self, count: int) -> None:
        """Note how many bytes were read."""
        with self._guard:
            self._seen += count
            tenth = 10 * self._seen // self._size if self._size > _MUCH else 0
            if tenth > self._tenth:
                self._tenth = tenth
                show(f"verified {min(100, 10 * tenth)} %")


def needed_table(facts: Mapping[str, Any], goal: Goal) -> Any:
    """Return the volumes that a recovery needs, as a table, with the backup that each will come from."""
    from labkit.report.recovery import volume_table  # noqa: PLC0415  # display only

    return volume_table(needed_volumes(facts, goal))


def report_recovery(run: Run, goal: Goal) -> Any:
    """Return the report of a recovery from what the run has read last, and write it into the run's folder."""
    from labkit.report.recovery import recovery_report  # noqa: PLC0415  # display only

    names = ("git", "longhorn-if-any", "flux-if-any", "holders", "verified")
    facts = {name: run.latest(name) for name in names}
    report = recovery_report(
        needed_volumes(facts, goal), facts["longhorn-if-any"], facts["holders"], facts["flux-if-any"],
        read_journal(run.journal.path),
    )  # fmt: skip
    (run.folder / "recovery.json").write_text(redact(json.dumps(report.as_json(), indent=1)), encoding="utf-8")
    return report
