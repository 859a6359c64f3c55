"""The Proxmox API: proxmoxer over routed HTTPS, with fail-over between hosts and answers read in full."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from proxmoxer.backends.https import Backend
from proxmoxer.core import ProxmoxResource
from requests import exceptions as http
from urllib3.exceptions import MaxRetryError

from labkit.errors import SystemDown
from labkit.lab import Lab
from labkit.lab.models import ApiToken
from labkit.systems.access import Access
from labkit.systems.proxmox.errors import ProxmoxError, Trouble
from labkit.systems.proxmox.transport import RoutedAdapter
from labkit.systems.retry import retry

CONNECT, READ = 5.0, 45.0
"""Real seconds: to connect, and to answer; Proxmox itself gives up on a call between hosts after 30."""

WIDTH = 64
"""Connections kept; more threads than that would open and close them all the time."""

GET_BUDGET = 10.0
"""Lab seconds that a read is tried again after a broken connection."""


class _BrokenError(Exception):
    """The connection broke or the answer did not come: nobody knows what was done."""


class _UnsentError(Exception):
    """No connection could be made: the request was not sent."""


class Client:
    """Calls to one Proxmox cluster with one token; safe to use from many threads.

    Args:
        lab: names the API's addresses and how their certificates are verified.
        access: routes, trust, secrets and time.
        token: whose rights are used; its secret is resolved here.

    Attributes:
        calls: how many requests were sent, by method.
    """

    def __init__(self, lab: Lab, access: Access, token: ApiToken) -> None:
        self._access = access
        self._token = token
        self.calls: Counter[str] = Counter()
        secret = access.secrets.resolve(token.secret)
        self._urls = tuple(str(url) for url in lab.proxmox.api)
        self._doors = [self._open(url, lab, secret) for url in self._urls]
        self._current = 0
        self._guard = threading.Lock()

    def get(self, path: str, **params: Any) -> Any:
        """Read; a broken connection is tried again for a short while."""
        return retry(
            lambda: self._send("get", path, params),
            on=_AgainError,
            clock=self._access.clock,
            deadline=GET_BUDGET,
            pause=0.5,
            attempts=5,
        )

    def post(self, path: str, **data: Any) -> Any:
        """Write, once: the caller looks before it tries again."""
        return self._send("post", path, data)

    def put(self, path: str, **data: Any) -> Any:
        """Write, once: the caller looks before it tries again."""
        return self._send("put", path, data)

    def delete(self, path: str, **params: Any) -> Any:
        """Delete, once: the caller looks before it tries again."""
        return self._send("delete", path, params)

    def _open(self, url: str, lab: Lab, secret: str) -> ProxmoxResource:
        parts = urlsplit(url)
        host, port = str(parts.hostname), parts.port or 443
        user, _, name = self._token.id.partition("!")
        backend = Backend(f"{host}:{port}", user=user, token_name=name, token_value=secret, timeout=(CONNECT, READ))
        session = backend.get_session()
        session.trust_env = False  # no proxies and no netrc: hosts of a LAN
        tls = self._access.tls(host, port, lab.proxmox.tls)
        session.mount("https://", RoutedAdapter(tls, self._access.route, width=WIDTH))
        session.hooks["response"].append(_raise_for_answer)
        return ProxmoxResource(base_url=backend.get_base_url(), session=session, serializer=backend.get_serializer())

    def _send(self, method: str, path: str, values: dict[str, Any]) -> Any:
        """Send to the first host that takes a connection, beginning with the one that did last."""
        sent = {key: int(value) if isinstance(value, bool) else value for key, value in values.items()}
        refused: list[str] = []
        for step in range(len(self._doors)):
            number = (self._current + step) % len(self._doors)
            try:
                answer = self._call(self._doors[number], self._urls[number], method, path, dict(sent))
            except _UnsentError as exc:
                refused.append(f"{self._urls[number]}: {exc}")
                continue
            except _BrokenError as exc:
                kind = _AgainError if method == "get" else ProxmoxError
                raise kind(f"{method.upper()} {path}", str(exc), trouble=Trouble.UNKNOWN) from exc
            with self._guard:
                self._current = number
            return answer
        raise SystemDown(
            f"Proxmox: expected an answer from one of {len(self._urls)} addresses, got: {'; '.join(refused)}",
            next_step="check that the hosts are on, their names resolve, and port 8006 is open",
        )

    def _call(self, door: ProxmoxResource, url: str, method: str, path: str, values: dict[str, Any]) -> Any:
        with self._guard:
            self.calls[method.upper()] += 1
        try:
            send: Callable[..., Any] = getattr(door(path), method)
            return send(**values)
        except http.SSLError as exc:
            raise SystemDown(
                f"Proxmox {url}: expected the certificate that the lab file names, got: {_cause(exc)}",
                next_step="compare the fingerprint with the one on the host (System > Certificates), "
                "then set proxmox.tls in the lab file",
            ) from exc
        except (http.ConnectionError, http.ChunkedEncodingError, http.Timeout) as exc:
            unsent = isinstance(exc, http.ConnectTimeout) or bool(exc.args and isinstance(exc.args[0], MaxRetryError))
            raise (_UnsentError if unsent else _BrokenError)(_cause(exc)) from exc
        except ProxmoxError as exc:
            if exc.trouble is Trouble.LOGIN:
                raise SystemDown(
                    f"Proxmox {url}: expected the token {self._token.id} (secret from {self._token.secret}) "
                    f"to be accepted, got: {exc.reason}",
                    next_step=exc.next_step,
                ) from exc
            if method == "get" and exc.trouble is Trouble.UNKNOWN:
                raise _AgainError(f"GET {path}", exc.reason, status=exc.status, trouble=exc.trouble) from exc
            raise


class _AgainError(ProxmoxError):
    """A read whose answer did not come: reading again does no harm."""


def _raise_for_answer(answer: requests.Response, *_args: Any, **_kwargs: Any) -> None:
    """Raise with everything that an error says: the status line has what the body lacks, and the other way round."""
    if answer.status_code < 400:
        return
    said = [answer.reason or ""]
    try:
        body = json.loads(answer.text)
    except ValueError:
        body = None
        if not answer.text.lstrip().startswith("<"):
            said.append(answer.text[:500])
    if isinstance(body, dict):
        errors = body.get("errors")
        said.append(str(body.get("message") or ""))
        said += [f"{name}: {text}" for name, text in errors.items()] if isinstance(errors, dict) else []
    parts: list[str] = []
    for text in (part.strip() for part in said):
        if text and not any(text in other for other in parts):
            parts = [other for other in parts if other not in text] + [text]
    path = urlsplit(answer.url).path.removeprefix("/api2/json/")
    what = f"{answer.request.method} {path}"
    raise ProxmoxError(what, "; ".join(parts) or "no reason", status=answer.status_code)


def _cause(exc: BaseException) -> str:
    """The innermost reason of an error of requests, in one line."""
    inner: object = exc
    while isinstance(inner, BaseException):
        reason = getattr(inner, "reason", None)
        deeper = (
            reason
            if isinstance(reason, BaseException)
            else next((arg for arg in inner.args if isinstance(arg, BaseException)), None)
        )
        if deeper is None:
            break
        inner = deeper
    text = str(inner).partition("object at 0x")[2].partition(": ")[2] or str(inner)
    return text or type(inner).__name__
