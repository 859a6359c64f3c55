"""A real Traefik as a client: it serves routes that it reads through the API, by TLS and token."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from labkit.process import start_program
from labkit.twin.kube import crd_files
from labkit.twin.kube.server import KubeServer

from .certificates import Authority
from .conftest import Running

TOKEN = "traefik-token"


class Backend(BaseHTTPRequestHandler):
    """Answers everything, but its own path /auth sends to a login page."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/auth" else 200)
        if self.path == "/auth":
            self.send_header("Location", "https://login.lab/")
        self.end_headers()
        self.wfile.write(f"{self.headers['Host']}{self.path}".encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def backend():
    server = HTTPServer(("127.0.0.1", 0), Backend)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def secured(running: Running, tmp_path_factory: pytest.TempPathFactory):
    """The same objects, served by TLS to who has the token."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    context = authority.server_context("127.0.0.1")
    server = KubeServer(running.server.core, tokens={TOKEN: "traefik"})
    running.call(server.start(context=context))
    yield server, authority
    running.call(server.stop())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def objects(backend: int, authority: Authority) -> list[dict[str, Any]]:
    certificate, key = authority.issue("app.lab")
    route = {"kubernetes.io/ingress.class": "traefik-external"}
    service = {"name": "backend", "port": backend, "scheme": "http"}
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "backend"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": backend}]},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "data": data},
        {
            "apiVersion": "traefik.io/v1alpha1",
            "kind": "Middleware",
            "metadata": {"name": "login"},
            "spec": {"forwardAuth": {"address": f"http://127.0.0.1:{backend}/auth"}},
        },
        {
            "apiVersion": "traefik.io/v1alpha1",
            "kind": "IngressRoute",
            "metadata": {"name": "app", "annotations": route},
            "spec": {
                "entryPoints": ["websecure"],
                "routes": [
                    {"kind": "Rule", "match": "Host(`app.lab`)", "services": [service]},
                    {
                        "kind": "Rule",
                        "match": "Host(`app.lab`) && PathPrefix(`/private`)",
                        "middlewares": [{"name": "login"}],
                        "services": [service],
                    },
                ],
                "tls": {"secretName": "tls"},
            },
        },
    ]


def test_traefik_serves_a_route_that_it_reads_from_the_api(running, secured, backend, tmp_path: Path, until) -> None:
    server, authority = secured
    port = free_port()
    running.do(crd_files.install, running.server.core, "traefik")
    for body in objects(backend, authority):
        running.do(server.door.apply, {**body, "metadata": {"namespace": "default", **body["metadata"]}}, manager="t")
    kubernetes = {
        "endpoint": server.url,
        "token": TOKEN,
        "certAuthFilePath": str(authority.file),
        "ingressClass": "traefik-external",
        "allowExternalNameServices": True,
        "allowCrossNamespace": True,
    }
    static = {
        "entryPoints": {"websecure": {"address": f"127.0.0.1:{port}"}},
        "providers": {"kubernetesCRD": kubernetes},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "INFO"},
    }
    (tmp_path / "traefik.yaml").write_text(json.dumps(static))
    program = Path(sys.executable).parent / "traefik"
    started = start_program(
        [program, f"--configFile={tmp_path / 'traefik.yaml'}"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        log=tmp_path / "traefik.log",
    )
    try:
        assert until(lambda: ask(port, authority, "/") == (200, "app.lab/"), within=20)
        assert ask(port, authority, "/private")[0] == 302
        assert ask(port, authority, "/", host="other.lab", verified=False)[0] == 404
        running.do(server.door.delete, "ingressroutes.traefik.io", "app", "default")
        until(lambda: ask(port, authority, "/", verified=False)[0] == 404)
    finally:
        started.terminate()
        started.wait(10)


def ask(port: int, authority: Authority, path: str, host: str = "app.lab", *, verified: bool = True) -> tuple[int, str]:
    """Ask Traefik for a path by its name; a verified certificate is that of the Secret."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    if not verified:
        context.verify_mode = ssl.CERT_NONE
    try:
        with httpx.Client(verify=context, trust_env=False) as client:
            url = f"https://127.0.0.1:{port}{path}"
            done = client.get(url, headers={"Host": host}, extensions={"sni_hostname": host})
            return done.status_code, done.text
    except httpx.TransportError as exc:
        return 0, str(exc)
