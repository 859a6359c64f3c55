"""HTTPS to a Proxmox host: connect where the route leads, verify the name that was asked for."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.poolmanager import PoolManager

from labkit.errors import SystemDown
from labkit.lab.models import Tls

Route = Callable[[str, int], tuple[str, int]]


def make_context(tls: Tls) -> ssl.SSLContext:
    """Return the TLS settings for a CA file, a pinned fingerprint, or the CAs of this machine.

    Raises:
        SystemDown: the CA file cannot be read.
    """
    if tls.fingerprint:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the fingerprint is compared instead, by urllib3
        return context
    if not tls.ca:
        return ssl.create_default_context()
    path = Path(tls.ca).expanduser()
    try:
        context = ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as exc:
        raise SystemDown(
            f"CA file {path}: expected a certificate (PEM), got: {exc}",
            next_step="copy /etc/pve/pve-root-ca.pem from a Proxmox host there, or set tls: {fingerprint: ...}",
        ) from exc
    # Proxmox's own CA lacks extensions that the strict mode of newer Pythons asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class RoutedAdapter(HTTPAdapter):
    """Send requests for `https://name:port` to where the route leads, while TLS verifies `name`.

    Args:
        tls: how the certificate is verified.
        route: host and port -> where to connect.
        width: how many connections are kept.
    """

    def __init__(self, tls: Tls, route: Route, *, width: int) -> None:
        self._tls = tls
        self._route = route
        self._width = width
        super().__init__(pool_connections=4, pool_maxsize=width, max_retries=0)

    def init_poolmanager(self, *_args: Any, **_kwargs: Any) -> None:
        """Make the pools, each with labkit's own TLS settings."""
        self.poolmanager = PoolManager(num_pools=8, maxsize=self._width, ssl_context=make_context(self._tls))

    def cert_verify(self, *_args: Any, **_kwargs: Any) -> None:
        """Leave verification to the TLS settings of the pool."""

    def get_connection_with_tls_context(
        self, request: PreparedRequest, *_args: Any, **_kwargs: Any
    ) -> HTTPConnectionPool:
        """Return a connection to where the route leads."""
        parts = urlsplit(request.url or "")
        name, port = str(parts.hostname), parts.port or 443
        host, number = self._route(name, port)
        options: dict[str, Any] = {"server_hostname": name}
        if self._tls.fingerprint:
            options["assert_fingerprint"] = self._tls.fingerprint
        else:
            options["assert_hostname"] = name
        pool: HTTPConnectionPool = self.poolmanager.connection_from_host(host, number, "https", pool_kwargs=options)
        return pool

    def add_headers(self, request: PreparedRequest, **_kwargs: Any) -> None:
        """Name the host that was asked for, not the one that is connected to."""
        request.headers["Host"] = urlsplit(request.url or "").netloc
