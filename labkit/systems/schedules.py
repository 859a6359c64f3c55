"""Scheduled runs as this machine remembers them: one file per schedule beside the lab's other state.

A run that is started by its schedule says so by `--schedule "homelab/health-report systemd 30 6 * * * Europe/Berlin"`:
whoever installs a unit by hand need not tell labkit of it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labkit.cron import CronError, parse_cron
from labkit.errors import InputError, Mistake
from labkit.facts.schedules import How, RunSeen, Schedule, ScheduleFacts
from labkit.lab import Lab
from labkit.lab.types import NAME_PATTERN
from labkit.systems.access import Access

FOLDER = "schedules"
LABEL = "labkit/schedule"
"""The label of CronJobs that labkit wrote: the schedule's name."""
_HOWS: Mapping[str, How] = {"systemd": "systemd", "cron": "cron", "kubernetes": "kubernetes"}
_LATELY = 3600.0
_RUN = re.compile(r"(\d{8}T\d{6}Z)-([a-z0-9-]+?)(-\d+)?")


@dataclass(frozen=True)
class Given:
    """What `--schedule` says."""

    lab: str
    name: str
    how: How
    cron: str
    zone: str

    def __str__(self) -> str:
        return f"{self.lab}/{self.name} {self.how} {self.cron} {self.zone}"


def parse_given(text: str) -> Given:
    """Read the text of `--schedule`.

    Raises:
        InputError: it has another form.
    """
    words = text.split()
    lab, _, name = (words or [""])[0].partition("/")
    how = _HOWS.get(words[1] if len(words) > 1 else "")
    if len(words) != 8 or how is None or not all(re.fullmatch(NAME_PATTERN, one) for one in (lab, name)):
        expected = "LAB/NAME, systemd, cron or kubernetes, five fields of cron, and a time zone"
        raise InputError([Mistake("--schedule", 0, 0, "", expected, repr(text))])
    cron, zone = " ".join(words[2:7]), words[7]
    try:
        parse_cron(cron, zone)
    except CronError as exc:
        raise InputError([Mistake("--schedule", 0, 0, "", "times that cron can read", str(exc))]) from exc
    return Given(lab, name, how, cron, zone)


def record_file(state: Path, name: str) -> Path:
    """Return the file of a schedule in a lab's state."""
    return state / FOLDER / f"{name}.json"


def load_record(path: Path) -> Schedule | None:
    """Return what is remembered of a schedule; None when there is nothing. What cannot be read says so."""
    try:
        return Schedule.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as exc:
        said = exc.strerror or "" if isinstance(exc, OSError) else "something else"
        return Schedule(name=path.stem, lab=path.parent.parent.name, runbook="", how="systemd", cron="",
                        since=datetime.now(UTC), problem=f"{path}: {said}")  # fmt: skip


