"""A run that its schedule started: remembered, and told of when it fails or when one before it was missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labkit.checks.schedules import findings_of
from labkit.errors import InputError, LabError
from labkit.facts.schedules import Schedule
from labkit.lab.loader import load_lab
from labkit.run.connect import connect, state_dir
from labkit.run.folders import find_input, outputs_root
from labkit.run.scheduled import Remembered, remember, scheduled, tell
from labkit.systems.schedules import load_record, parse_given, record_file


@dataclass(frozen=True)
class Watch:
    """What is known of a scheduled run before anything else is looked at."""

    text: str
    runbook: str
    on: str
    lab_file: Path
    findings_ok: bool = False


@contextmanager
def watched(watch: Watch, warn: Callable[[str], None]) -> Iterator[Remembered]:
    """Remember the run of the block as one that its schedule started; tell of what went wrong before and in it.

    Args:
        watch: what is run, and the text of its schedule.
        warn: gets what went wrong before it, and why people could not be told.

    Raises:
        InputError: the text of the schedule has another form.
    """
    given = parse_given(watch.text)
    state = state_dir(given.lab)
    outputs = None
    lab_file = watch.lab_file
    try:
        lab_file = find_input(watch.lab_file)
        outputs = outputs_root(lab_file)
    except InputError:
        pass  # the run itself says so
    record = remember(state, given, runbook=watch.runbook, on=watch.on, lab_file=lab_file, outputs=outputs,
                      findings_ok=watch.findings_ok)  # fmt: skip
    for finding in findings_of(record, datetime.now(UTC)):
        warn(str(finding))
    _tell(record, warn)
    try:
        with scheduled(state, record) as remembered:
            yield remembered
    finally:
        if (after := load_record(record_file(state, given.name))) is not None:
            _tell(after, warn)


def _tell(record: Schedule, warn: Callable[[str], None]) -> None:
    """Tell people; only of what is scheduled on the lab, and never so that the run itself suffers."""
    if record.on != "lab":
        return
    try:
        lab_file = Path(record.lab_file)
        lab = load_lab(lab_file)
        access = connect(lab, lab_file, on="lab", scenario="").access
        sent = tell(lab, access, record, tuple(findings_of(record, datetime.now(UTC))))
    except (LabError, OSError) as exc:
        warn(f"nobody could be told: {str(exc).splitlines()[0]}")
        return
    for finding in sent.findings:
        warn(str(finding))
