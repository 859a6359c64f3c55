from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from labkit.checks.health import words

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        ({"seconds": 12}, "12 seconds"), ({"seconds": -5}, "0 seconds"), ({"seconds": 119}, "119 seconds"),
        ({"minutes": 90}, "90 minutes"), ({"hours": 47}, "47 hours"), ({"days": 1}, "1 day"), ({"days": 40}, "40 days"),
    ],
)  # fmt: skip
def test_spans(length: dict[str, int], text: str) -> None:
    assert words.span(timedelta(**length)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (96 * 2**30, "96 GiB"), (3 * 2**60, "3072 PiB")],
)
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text


def test_lists_ends_and_counts() -> None:
    assert words.listed("abcde") == "a, b, c, d, e"
    assert words.listed("abcdef") == "a, b, c, d and 2 more"
    assert words.until(NOW + timedelta(days=6), NOW) == "until 2026-11-29 (6 days)"
    assert words.until(NOW - timedelta(days=2), NOW) == "expired 2 days ago"
    assert (words.count(1, "replica"), words.count(2, "replica"), words.count(2, "ox", "oxen")) == (
        "1 replica", "2 replicas", "2 oxen")  # fmt: skip
