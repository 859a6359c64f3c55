"""The certificates that the API shows: one TLS handshake with each server, whatever it shows."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from cryptography import x509

from labkit.errors import LabError
from labkit.facts.kubehealth import ServingCertificate
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.kubernetes import PORT

_SECONDS = 5.0
VIRTUAL = "virtual address"
"""What the virtual address is called among the servers; no VM can have that name."""


def read_serving(lab: Lab, access: Access) -> tuple[ServingCertificate, ...]:
    """Return the certificate of each server that answers, and of the virtual address when the lab has one."""
    places = {server.name: str(server.address) for server in lab.servers}
    if lab.network.vip is not None:
        places[VIRTUAL] = str(lab.network.vip)
    with ThreadPoolExecutor(max_workers=len(places)) as pool:
        ends = list(pool.map(lambda host: _expiry(access, host), places.values()))
    pairs = zip(places, ends, strict=True)
    return tuple(ServingCertificate(server=name, expires=end) for name, end in pairs if end is not None)


def _expiry(access: Access, host: str) -> datetime | None:
    """When the certificate of a server ends; None when it does not answer.

    Nothing is sent, so nothing has to be trusted: one that has ended is to be seen as well.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(access.route(host, PORT), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
    except (OSError, LabError):
        return None
    return None if shown is None else x509.load_der_x509_certificate(shown).not_valid_after_utc