def store_record(path: Path, record: Schedule) -> None:
    """Write what is remembered of a schedule, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".record-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json(indent=1))
    Path(name).replace(path)


def read_schedules(lab: Lab, access: Access) -> ScheduleFacts:
    """Read the schedules of a lab that this machine knows of, and the runs that their folders tell of."""
    records = [record for path in sorted((access.state / FOLDER).glob("*.json")) if (record := load_record(path))]
    outputs = {record.outputs for record in records if record.outputs}
    runs = tuple(run for folder in sorted(outputs) for run in read_runs(Path(folder), lab.name))
    seen = tuple(_with_runs(_alive(record), runs) for record in records)
    return ScheduleFacts(schedules=seen, runs=runs, read_at=datetime.now(UTC))


def read_cronjobs(lab: Lab, access: Access) -> tuple[Schedule, ...]:
    """Read the schedules of a lab that are CronJobs of its cluster.

    Raises:
        SystemDown: the cluster does not answer.
    """
    from labkit.systems.k3s.cluster import open_cluster  # noqa: PLC0415  # slow to import; most schedules are no CronJobs

    found = open_cluster(lab, access).items("/apis/batch/v1/cronjobs", labelSelector=f"{LABEL},labkit/lab={lab.name}")
    return tuple(parse_cronjob(one, lab.name) for one in found)


def parse_cronjob(one: Mapping[str, Any], lab: str) -> Schedule:
    """Return the schedule that a CronJob is."""
    metadata, spec, status = one["metadata"], one["spec"], one.get("status") or {}
    labels = metadata.get("labels") or {}
    started, success = (_time(status.get(key)) for key in ("lastScheduleTime", "lastSuccessfulTime"))
    good = started is not None and success is not None and success >= started
    running = bool(status.get("active"))
    return Schedule(
        name=str(labels.get(LABEL) or metadata["name"]), lab=str(labels.get("labkit/lab") or lab),
        runbook=str(labels.get("labkit/runbook") or ""), how="kubernetes", cron=str(spec["schedule"]),
        zone=str(spec.get("timeZone") or "UTC"), since=_time(metadata.get("creationTimestamp")) or datetime.now(UTC),
        on="lab", started=started, success=success, running=running, status=0 if good else None,
        ended=None if running or started is None else success if good else started,
    )  # fmt: skip


def read_runs(outputs: Path, lab: str) -> tuple[RunSeen, ...]:
    """Return, for each runbook that ever ran on a lab, when it last began and last ended well, as the folders tell.

    Args:
        outputs: the folder with the folders of runs.
        lab: the name of the lab.
    """
    found: dict[tuple[str, str], RunSeen] = {}
    for folder in sorted(outputs.glob("*Z-*")) if outputs.is_dir() else ():
        match = _RUN.fullmatch(folder.name)
        run = _run_of(folder, match[1], lab) if match else None
        if run is not None:
            key = (run.runbook, run.on)
            found[key] = _newer(found.get(key), run)
    return tuple(found[key] for key in sorted(found))


def _run_of(folder: Path, stamp: str, lab: str) -> RunSeen | None:
    """One run from its summary, or, when it has none, from the first line of its journal; None of another lab."""
    started = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    summary = _json(folder / "summary.json")
    told = summary or _first_line(folder / "journal.jsonl")
    if told.get("lab") != lab or not told.get("runbook") or (not summary and _is_going_on(folder)):
        return None
    ended = _time(summary.get("finished"))
    good = summary.get("ok") is True or "health" in summary  # a report that found something was made all the same
    return RunSeen(runbook=str(told["runbook"]), on=str(told.get("on") or "twin"), started=started, ended=ended,
                   success=ended if good else None)  # fmt: skip


def _is_going_on(folder: Path) -> bool:
    """Whether a run without an end has written something lately: it may be the one that asks."""
    try:
        return datetime.now(UTC).timestamp() - (folder / "journal.jsonl").stat().st_mtime < _LATELY
    except OSError:
        return False


def _newer(one: RunSeen | None, run: RunSeen) -> RunSeen:
    if one is None:
        return run
    return run.model_copy(update={"success": _latest(one.success, run.success)})


def _with_runs(record: Schedule, runs: tuple[RunSeen, ...]) -> Schedule:
    """A run by hand counts as well: whoever ran the report at noon does not miss it."""
    run = next((one for one in runs if (one.runbook, one.on) == (record.runbook, record.on)), None)
    if run is None:
        return record
    newer = run.ended is not None and (record.ended is None or run.ended > record.ended) and run.success is not None
    update: dict[str, Any] = {"success": _latest(record.success, run.success)}
    if newer and not record.running:
        update |= {"started": _latest(record.started, run.started), "ended": run.ended, "status": 0}
    return record.model_copy(update=update)


def _alive(record: Schedule) -> Schedule:
    """Say whether the run that has no end yet still goes on; of another machine's nobody knows."""
    if not record.running:
        return record
    if record.host != platform.node():
        return record
    return record.model_copy(update={"running": _is_alive(record.pid)})


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def local_zone() -> str:
    """Return the name of this machine's time zone.

    Raises:
        InputError: it has none that can be found.
    """
    named = os.environ.get("TZ", "").removeprefix(":")
    link = Path("/etc/localtime")
    file = Path("/etc/timezone")
    written = file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else ""
    for name in filter(None, (named, str(link.resolve()).partition("/zoneinfo/")[2], written)):
        try:
            parse_cron("@daily", name)
        except CronError:
            continue
        return {"Etc/UTC": "UTC"}.get(name, name)
    if not link.exists():
        return "UTC"
    mistake = Mistake("schedule", 0, 0, "--zone", "the name of this machine's time zone", "none that is known")
    raise InputError([mistake], next_step="name it, for example --zone Europe/Berlin")


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None


def _latest(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _first_line(path: Path) -> Mapping[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            data = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
