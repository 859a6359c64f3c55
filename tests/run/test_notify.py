"""What each place knows is remembered: nothing is told twice, nothing is lost at night."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from labkit.lab import Lab, load_lab
from labkit.lab.models import Messages
from labkit.plan import Finding, Severity
from labkit.run.notify import Sent, deliver, notify
from labkit.secrets import Secrets
from labkit.systems.access import Access

LAB = Path(__file__).parents[1] / "data" / "e2e" / "lab.yaml"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NIGHT = datetime(2026, 11, 23, 23, 0, tzinfo=UTC)


def finding(subject: str, severity: str = "warning") -> Finding:
    return Finding(id="disk", severity=Severity(severity), subject=subject, expected="room", got="none")


A, B, LOUD = finding("a"), finding("b"), finding("c", "error")


class Web:
    """Two places: one that takes everything, one that can be broken."""

    def __init__(self, state: Path) -> None:
        self.got: list[tuple[str, str]] = []
        self.broken = False
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                refused = web.broken and self.path == "/two"
                if not refused:
                    web.got.append((self.path, data["title"]))
                self.send_response(500 if refused else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        place = f"json://127.0.0.1:{self.server.server_port}"
        secrets = Secrets({"env:ONE": f"{place}/one", "env:TWO": f"{place}/two"})
        self.access = Access(on="lab", secrets=secrets, state=state)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self) -> list[tuple[str, str]]:
        """What came since the last call."""
        found, self.got = sorted(self.got), []
        return found


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "state")
    yield made
    made.server.shutdown()
    made.server.server_close()


def lab(*to: str, **more: Any) -> Lab:
    messages = Messages.model_validate({"to": to or ("env:ONE",), **more})
    return load_lab(LAB).model_copy(update={"messages": messages})


def test_a_thing_is_told_once_and_its_end_once(web: Web, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>")
    first = notify(lab(), web.access, (), (A,), title="small", html=page, now=NOON)
    assert str(first) == "env:ONE (JSON): sent, with the page"
    assert first.message is not None
    assert web.take() == [("/one", "small: 1 worse")]
    again = notify(lab(), web.access, (A,), (A,), title="small", now=NOON)
    assert str(again) == "nothing got worse or better: nobody is told"
    notify(lab(), web.access, (A,), (B,), title="small", now=NOON)
    assert web.take() == [("/one", "small: 1 worse, 1 better")]
    notify(lab(), web.access, (B,), (), now=NOON)
    assert web.take() == [("/one", "small: 1 better")]  # the lab's name when there is no title


def test_a_place_that_was_never_told_starts_from_the_report_before(web: Web) -> None:
    assert notify(lab(), web.access, (A,), (A,), now=NOON).message is None
    notify(lab(), web.access, (A,), (A, B), now=NOON)
    assert web.take() == [("/one", "small: 1 worse")]


def test_nobody_is_named(web: Web) -> None:
    none = load_lab(LAB)
    assert notify(none, web.access, (), (LOUD,)) == Sent(configured=False) == deliver(none, web.access)
    assert "names no messages" in str(notify(none, web.access, (), (LOUD,)))


def test_the_night_is_quiet_but_for_new_errors_and_the_rest_comes_afterwards(web: Web) -> None:
    quiet = lab(quiet="22:00-07:00")
    held = notify(quiet, web.access, (), (A,), now=NIGHT)
    assert held.held == ("env:ONE",)
    assert str(held) == "env:ONE: held back until the quiet hours are over"
    assert str(deliver(quiet, web.access, now=NIGHT + timedelta(hours=1))) == str(held)
    assert web.take() == []
    assert deliver(quiet, web.access, now=NIGHT + timedelta(hours=8)).deliveries[0].ok
    assert web.take() == [("/one", "small: 1 worse")]
    assert deliver(quiet, web.access, now=NIGHT + timedelta(hours=9)).deliveries == ()
    notify(quiet, web.access, (A,), (A, B, LOUD), now=NIGHT)
    assert web.take() == [("/one", "small: 2 worse")]


def test_what_passed_by_during_the_night_is_not_told(web: Web) -> None:
    quiet = lab(quiet="22:00-07:00")
    notify(quiet, web.access, (), (A,), now=NIGHT)
    notify(quiet, web.access, (A,), (), now=NIGHT + timedelta(hours=1))
    assert deliver(quiet, web.access, now=NOON + timedelta(days=1)).deliveries == ()
    assert web.take() == []


def test_what_was_held_back_comes_with_the_next_report_too(web: Web) -> None:
    quiet = lab(quiet="22:00-07:00")
    notify(quiet, web.access, (), (A,), now=NIGHT)
    notify(quiet, web.access, (A,), (A, B), now=NOON + timedelta(days=1))
    assert web.take() == [("/one", "small: 2 worse")]


def test_a_place_that_failed_is_told_again_and_the_other_is_not(web: Web) -> None:
    two = lab("env:ONE", "env:TWO")
    web.broken = True
    sent = notify(two, web.access, (), (A,), now=NOON)
    assert [one.subject for one in sent.findings] == ["messages to env:TWO"]
    assert web.take() == [("/one", "small: 1 worse")]
    web.broken = False
    again = notify(two, web.access, (A,), (A,), now=NOON)
    assert again.findings == ()
    assert web.take() == [("/two", "small: 1 worse")]


def test_topics_do_not_mix(web: Web) -> None:
    notify(lab(), web.access, (), (A,), topic="report", now=NOON)
    notify(lab(), web.access, (), (B,), topic="schedules", now=NOON)
    assert web.take() == [("/one", "small: 1 worse")] * 2


def test_a_memory_that_was_cut_off_tells_everything_once_more(web: Web) -> None:
    notify(lab(), web.access, (), (A,), now=NOON)
    file = web.access.state / "messages" / "report.json"
    file.write_text(file.read_text()[:20])
    notify(lab(), web.access, (), (A,), now=NOON)
    assert len(web.take()) == 2


def test_no_url_is_kept(web: Web) -> None:
    notify(lab(), web.access, (), (A,), now=NOON)
    kept = "".join(path.read_text() for path in (web.access.state / "messages").iterdir())
    assert "json://" not in kept
    assert "env:ONE" not in kept
