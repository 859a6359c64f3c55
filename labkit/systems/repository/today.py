"""The day on which a suppression ends or not."""

from __future__ import annotations

from datetime import UTC, date, datetime


def today() -> date:
    """Return the day in UTC, so that a check has one result everywhere."""
    return datetime.now(UTC).date()
