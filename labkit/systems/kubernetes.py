"""The Kubernetes API of the lab: the official client on our own way to the servers.

Every request goes to the first server that answers, through `Access.route`, with TLS verified against the cluster's
CA and the server's own address. Lists are read as raw JSON, overviews as server-side Tables: the typed client takes
seconds where these take milliseconds.
"""

from __future__ import annotations

import gc
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)

from labkit.errors import LabError, SystemDown
from labkit.redaction import remember
from labkit.systems.access import Access
from labkit.systems.retry import retry

PORT = 6443
MANAGER = "labkit"
"""The field manager of everything that labkit applies."""
_CONNECT = 5.0
_READ = 60.0
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_HOST = "https://cluster"  # stands for whichever server answers
_PAGE = 500
_WIDEST = 64
"""As many connections are kept as a survey of everything asks side by side."""


@dataclass(frozen=True)
class Credentials:
    """Who we are to a cluster, and by which CA we know it: PEM texts, and a bearer token in place of a certificate."""

    ca: str
    certificate: str = ""
    key: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        for secret in (self.key, self.token):
            if secret:
                remember(secret)


class KubeError(LabError):
    """Report what the API refused, with its status, reason and causes."""

    def __init__(self, what: str, status: int, answer: Mapping[str, Any]) -> None:
        said = str(answer.get("message") or f"HTTP status {status}")
        super().__init__(f"{what}: expected success, got {status}: {said}")
        self.status = status
        self.reason = str(answer.get("reason") or "")
        self.said = said
        self.causes: list[dict[str, Any]] = list((answer.get("details") or {}).get("causes") or ())


@dataclass(frozen=True)
class Row:
    """One row of a server-side Table: its cells, and the metadata of its object when it was asked for."""

    cells: tuple[Any, ...]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A server-side Table: the columns that kubectl shows, with `-o wide`."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name.lower(): place for place, name in reversed(tuple(enumerate(self.columns)))}

    def column(self, name: str) -> int:
        """Return the place of a column; -1 when the server has none of that name."""
        return self._places.get(name.lower(), -1)

    def cell(self, row: Row, name: str) -> str:
        """Return a cell by its column's name; empty when there is none."""
        place = self.column(name)
        return "" if place < 0 or row.cells[place] is None else str(row.cells[place])


class _Doors:
    """The servers as one: stands in for urllib3's pool manager, also inside the official client."""

    def __init__(self, access: Access, hosts: Sequence[str], credentials: Credentials) -> None:
        self._access = access
        self.hosts = list(hosts)
        self._context = _tls_context(credentials)
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._guard = threading.Lock()

    def request(self, method: str, url: str, *, again: bool | None = None, **options: Any) -> Any:
        """Send a request to the first server that takes it.

        Args:
            method: of HTTP.
            url: with a stand-in for the server.
            again: whether it may be sent twice, for nobody knows what became of it when a connection breaks;
                when None, only what reads may.
            options: for urllib3.
        """
        again = method == "GET" if again is None else again
        options["timeout"] = options.get("timeout") or urllib3.Timeout(connect=_CONNECT, read=_READ)
        options["retries"] = False
        path = url.removeprefix(_HOST)
        problems = []
        for host in list(self.hosts):
            try:
                there, port = self._access.route(host, PORT)
                answer = self._ask(host, method, f"https://{there}:{port}{path}", again=again, options=options)
            except SSLError as exc:
                problems.append(f"{host}: {exc}")
            except (NewConnectionError, ConnectTimeoutError) as exc:
                problems.append(f"{host}: {type(exc).__name__}")
            except HTTPError as exc:
                if not again or not isinstance(exc, ProtocolError):
                    raise
                problems.append(f"{host}: {exc}")
            except SystemDown as exc:
                problems.append(str(exc))
            else:
                self._prefer(host)
                return answer
        raise _NoServerError("; ".join(problems) or "no server to ask")

    def _ask(self, host: str, method: str, url: str, *, again: bool, options: Mapping[str, Any]) -> Any:
        """Send a request to one server; a connection that breaks is made anew a few times."""
        pool = self._pool(host)
        return retry(
            lambda: pool.request(method, url, **options),
            on=ProtocolError,
            clock=self._access.clock,
            deadline=10.0,
            pause=0.5,
            attempts=4 if again else 1,
        )

    def clear(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    def _prefer(self, host: str) -> None:
        with self._guard:
            if self.hosts[0] != host:
                self.hosts.remove(host)
                self.hosts.insert(0, host)

    def _pool(self, host: str) -> urllib3.PoolManager:
        with self._guard:
            if host not in self._pools:
                pool = urllib3.PoolManager(ssl_context=self._context, server_hostname=host, maxsize=_WIDEST)
                self._pools[host] = pool
            return self._pools[host]


class _NoServerError(HTTPError):
    """No server took a request."""


def _tls_context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=credentials.ca)
    if credentials.certificate:
        # Python reads a client key from a file only: one that nobody else may read, for this moment.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(f"{credentials.certificate}\n{credentials.key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


