"""Ask hosts over HTTPS as a stranger would: SNI at Traefik's address, the certificate verified for the host."""

from __future__ import annotations

import re
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.x509.oid import NameOID

from labkit.errors import LabError, StepFailed
from labkit.facts.apps import RouteFacts, RouteRow
from labkit.lab import Lab
from labkit.lab.models import Tls
from labkit.systems.access import Access, Step
from labkit.systems.endpoints import tls_context
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.objects import list_objects

PORT = 443
_SECONDS = 10.0
_HOST = re.compile(r"\bHost\(\s*[`\"']([a-z0-9.-]+)[`\"']\s*\)", re.IGNORECASE)
_WIDTH = 8
_ROUTE_DEADLINE = 300.0


def read_routes(lab: Lab, access: Access) -> RouteFacts:
    """Return how every host of the cluster's IngressRoutes answers; they are asked side by side."""
    cluster = open_cluster(lab, access)
    items = list_objects(cluster, "/apis/traefik.io/v1alpha1/ingressroutes")
    hosts = sorted({host.lower() for item in items for host in hosts_of(item)})
    with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
        rows = pool.map(lambda host: probe_route(lab, access, host), hosts)
        return RouteFacts(routes=tuple(rows), read_at=datetime.now(UTC))


def hosts_of(item: dict[str, Any]) -> list[str]:
    """Return the hosts of an IngressRoute."""
    routes = (item.get("spec") or {}).get("routes") or ()
    return [host for route in routes for host in _HOST.findall(str(route.get("match") or ""))]


def probe_route(lab: Lab, access: Access, host: str, path: str = "/") -> RouteRow:
    """Ask a host at the lab's ingress address once, without a session; nothing is raised."""
    began = time.monotonic()
    ingress = str(lab.ingress)
    wanted = access.tls(host, PORT, access.tls(ingress, PORT, Tls()))
    try:
        there, port = access.route(ingress, PORT)
        row = _ask(tls_context(_expanded(wanted)), host, (there, port), path)
    except (LabError, OSError, httpx.HTTPError, ssl.SSLError) as exc:
        row = _unanswered(access, ingress, host, exc)
    return row.model_copy(update={"milliseconds": round((time.monotonic() - began) * 1000, 1)})


def _expanded(tls: Tls) -> Tls:
    return tls if tls.ca is None else tls.model_copy(update={"ca": str(Path(tls.ca).expanduser())})


def _ask(context: ssl.SSLContext, host: str, there: tuple[str, int], path: str) -> RouteRow:
    address = f"[{there[0]}]" if ":" in there[0] else there[0]
    with httpx.Client(verify=context, timeout=_SECONDS, trust_env=False, follow_redirects=False) as client:
        request = client.build_request(
            "GET", f"https://{address}:{there[1]}{path}",
            headers={"Host": host, "Accept": "text/html,*/*"}, extensions={"sni_hostname": host},
        )  # fmt: skip
        answer = client.send(request, stream=True)
        try:
            stream = answer.extensions.get("network_stream")
            secure = stream.get_extra_info("ssl_object") if stream is not None else None
            expires, issuer = _certificate(secure.getpeercert(True) if secure is not None else b"")
            plain = answer.status_code == 404 and answer.headers.get("content-type", "").startswith("text/plain")
            said = _beginning(answer) if plain else ""
        finally:
            answer.close()
    location = answer.headers.get("location", "").partition("?")[0]
    return RouteRow(host=host, reachable=True, verified=True, expires=expires, issuer=issuer,
                    status=answer.status_code, location=location, server_says=said)  # fmt: skip


def _beginning(answer: httpx.Response) -> str:
    for part in answer.iter_bytes(256):
        return part.decode("utf-8", "replace").strip().splitlines()[0][:60] if part.strip() else ""
    return ""


def _certificate(der: bytes | None) -> tuple[datetime | None, str]:
    if not der:
        return None, ""
    found = x509.load_der_x509_certificate(der)
    names = found.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return found.not_valid_after_utc, str(names[0].value) if names else ""


def _unanswered(access: Access, ingress: str, host: str, exc: Exception) -> RouteRow:
    """Tell a certificate that does not fit from a host that does not answer."""
    problem = " ".join(str(exc).split()) or type(exc).__name__
    if "CERTIFICATE_VERIFY_FAILED" not in problem.upper():
        return RouteRow(host=host, problem=problem)
    shown = _shown_certificate(access, ingress, host)
    names = ", ".join(_names(shown)) or "no names"
    expires, issuer = _certificate(shown)
    said = problem.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or problem
    return RouteRow(host=host, reachable=True, expires=expires, issuer=issuer,
                    problem=f"{said}: one for {names}, issued by {issuer or 'itself'}")  # fmt: skip


def _shown_certificate(access: Access, ingress: str, host: str) -> bytes:
    """Return the certificate that is shown for a host, whatever it is: only to say what is wrong with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection(access.route(ingress, PORT), timeout=_SECONDS) as plain, \
                context.wrap_socket(plain, server_hostname=host) as secure:  # fmt: skip
            return secure.getpeercert(binary_form=True) or b""
    except (OSError, LabError):
        return b""


def _names(der: bytes) -> list[str]:
    if not der:
        return []
    try:
        found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name) for name in found.value.get_values_for_type(x509.DNSName)]


def wait_for_route(lab: Lab, access: Access, step: Step, host: str) -> RouteRow:
    """Wait until an app answers behind a route, with a certificate that is valid for its host.

    Raises:
        StepFailed: it does not; says what was seen last.
    """
    seen = ["no answer yet"]

    def probe() -> RouteRow | None:
        row = probe_route(lab, access, host)
        text = row.problem or f"status {row.status} {row.server_says}".strip()
        if text != seen[0]:
            seen[0] = text
            step.say(f"https://{host}: {text}")
        return row if row.verified and row.is_routed else None

    hint = "look at the IngressRoute, its Service and its certificate; `labkit check repo` on the repository"
    # On a fast twin, too, a real Traefik needs its time.
    limit = access.clock.real(_ROUTE_DEADLINE, least=30.0) / access.clock.scale
    return access.wait(probe, what=f"https://{host}", deadline=limit, every=0.5, last=lambda: seen[0],
                       causes=hint, error=StepFailed)  # fmt: skip
