"""Messages through apprise to receivers of our own: HTTP and mail, what they refuse, and what must not leak."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from labkit.secrets import Secrets
from labkit.systems.access import Access
from labkit.systems.messages import send_to, undelivered


class Web:
    """An HTTP receiver; paths with `refuse` are refused, with `hang` never answered."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.over = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if "hang" in self.path:
                    web.over.wait(20)
                web.got.append((self.path, self.headers.get("Authorization", ""), body))
                self.send_response(403 if "refuse" in self.path else 200)
                self.end_headers()
                self.wfile.write(f"not for {self.path}".encode())

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


class Mailbox:
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<!doctype html><p>all is well</p>")
    return path


def access(tmp_path: Path, **urls: str) -> Access:
    return Access(on="lab", secrets=Secrets({f"env:{name}": url for name, url in urls.items()}), state=tmp_path)


def test_a_page_goes_with_the_message_where_the_service_takes_it(web: Web, page: Path, tmp_path: Path) -> None:
    door = access(tmp_path, HOOK=f"json://me:sesame-open@{web.place}/hook", PUSH=f"gotify://{web.place}/token-gotify")
    hook, push = send_to(door, ["env:HOOK", "env:PUSH"], "1 worse", "Worse:\n- a", page=page)
    assert (hook.ok, hook.attached, hook.service) == (True, True, "JSON")
    assert (push.ok, push.attached, push.service) == (True, False, "Gotify")
    by_path = {path: json.loads(body) for path, _, body in web.got}
    assert by_path["/hook"]["title"] == "1 worse"
    assert by_path["/hook"]["message"] == "Worse:\n- a"
    assert [one["filename"] for one in by_path["/hook"]["attachments"]] == ["report.html"]
    assert by_path["/message"]["message"] == "Worse:\n- a"
    assert undelivered((hook, push)) == ()


def test_mail_has_the_page_attached(page: Path, tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        url = f"mailto://127.0.0.1:{port}?from=lab@example.net&to=me@example.net&mode=insecure"
        (sent,) = send_to(access(tmp_path, MAIL=url), ["env:MAIL"], "1 worse", "Worse: ä", page=page)
    finally:
        server.stop()
    assert str(sent) == "env:MAIL (E-Mail): sent, with the page"
    (mail,) = box.mails
    assert mail["Subject"] == "1 worse"
    assert mail["To"] == "me@example.net"
    assert mail.get_body().get_content().strip() == "Worse: ä"
    (attached,) = mail.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("report.html", "text/html")
    assert attached.get_content() == page.read_text()


def test_every_failure_is_said_of_its_place_and_holds_up_no_other(web: Web, tmp_path: Path) -> None:
    urls = {
        "GOOD": f"json://{web.place}/good",
        "REFUSED": f"json://me:opensesame@{web.place}/refuse/t0ken-in-path?+X-Key=k3y-in-header",
        "HANGING": f"json://{web.place}/hang/t0ken-in-path?rto=20&cto=20",
        "CLOSED": "json://127.0.0.1:1/t0ken-in-path",
        "UNKNOWN": "nosuch://t0ken-in-path",
        "NO_URL": "t0ken-in-path",
        "BROKEN": "json://[t0ken-in-path",
    }
    references = [*(f"env:{name}" for name in urls), "env:MISSING"]
    found = dict(zip(references, send_to(access(tmp_path, **urls), references, "t", "b", limit=6), strict=True))
    assert [name for name, one in found.items() if one.ok] == ["env:GOOD"]
    assert "403" in found["env:REFUSED"].problem
    assert found["env:HANGING"].problem == "no answer within 6 s"
    assert found["env:UNKNOWN"].problem == "no URL that apprise knows"
    assert "none" in found["env:MISSING"].problem
    said = " ".join(str(one) for one in (*found.values(), *undelivered(tuple(found.values()))))
    for secret in ("t0ken-in-path", "opensesame", "k3y-in-header"):
        assert secret not in said
    findings = undelivered(tuple(found.values()))
    assert [one.subject for one in findings] == [f"messages to {name}" for name in references[1:]]
    assert {one.id for one in findings} == {"messages.undelivered"}


def test_a_known_secret_is_hidden_in_what_is_sent(web: Web, tmp_path: Path) -> None:
    door = Access(on="lab", state=tmp_path,
                  secrets=Secrets({"env:A": f"json://{web.place}/a", "env:TOKEN": "hidden-token-1"}))  # fmt: skip
    door.secrets.resolve("env:TOKEN")
    send_to(door, ["env:A"], "about hidden-token-1", "hidden-token-1")
    assert b"hidden-token-1" not in web.got[0][2]


def test_a_page_that_is_not_there_is_left_out(web: Web, tmp_path: Path) -> None:
    (sent,) = send_to(access(tmp_path, A=f"json://{web.place}/a"), ["env:A"], "t", "b", page=tmp_path / "none.html")
    assert (sent.ok, sent.attached) == (True, False)
    assert send_to(access(tmp_path), [], "t", "b") == ()
