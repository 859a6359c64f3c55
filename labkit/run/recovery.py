"""What a recovery does between reading and planning: the chosen backups are verified before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.rules.needed import Goal, needed_volumes, to_restore
from labkit.run.core import Run
from labkit.run.notices import show
from labkit.systems.verified import verify_wanted


def verify_store(run: Run, facts: Mapping[str, Any], goal: Goal) -> dict[str, Any]:
    """Verify, block by block and without a cluster, the backup of every volume that is to be restored.

    A damaged one is passed over for the one before it, which is verified in its turn.

    Args:
        run: the run.
        facts: of `recovery_reads(goal)`, as it has read them.
        goal: what is asked for.

    Returns:
        The facts, read again where backups were verified.

    Raises:
        SystemDown: the store went away.
        InputError: it cannot be opened, or a name of the goal stands for nothing.
    """
    seen = dict(facts)
    while True:
        claims = to_restore(seen, goal)
        wanted = [one for one in needed_volumes(seen, goal) if one.id in claims and one.backup is not None]
        unseen = [one for one in wanted if one.backup is not None and not one.backup.verified]
        if not unseen:
            return seen
        verify_wanted(run.lab, run.access, unseen, on_volume=lambda text: show(f"verified {text}"))
        run.journal.write("verified", backups=[one.backup.name for one in unseen if one.backup is not None])
        seen["verified"] = run.read("verified")
