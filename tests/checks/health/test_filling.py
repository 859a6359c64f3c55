"""What has room today and will not have it for long: pace from earlier reports, room from this one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from labkit.checks.health import Area, filling, needed_systems
from labkit.facts.history import HistoryFacts, Point
from labkit.facts.nas import NasFacts, Pool

from .scenes import NOW, Row, found

TB = 10**12
assert filling


def nas(used: float) -> NasFacts:
    pool = Pool(name="tank", status="ONLINE", healthy=True, size=32 * TB, allocated=int(used * TB),
                free=int((32 - used) * TB), scan="SCRUB", scan_state="FINISHED", scan_end=NOW)  # fmt: skip
    return NasFacts(version="25.10.1", pools=(pool,), read_at=NOW)


def grown(to: float, a_day: float) -> HistoryFacts:
    """Ten days of reports before now."""
    points = tuple(Point(at=NOW - timedelta(days=n), value=(to - n * a_day) * TB) for n in range(10, 0, -1))
    return HistoryFacts(series={"used": {"pool tank": points}})


def told(used: float, history: HistoryFacts) -> list[Row]:
    return [row for row in found(Area.NAS, nas=nas(used), history=history) if row[0] == "nas.filling"]


@pytest.mark.parametrize(
    ("used", "a_day", "said"),
    [
        (20.0, 0.1, None),  # 120 days
        (20.0, 0.0, None),
        (20.0, -1.0, None),
        (20.0, 0.5, ("warning", "18 TiB of 29 TiB, 466 GiB more a day: full in 24 days")),
        (20.0, 2.0, ("error", "18 TiB of 29 TiB, 1.8 TiB more a day: full in 6 days")),
    ],
)
def test_a_pool_is_told_by_the_days_that_are_left(used: float, a_day: float, said: tuple[str, str] | None) -> None:
    expected = [("nas.filling", said[0], "pool tank", said[1])] if said else []
    assert told(used, grown(used, a_day)) == expected


def test_without_earlier_reports_there_is_no_pace() -> None:
    assert told(20.0, HistoryFacts()) == []


def test_earlier_reports_are_read_from_no_system() -> None:
    assert "history" not in needed_systems()
    assert "nas" in needed_systems()
