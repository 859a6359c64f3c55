"""Knock at the addresses of the lab: does each answer, and is its certificate the expected one?"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509

from labkit.errors import LabError
from labkit.facts.endpoints import Endpoint, EndpointFacts
from labkit.lab import Lab
from labkit.lab.models import Tls
from labkit.systems.access import Access

_TIMEOUT = 5.0  # seconds; a LAN answers in milliseconds


def read_endpoints(lab: Lab, access: Access) -> EndpointFacts:
    """Return how every API address of the lab answers; they are asked side by side."""
    wanted = [(urlsplit(url), "Proxmox API", lab.proxmox.tls) for url in lab.proxmox.api]
    with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
        found = pool.map(
            lambda one: knock(access, one[0].hostname or "", one[0].port or 443, one[1], one[2]),
            wanted,
        )
        return EndpointFacts(endpoints=tuple(found), read_at=datetime.now(UTC))


def knock(access: Access, host: str, port: int, purpose: str, wanted: Tls) -> Endpoint:
    """Connect to one address with TLS and say how it went; nothing is raised."""
    name, began = f"{host}:{port}", time.monotonic()
    reachable = verified = False
    expires: datetime | None = None
    problem = ""
    try:
        tls = access.tls(host, port, wanted)
        with socket.create_connection(access.route(host, port), timeout=_TIMEOUT) as plain:
            reachable = True
            with tls_context(tls).wrap_socket(plain, server_hostname=host) as secure:
                der = secure.getpeercert(binary_form=True) or b""
        expires = x509.load_der_x509_certificate(der).not_valid_after_utc
        verified, problem = _fits(tls, der)
    except (OSError, ssl.SSLError, LabError, ValueError) as exc:
        problem = str(exc)
    took = round((time.monotonic() - began) * 1000, 1)
    return Endpoint(
        name=name, purpose=purpose, reachable=reachable, verified=verified, expires=expires, problem=problem,
        milliseconds=took,
    )  # fmt: skip


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that verifies by CA; with a fingerprint the caller compares it after the handshake."""
    if tls.fingerprint is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the fingerprint is compared instead
        return context
    if tls.ca is not None:
        return ssl.create_default_context(cafile=tls.ca)
    return ssl.create_default_context()


def _fits(tls: Tls, der: bytes) -> tuple[bool, str]:
    if tls.fingerprint is None:
        return True, ""
    seen = hashlib.sha256(der).hexdigest().upper()
    if seen == tls.fingerprint.replace(":", "").upper():
        return True, ""
    pairs = ":".join(seen[i : i + 2] for i in range(0, len(seen), 2))
    return False, f"expected the fingerprint {tls.fingerprint}, got {pairs}"
