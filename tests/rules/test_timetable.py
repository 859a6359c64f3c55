"""Times as cron and systemd say them: the same moments, and one error for what is none of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from labkit.cron import parse_cron
from labkit.errors import InputError
from labkit.rules.timetable import FORMS, parse_timetable

CASES = [
    ("day", "", "30 6 * * *", "*-*-* 06:30:00", "every day at 06:30"),
    ("day", "7:05", "5 7 * * *", "*-*-* 07:05:00", "every day at 07:05"),
    ("workday", "23:59", "59 23 * * 1-5", "Mon..Fri *-*-* 23:59:00", "every workday at 23:59"),
    ("week", "06:30", "30 6 * * 1", "Mon *-*-* 06:30:00", "every week at 06:30"),
    ("sunday", "04:00", "0 4 * * 0", "Sun *-*-* 04:00:00", "every sunday at 04:00"),
    ("month", "00:00", "0 0 1 * *", "*-*-01 00:00:00", "every month at 00:00"),
    ("hour", "", "0 * * * *", "*-*-* *:00:00", "every hour at :00"),
    ("hour", ":30", "30 * * * *", "*-*-* *:30:00", "every hour at :30"),
    ("6h", ":15", "15 */6 * * *", "*-*-* 00/6:15:00", "every 6 hours at :15"),
    ("15m", "", "*/15 * * * *", "*-*-* *:00/15:00", "every 15 minutes"),
]


@pytest.mark.parametrize(("every", "at", "cron", "calendar", "words"), CASES)
def test_forms(every: str, at: str, cron: str, calendar: str, words: str) -> None:
    found = parse_timetable(every, at)
    assert (found.cron, found.calendar, found.words) == (cron, calendar, words)


@pytest.mark.parametrize(
    ("every", "at", "said"),
    [
        ("dya", "", "--every: expected one of hour, day, workday, week"),
        ("dya", "", "did you mean day?"),
        ("5h", "", "--every: expected one of"),
        ("7m", "", "--every: expected one of"),
        ("day", "6", "--at: expected a time of day such as 06:30 beside `--every day`, got '6'"),
        ("day", "24:00", "--at: expected a time of day"),
        ("day", ":30", "--at: expected a time of day"),
        ("hour", "06:30", "--at: expected a minute of the hour such as :30 beside `--every hour`, got '06:30'"),
        ("hour", ":60", "--at: expected a minute"),
        ("15m", "06:30", "--at: expected nothing beside `--every 15m`, got '06:30'"),
    ],
)
def test_one_clear_error(every: str, at: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_timetable(every, at)
    assert said in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("every", FORMS)
def test_systemd_and_cron_mean_the_same_moments(every: str) -> None:
    found = parse_timetable(every)
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=4", f"{found.calendar} UTC"],
        capture_output=True, text=True, check=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
    )  # fmt: skip
    moments = [
        datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        for text in re.findall(r"(?:Next elapse|Iter[a-z.]* #\d+): \w+ (\S+ \S+) UTC", done.stdout)
    ]
    assert len(moments) == 4
    before = moments[0] - timedelta(seconds=1)
    assert list(parse_cron(found.cron).fires(before, moments[-1])) == moments
