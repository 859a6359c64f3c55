"""A real Traefik over the chart, with certificates, forward-auth, ExternalName hosts and pods that come and go."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from labkit.twin.certificates import Authority
from labkit.twin.ingress import Ingress
from labkit.twin.kube.door import Object
from tests.twin.charts.conftest import Lab
from tests.twin.charts.conftest import lab as lab  # noqa: PLC0414  # the fixture

VALUES = {
    "providers": {"kubernetesCRD": {"ingressClass": "ours", "allowCrossNamespace": True,
                                    "allowExternalNameServices": True}},
    "service": {"annotations": {"metallb.io/loadBalancerIPs": "192.168.5.50"}},
    "ports": {"web": {"redirections": {"entryPoint": {"to": "websecure", "scheme": "https", "permanent": True}}}},
}  # fmt: skip
CONFIGURATION = """
access_control:
  default_policy: deny
  rules:
    - {domain: who.lab.net, policy: one_factor}
session:
  cookies: [{domain: lab.net, authelia_url: https://auth.lab.net}]
"""
SALT = b"0123456789abcdef"


def digest(password: str) -> str:
    raw = hashlib.pbkdf2_hmac("sha512", password.encode(), SALT, 1000)
    salt, key = (base64.b64encode(part).decode().rstrip("=").replace("+", ".") for part in (SALT, raw))
    return f"$pbkdf2-sha512$1000${salt}${key}"


USERS = f"users:\n  ann: {{displayname: Ann, groups: [users], email: a@lab.net, password: '{digest('sesame')}'}}\n"


def app(name: str, image: str, port: int) -> list[Object]:
    labels = {"app": name}
    spec = {"containers": [{"name": name, "image": image, "ports": [{"name": "http", "containerPort": port}]}]}
    about = {"name": name, "namespace": "default"}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": about,
         "spec": {"selector": labels, "ports": [{"name": "http", "port": port, "targetPort": "http"}]}},
    ]  # fmt: skip


def route(host: str, service: dict[str, Any], *middlewares: str) -> Object:
    rule = {"kind": "Rule", "match": f"Host(`{host}`)", "services": [service],
            "middlewares": [{"name": name, "namespace": "default"} for name in middlewares]}  # fmt: skip
    about = {
        "name": host.partition(".")[0],
        "namespace": "default",
        "annotations": {"kubernetes.io/ingress.class": "ours"},
    }
    return {"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "metadata": about,
            "spec": {"entryPoints": ["websecure"], "routes": [rule], "tls": {"secretName": "tls"}}}  # fmt: skip


def objects(one: Lab) -> list[Object]:
    issued = one.issuer.issue(["*.lab.net"], 90)
    data = {key: base64.b64encode(text.encode()).decode()
            for key, text in {"tls.crt": issued.chain, "tls.key": issued.key}.items()}  # fmt: skip
    forward = {"address": "http://authelia.default.svc.cluster.local:9091/api/authz/forward-auth",
               "trustForwardHeader": True, "authResponseHeaders": ["Remote-User", "Remote-Groups"]}  # fmt: skip
    return [
        *app("authelia", "ghcr.io/authelia/authelia:4.39.20", 9091), *app("who", "traefik/whoami:1", 80),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authelia", "namespace": "default"},
         "data": {"configuration.yml": CONFIGURATION}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "authelia", "namespace": "default"},
         "data": {"users_database.yml": base64.b64encode(USERS.encode()).decode()}},
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
         "metadata": {"name": "tls", "namespace": "default"}, "data": data},
        {"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware",
         "metadata": {"name": "login", "namespace": "default"}, "spec": {"forwardAuth": forward}},
        {"apiVersion": "traefik.io/v1alpha1", "kind": "ServersTransport",
         "metadata": {"name": "own", "namespace": "default"}, "spec": {"insecureSkipVerify": True}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pve", "namespace": "default"},
         "spec": {"type": "ExternalName", "externalName": "hades.lan", "ports": [{"name": "https", "port": 8006}]}},
        route("who.lab.net", {"name": "who", "port": 80}, "login"), route("open.lab.net", {"name": "who", "port": 80}),
        route("auth.lab.net", {"name": "authelia", "port": 9091}), route("denied.lab.net", {"name": "who", "port": 80},
                                                                         "login"),
        route("pve.lab.net", {"name": "pve", "port": 8006, "scheme": "https", "serversTransport": "own"}),
    ]  # fmt: skip


class Front:
    """What stands before the lab: addresses of the LAN on loopback, and a browser."""

    def __init__(self, one: Lab, ingress: Ingress, ports: dict[str, int]) -> None:
        self.one, self.ingress, self._ports = one, ingress, ports
        self._context = ssl.create_default_context(cafile=str(one.issuer.file))

    async def ask(self, host: str, path: str = "/", *, port: int = 443, **more: Any) -> httpx.Response | None:
        place = self._ports.get(f"192.168.5.50:{port}", 1)
        scheme = "https" if port == 443 else "http"
        async with httpx.AsyncClient(verify=self._context, trust_env=False) as client:
            headers = {"Host": host, "Accept": "text/html", **more.pop("headers", {})}
            try:
                return await client.request(
                    more.pop("method", "GET"), f"{scheme}://127.0.0.1:{place}{path}", headers=headers,
                    extensions={"sni_hostname": host}, **more,
                )  # fmt: skip
            except httpx.TransportError:
                return None

    async def answers(self, host: str, status: int, **more: Any) -> httpx.Response:
        """Wait for an answer with a status."""
        end = asyncio.get_running_loop().time() + 20
        while (got := await self.ask(host, **more)) is None or got.status_code != status:
            assert asyncio.get_running_loop().time() < end, f"{host}: {got and (got.status_code, got.text)}"
            await asyncio.sleep(0.05)
        return got


@asynccontextmanager
async def fronted(lab: Any, folder: Path) -> AsyncIterator[Front]:
    ports: dict[str, int] = {}
    made: list[Ingress] = []

    def listen(name: str) -> int:
        if name not in ports:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                ports[name] = found.getsockname()[1]
        return ports[name]

    def more(one: Lab) -> list[Any]:
        folder.mkdir(exist_ok=True)
        tls = Authority(folder, "test").issue("backends", ["localhost"]).server_context()
        made.append(Ingress(one.api, one.clock, folder / "traefik", listen, tls))
        return made[0].controllers

    async with lab(more=more) as one:
        await one.install("metallb", "0.16.1")
        one.apply({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "spec": {"addresses":
                   ["192.168.5.50-192.168.5.59"]}, "metadata": {"name": "lan", "namespace": "metallb"}})  # fmt: skip
        await one.install("traefik", "37.1.1", VALUES)
        one.apply(*objects(one))
        yield Front(one, made[0], ports)


@pytest.mark.skipif(not (Path(sys.executable).parent / "traefik").exists(), reason="there is no traefik binary here")
def test_an_app_is_reachable_and_protected(lab, tmp_path: Path) -> None:
    async def story() -> None:
        async with fronted(lab, tmp_path / "front") as front:
            login = await front.answers("who.lab.net", 302)
            assert login.headers["location"].startswith("https://auth.lab.net/?rd=https%3A%2F%2Fwho.lab.net%2F")
            seen = {json.loads((await front.answers("open.lab.net", 200)).text)["pod"] for _ in range(4)}
            assert len(seen) == 2
            assert (await front.answers("denied.lab.net", 403)).text == "403 Forbidden"
            assert (await front.answers("nothing.lab.net", 404)).text == "404 page not found\n"
            host = json.loads((await front.answers("pve.lab.net", 200)).text)
            assert (host["service"], host["host"]) == ("pve", "hades.lan")
            assert (await front.answers("who.lab.net", 401, headers={"Accept": "application/json"})).status_code == 401
            moved = await front.answers("who.lab.net", 301, port=80)
            assert moved.headers["location"] in {"https://who.lab.net/", "https://who.lab.net:443/"}
            given = {"username": "ann", "password": "sesame"}
            await front.answers("auth.lab.net", 401, path="/api/firstfactor", method="POST",
                                json={**given, "password": "no"})  # fmt: skip
            let_in = await front.answers("auth.lab.net", 200, path="/api/firstfactor", method="POST", json=given)
            cookie = let_in.headers["set-cookie"].split(";")[0]
            inside = json.loads((await front.answers("who.lab.net", 200, headers={"Cookie": cookie})).text)
            assert inside["headers"] == {"Remote-User": "ann", "Remote-Groups": "users"}

            scale = {"spec": {"replicas": 0}}
            front.one.api.patch("deployments.apps", "who", scale, "default")
            await front.answers("open.lab.net", 503)
            front.one.api.patch("deployments.apps", "traefik", scale, "traefik")
            await front.one.until(lambda: not front.ingress.running)
            assert await front.ask("open.lab.net") is None

    asyncio.run(story())


def test_a_machine_that_cannot_run_it_is_told(lab, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "bin"
    place.mkdir()
    shutil.copy(shutil.which("false") or "/bin/false", place / "traefik")
    (place / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(place / "python"))

    async def story() -> None:
        async with fronted(lab, tmp_path / "front") as front:
            await front.one.until(lambda: front.ingress.problem)
            assert "Traefik cannot run on this machine" in front.ingress.problem
            assert not front.ingress.running

    asyncio.run(story())
