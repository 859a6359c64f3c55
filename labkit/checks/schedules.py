"""Scheduled runs that did not happen, or did not end well. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from labkit.checks.base import Check, error, warning
from labkit.cron import Cron, CronError, parse_cron
from labkit.facts.schedules import Schedule, ScheduleFacts
from labkit.plan import Finding

_LONGEST = timedelta(hours=12)
"""A run that has not ended after this long does not end any more."""
_MOST = 20


def schedules_run() -> Check:
    """Return the check that every scheduled run happens and ends well."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        yield from schedule_findings(facts["schedules"])

    return Check("schedules-run", "every scheduled run happens and ends well", ("schedules",), find)


def schedule_findings(facts: ScheduleFacts) -> Iterator[Finding]:
    """Yield what is wrong with the schedules at the moment at which they were looked at."""
    for one in facts.schedules:
        yield from findings_of(one, facts.read_at)


def findings_of(one: Schedule, now: datetime) -> Iterator[Finding]:
    """Yield what is wrong with one schedule: it cannot be read, a run is missing, the last one failed."""
    subject = f"schedule {one.where}"
    if one.problem:
        yield error("schedule.unreadable", subject, "a file that can be read", one.problem, "remove it; install again")
        return
    if overdue := first_missed(one, now):
        seen = f"none since {_say(one.started)}" if one.started else "none yet"
        yield error("schedule.missed", subject, f"a run at {_say(overdue)}", seen, _remedy(one))
    elif one.missed:
        yield warning("schedule.was-missed", subject, f"a run at {_say(one.missed[-1])}",
                      f"none until {_say(one.started)}", _remedy(one))  # fmt: skip
    if one.started is None or one.running:
        if one.running and one.started is not None and now - one.started > _LONGEST:
            yield error("schedule.hangs", subject, "an end within 12 hours", f"a run since {_say(one.started)}",
                        _remedy(one))  # fmt: skip
        return
    if one.ended is None:
        yield error("schedule.failed", subject, "a run that ends", f"one of {_say(one.started)} that was cut off",
                    _again(one))  # fmt: skip
    elif not is_success(one):
        last = f"; the last good one ended {_say(one.success)}" if one.success else "; no run has ended well yet"
        said = f"exit status {one.status}" if one.status is not None else "a failed Job"
        yield error("schedule.failed", subject, "a run that ends well", f"{said} at {_say(one.ended)}{last}",
                    _again(one))  # fmt: skip


def is_success(one: Schedule) -> bool:
    """Tell whether the last run that ended did what it was asked to do."""
    return one.status == 0 or (one.status == 1 and one.findings_ok)


def last_begin(one: Schedule) -> datetime:
    """Return from when on runs are due: after the last one began, or since there is this schedule."""
    return max(one.started, one.since) if one.started is not None else one.since


def first_missed(one: Schedule, now: datetime) -> datetime | None:
    """Return the first time at which a run was due and none has begun since; None when none is missing."""
    cron = _cron(one)
    found = due_between(one, last_begin(one), now - grace(cron, now)) if cron is not None else ()
    return found[0] if found else None


def due_between(one: Schedule, after: datetime, until: datetime) -> tuple[datetime, ...]:
    """Return the last 20 times at which a run was due in between."""
    cron = _cron(one)
    return tuple(deque(cron.fires(after, until), maxlen=_MOST)) if cron is not None else ()


def next_due(one: Schedule, now: datetime) -> datetime | None:
    """Return when the next run is due; None when its times cannot be read."""
    cron = _cron(one)
    return next(cron.fires(now, now + timedelta(days=400)), None) if cron is not None else None


def grace(cron: Cron, now: datetime) -> timedelta:
    """Return how late a run may begin before it counts as missed: an hour, or less where runs follow closely."""
    times = cron.fires(now - timedelta(days=60), now)
    first = next(times, None)
    second = next(times, None)
    if first is None or second is None:
        return timedelta(hours=1)
    return min(timedelta(hours=1), (second - first) / 2)


def _cron(one: Schedule) -> Cron | None:
    try:
        return parse_cron(one.cron, one.zone)
    except CronError:
        return None


def _say(moment: datetime | None) -> str:
    return moment.isoformat(timespec="minutes") if moment is not None else "never"


def _again(one: Schedule) -> str:
    return f"look into its folder under outputs/; `labkit run {one.runbook}` runs it by hand"


def _remedy(one: Schedule) -> str:
    unit = f"labkit-{one.lab}-{one.name}"
    look = {
        "systemd": f"`systemctl --user status {unit}.timer`; without a login: `loginctl enable-linger`",
        "cron": "`crontab -l`, and whether cron runs",
        "kubernetes": f"`kubectl get cronjobs,jobs --all-namespaces -l labkit/schedule={one.name}`",
    }[one.how]
    return f"look at {look}"