class Cluster:
    """One Kubernetes API, at any of several servers.

    Attributes:
        credentials: with which it is asked.
    """

    def __init__(self, access: Access, hosts: Sequence[str], credentials: Credentials) -> None:
        self.credentials = credentials
        self.access = access
        self._doors = _Doors(access, hosts, credentials)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._doors.clear()

    @property
    def host(self) -> str:
        """The server that answered last."""
        return self._doors.hosts[0]

    def at(self, host: str) -> Cluster:
        """Return the same cluster, asked at one server only."""
        return Cluster(self.access, [host], self.credentials)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        again: bool | None = None,
    ) -> bytes:
        """Send one request and return the body of its answer; `again` says whether it may be sent twice.

        Raises:
            KubeError: the API refused it.
            SystemDown: no server answers.
        """
        url = _HOST + path + (f"?{urlencode(query, doseq=True)}" if query else "")
        sent = {"Accept": accept, **(headers or {})}
        if self.credentials.token:
            sent["Authorization"] = f"Bearer {self.credentials.token}"
        again = method != "POST" if again is None else again
        options: dict[str, Any] = {"headers": sent, "again": again}
        if timeout is not None:
            options["timeout"] = urllib3.Timeout(connect=_CONNECT, read=timeout)
        if body is not None:
            sent["Content-Type"] = content_type
            options["body"] = json.dumps(body).encode()
        try:
            answer = self._doors.request(method, url, **options)
        except HTTPError as exc:
            raise SystemDown(
                f"Kubernetes API: expected an answer to {method} {path}, got none: {exc}",
                next_step="look whether k3s runs on the servers: run bootstrap-k3s",
            ) from exc
        data = bytes(answer.data)
        if answer.status >= 400:
            raise KubeError(f"{method} {path}", answer.status, _status_of(data))
        return data

    def get(self, path: str, **query: Any) -> Any:
        """Return an object or a page of a list as parsed JSON."""
        return _parse(self.request("GET", path, query=query))

    def find(self, path: str, **query: Any) -> Any:
        """Return an object as parsed JSON, or None when it, or its kind, is not there."""
        try:
            return self.get(path, **query)
        except KubeError as exc:
            if exc.status == 404:
                return None
            raise

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield all objects of a list, page by page, as parsed JSON."""
        token = ""
        while True:
            page = self.get(path, limit=_PAGE, **query, **({"continue": token} if token else {}))
            yield from page.get("items") or ()
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def table(self, path: str, *, include: Literal["Metadata", "None"] = "Metadata", **query: Any) -> Table:
        """Return a list as a server-side Table, with the metadata of the objects or without any of them."""
        columns: tuple[str, ...] = ()
        rows: list[Row] = []
        token = ""
        while True:
            more = {"continue": token} if token else {}
            asked = {"includeObject": include, "limit": 2 * _PAGE, **query, **more}
            page = _parse(self.request("GET", path, query=asked, accept=_TABLE))
            columns = columns or tuple(column["name"] for column in page.get("columnDefinitions") or ())
            rows += [Row(tuple(r["cells"]), (r.get("object") or {}).get("metadata") or {}) for r in page["rows"] or ()]
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return Table(columns, tuple(rows))

    def post(self, path: str, body: object, *, again: bool = False) -> Any:
        """Create an object, or call what takes one (an eviction, which may be sent twice); return the answer."""
        return json.loads(self.request("POST", path, body=body, again=again))

    def patch(self, path: str, body: object) -> Any:
        """Change an object by a merge patch; return it."""
        data = self.request("PATCH", path, body=body, content_type="application/merge-patch+json",
                            query={"fieldManager": MANAGER})  # fmt: skip
        return json.loads(data)

    def apply(self, path: str, body: Mapping[str, Any], *, force: bool = False, manager: str = MANAGER) -> Any:
        """Apply an object server-side as a field manager, `labkit` when none is named; return it."""
        query = {"fieldManager": manager, **({"force": "true"} if force else {})}
        content_type = "application/apply-patch+yaml"
        return json.loads(self.request("PATCH", path, body=body, content_type=content_type, query=query))

    def delete(self, path: str) -> bool:
        """Delete an object; return whether there was one."""
        try:
            self.request("DELETE", path)
        except KubeError as exc:
            if exc.status == 404:
                return False
            raise
        return True

    def unhealthy(self) -> tuple[str, ...]:
        """Return the parts that /readyz reports as failed; empty when all is well."""
        try:
            self.request("GET", "/readyz", query={"verbose": ""}, accept="*/*")
        except KubeError as exc:
            failed = [line[3:].split()[0] for line in exc.said.splitlines() if line.startswith("[-]")]
            return tuple(failed) or (f"status {exc.status}",)
        return ()

    @cached_property
    def client(self) -> Any:
        """The official client (`kubernetes.client.ApiClient`) on the same connections."""
        from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415  # a second to import

        configuration = Configuration(host=_HOST)
        if self.credentials.token:
            configuration.api_key["authorization"] = f"Bearer {self.credentials.token}"
        api: Any = ApiClient(configuration)
        api.rest_client.pool_manager = self._doors
        return api

    @cached_property
    def dynamic(self) -> Any:
        """The official dynamic client: any kind by its apiVersion and name."""
        from kubernetes import dynamic  # noqa: PLC0415  # a second to import

        make: Any = dynamic.DynamicClient
        return make(self.client, cache_file=str(Path(self.access.state) / "discovery.json"))


def _parse(data: bytes) -> Any:
    """Parse JSON; the garbage collector rests meanwhile, for nothing of a long list is garbage: a third of the time."""
    rests = gc.isenabled()
    gc.disable()
    try:
        return json.loads(data)
    finally:
        if rests:
            gc.enable()


def _status_of(data: bytes) -> Mapping[str, Any]:
    """What the API says about a refusal; some answers are plain text."""
    try:
        answer = json.loads(data)
    except ValueError:
        return {"message": data.decode("utf-8", "replace")}
    return answer if isinstance(answer, dict) else {"message": str(answer)}
