"""Small values in answers of the API: dates, durations, counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

_UNITS = {"y": 365 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_RESTARTS = re.compile(r"(\d+)(?:\s+\((\S+) ago\))?")


def moment(text: object) -> datetime | None:
    """Read an RFC 3339 time; None when there is none."""
    return datetime.fromisoformat(str(text)) if text else None


def duration(text: str) -> timedelta:
    """Read an age as tables show it: `3m12s`, `5h`, `2y45d`; nothing for `<unknown>`."""
    parts = re.findall(r"(\d+)([ydhms])", text)
    return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))


def restarts(text: str, now: datetime) -> tuple[int, datetime | None]:
    """Read the restarts of a pod: `5 (3m2s ago)`."""
    match = _RESTARTS.match(text)
    if match is None:
        return 0, None
    return int(match[1]), None if match[2] is None else now - duration(match[2])


def fraction(text: str) -> tuple[int, int]:
    """Read `1/2`; zeros for anything else."""
    first, _, second = text.partition("/")
    return (int(first), int(second)) if first.isdecimal() and second.isdecimal() else (0, 0)


def condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of an object; empty when it has none of that type."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def named(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the namespace and the name of an object."""
    meta = item.get("metadata") or {}
    return {"namespace": str(meta.get("namespace") or ""), "name": str(meta.get("name") or "")}
