"""The client against a real HTTPS server: routes, certificates, fail-over, and every part of an error."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labkit.errors import SystemDown
from labkit.lab import Lab, load_lab
from labkit.lab.models import Tls
from labkit.secrets import Secrets
from labkit.systems.access import Access, Clock
from labkit.systems.proxmox.client import Client
from labkit.systems.proxmox.errors import ProxmoxError, Trouble

ROOT = Path(__file__).parents[3]
SECRET = "4b0f6c2e-0d6e-4f7e-9a5e-3f1c3a0b9d11"
Answer = Callable[["Server", BaseHTTPRequestHandler], None]


class Server:
    """An HTTPS server that answers what a test wants and notes what it was asked."""

    def __init__(self, folder: Path, name: str) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.answer: Answer = reply({"data": "fine"})
        self.cert, self.fingerprint = make_certificate(folder, name)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                outer.asked.append((self.command, self.path, body))
                outer.headers = dict(self.headers)
                outer.answer(outer, self)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # names of the library

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is inherited
                pass

        self.headers: dict[str, str] = {}
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.http.server_address[1]}"


def make_certificate(folder: Path, name: str) -> tuple[Path, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + cert.public_bytes(serialization.Encoding.PEM))
    return path, ":".join(f"{byte:02X}" for byte in cert.fingerprint(hashes.SHA256()))


def reply(body: Any, status: int = 200, reason: str | None = None) -> Answer:
    def answer(_server: Server, handler: BaseHTTPRequestHandler) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status, reason)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def hang_up(_server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.fixture
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path, "hades.lan")
    yield one
    one.http.shutdown()
    one.http.server_close()


def client(lab: Lab, server: Server, tmp_path: Path, *, tls: Tls | None = None, **routes: str) -> Client:
    trusted = tls or Tls(ca=str(server.cert))
    access = Access(
        on="twin",
        secrets=Secrets({lab.proxmox.token.secret: SECRET}, tmp_path),
        state=tmp_path,
        clock=Clock(0.01),
        connect={"hades.lan:8006": server.place, "atlas.lan:8006": "127.0.0.1:1", **routes},
        trust={f"{host}.lan:8006": trusted for host in ("hades", "atlas")},
    )
    return Client(lab, access, lab.proxmox.token)


def test_the_name_is_verified_although_another_place_is_reached(lab: Lab, server: Server, tmp_path: Path) -> None:
    api = client(lab, server, tmp_path)
    assert api.get("version") == "fine"
    assert server.headers["Host"] == "hades.lan:8006"
    assert server.headers["Authorization"] == f"PVEAPIToken=labkit@pve!runbooks={SECRET}"
    assert server.asked == [("GET", "/api2/json/version", "")]


def test_a_pinned_fingerprint(lab: Lab, server: Server, tmp_path: Path) -> None:
    assert client(lab, server, tmp_path, tls=Tls(fingerprint=server.fingerprint)).get("version") == "fine"


@pytest.mark.parametrize("kind", ["fingerprint", "other ca", "other name", "system", "no file"])
def test_a_certificate_that_is_not_the_expected_one(lab: Lab, server: Server, tmp_path: Path, kind: str) -> None:
    other = make_certificate(tmp_path, "mars.lan")
    tls = {
        "fingerprint": Tls(fingerprint=other[1]),
        "other ca": Tls(ca=str(other[0])),
        "other name": Tls(ca=str(server.cert)),
        "system": Tls(),
        "no file": Tls(ca=str(tmp_path / "none.pem")),
    }[kind]
    if kind == "other name":
        lab = lab.model_copy(update={"proxmox": lab.proxmox.model_copy(update={"api": ("https://atlas.lan:8006",)})})
    with pytest.raises(SystemDown, match=r"expected (the certificate|a certificate)") as caught:
        client(lab, server, tmp_path, tls=tls, **{"atlas.lan:8006": server.place}).get("version")
    assert server.asked == []
    assert "fingerprint" in caught.value.next_step


def test_the_next_address_is_used_when_one_is_down(lab: Lab, server: Server, tmp_path: Path) -> None:
    api = lab.proxmox.model_copy(update={"api": ("https://atlas.lan:8006", "https://hades.lan:8006")})
    both = client(lab.model_copy(update={"proxmox": api}), server, tmp_path)
    assert both.post("nodes/hades/qemu/1/status/start", timeout=3) == "fine"
    assert both.get("version") == "fine"
    assert both.calls == {"POST": 2, "GET": 1}  # the second call begins with the address that answered
    assert server.asked[0] == ("POST", "/api2/json/nodes/hades/qemu/1/status/start", "timeout=3")


def test_all_addresses_down(lab: Lab, server: Server, tmp_path: Path) -> None:
    api = client(lab, server, tmp_path, **{"hades.lan:8006": "127.0.0.1:1"})
    with pytest.raises(SystemDown, match=r"(?s)one of 2 addresses.*hades.*refused.*atlas.*refused"):
        api.get("version")


def test_a_read_survives_a_closed_connection(lab: Lab, server: Server, tmp_path: Path) -> None:
    def once(one: Server, handler: BaseHTTPRequestHandler) -> None:
        (hang_up if len(one.asked) < 3 else reply({"data": 7}))(one, handler)

    server.answer = once
    assert client(lab, server, tmp_path).get("version") == 7
    assert len(server.asked) == 3


def test_a_write_is_never_sent_twice(lab: Lab, server: Server, tmp_path: Path) -> None:
    server.answer = hang_up
    with pytest.raises(ProxmoxError) as caught:
        client(lab, server, tmp_path).put("nodes/hades/qemu/1/config", cores=2)
    assert caught.value.trouble is Trouble.UNKNOWN
    assert len(server.asked) == 1


ERRORS: list[tuple[Answer, str, Trouble]] = [
    (reply({"data": None}, 500, "VM is locked (clone)"), "VM is locked (clone)", Trouble.LOCKED),
    (reply({"data": None, "message": "VM is locked (backup)\n"}, 500), "VM is locked (backup)", Trouble.LOCKED),
    (reply({"data": None}, 595, "No route to host"), "No route to host", Trouble.AWAY),
    (reply({"data": None}, 596, "Connection timed out"), "Connection timed out", Trouble.UNKNOWN),
    (
        reply({"data": None, "errors": {"newid": "bad"}, "message": "Parameter verification failed."}, 400),
        "Parameter verification failed.; newid: bad",
        Trouble.OTHER,
    ),
    (
        reply({"data": None}, 403, "Permission check failed (/vms/100, VM.Clone)"),
        "Permission check failed (/vms/100, VM.Clone)",
        Trouble.DENIED,
    ),
    (reply(b"<html>bad gateway</html>", 502, "Bad Gateway"), "Bad Gateway", Trouble.UNKNOWN),
    (reply(b"null", 500, "oops"), "oops", Trouble.OTHER),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error[1][:20])
def test_the_reason_is_read_from_status_line_and_body(
    lab: Lab, server: Server, tmp_path: Path, error: tuple[Answer, str, Trouble]
) -> None:
    server.answer, reason, trouble = error
    with pytest.raises(ProxmoxError) as caught:
        client(lab, server, tmp_path).post("nodes/hades/qemu/100/clone", newid=101)
    assert reason in caught.value.reason
    assert caught.value.trouble is trouble
    assert caught.value.next_step


def test_a_refused_token_is_named_with_its_reference_and_without_its_secret(
    lab: Lab, server: Server, tmp_path: Path
) -> None:
    server.answer = reply({"data": None}, 401, "invalid token value!")
    with pytest.raises(SystemDown) as caught:
        client(lab, server, tmp_path).get("version")
    assert "labkit@pve!runbooks" in str(caught.value)
    assert "env:PROXMOX_TOKEN" in str(caught.value)
    assert SECRET not in str(caught.value)
