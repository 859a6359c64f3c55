"""A run that its schedule started: when it began and how it ended is remembered, and what was missed before it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labkit.checks.schedules import due_between, is_success, last_begin
from labkit.errors import LabError
from labkit.facts.schedules import Schedule
from labkit.lab import Lab
from labkit.plan import Finding
from labkit.run.notify import Sent, notify
from labkit.systems.access import Access
from labkit.systems.schedules import Given, load_record, record_file, store_record


def tell(lab: Lab, access: Access, record: Schedule, findings: Sequence[Finding]) -> Sent:
    """Tell people what is wrong with a schedule, when they do not know it yet, and when it is well again."""
    return notify(lab, access, (), findings, title=f"lab {lab.name}", topic=f"schedule-{record.name}")


@dataclass
class Remembered:
    """A scheduled run while it goes on; `status` is what it ended with, 5 until somebody says otherwise."""

    record: Schedule
    status: int = 5


def remember(
    state: Path, given: Given, *, runbook: str, on: str, lab_file: Path, outputs: Path | None, findings_ok: bool = False
) -> Schedule:
    """Write down that a runbook is scheduled, and return what is known of it; what is known already stays."""
    path = record_file(state, given.name)
    known = load_record(path)
    same = known is not None and not known.problem and (known.lab, known.runbook) == (given.lab, runbook)
    moved = known is not None and (known.cron, known.zone) != (given.cron, given.zone)
    base = known if same and known is not None else None
    now = datetime.now(UTC)
    fresh = {
        "name": given.name, "lab": given.lab, "runbook": runbook, "how": given.how, "cron": given.cron,
        "zone": given.zone, "findings_ok": findings_ok, "on": on, "lab_file": str(lab_file),
        "outputs": str(outputs or ""),
    }  # fmt: skip
    since = base.since if base is not None and not moved else now
    record = Schedule.model_validate({**(base.model_dump() if base else {}), **fresh, "since": since})
    store_record(path, record)
    return record


@contextmanager
def scheduled(state: Path, record: Schedule) -> Iterator[Remembered]:
    """Remember the begin and the end of a scheduled run; an end without a word is one with a status of 5."""
    now = datetime.now(UTC)
    path = record_file(state, record.name)
    due = due_between(record, last_begin(record), now)
    begun = record.model_copy(update={
        "started": now, "ended": None, "status": None, "running": True, "pid": os.getpid(), "host": platform.node(),
        "missed": due[:-1],  # the last of them is this run's own, late as it may be
    })  # fmt: skip
    store_record(path, begun)
    remembered = Remembered(begun)
    try:
        yield remembered
    except LabError as exc:
        remembered.status = exc.exit_status
        raise
    finally:
        ended = datetime.now(UTC)
        done = begun.model_copy(update={"ended": ended, "status": remembered.status, "running": False})
        store_record(path, done.model_copy(update={"success": ended}) if is_success(done) else done)
