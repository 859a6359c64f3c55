"""IngressRoutes and Ingresses in one form: hosts, services, middlewares, certificate, each with its line. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from labkit.facts.manifests import dig, maps, texts
from labkit.facts.repository import Cluster, Resource

_TRAEFIK = ("traefik.io", "traefik.containo.us")
_HOST = re.compile(r"\bHost(?:SNI)?\(([^)]*)\)")
_QUOTED = re.compile(r"[`\"']([^`\"']+)[`\"']")
_PATH = re.compile(r"\bPath(?:Prefix)?\(\s*[`\"']([^`\"']+)[`\"']")
_ANNOTATION = "traefik.ingress.kubernetes.io/"
Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class ServiceRef:
    """A service that a route leads to; `kind` Service or TraefikService, `port` as written or None."""

    namespace: str
    name: str
    kind: str
    port: Any
    steps: Steps


@dataclass(frozen=True)
class MiddlewareRef:
    """A middleware that a route passes."""

    namespace: str
    name: str
    steps: Steps


@dataclass(frozen=True)
class Route:
    """One rule of an ingress object.

    `keys` are the hosts with what else must match, in one form, to see the same rule twice.
    """

    resource: Resource
    steps: Steps
    hosts: tuple[str, ...]
    keys: tuple[str, ...]
    paths: tuple[str, ...]
    services: tuple[ServiceRef, ...]
    middlewares: tuple[MiddlewareRef, ...]
    tls_secret: str
    tls_steps: Steps
    has_tls: bool
    entry_points: frozenset[str]
    ingress_class: str

    @property
    def line(self) -> int:
        """Where the rule stands."""
        return self.resource.line_at(*self.steps)


@lru_cache(maxsize=8)
def routes(cluster: Cluster) -> tuple[Route, ...]:
    """Return every rule of every IngressRoute, IngressRouteTCP and Ingress of a cluster."""
    found: list[Route] = []
    for resource in cluster.resources:
        if resource.group in _TRAEFIK and resource.kind in {"IngressRoute", "IngressRouteTCP"}:
            found += _ingress_routes(resource)
        elif resource.group == "networking.k8s.io" and resource.kind == "Ingress":
            found += _ingress(resource)
    return tuple(found)


def _class(resource: Resource) -> str:
    named = resource.get("spec", "ingressClassName")
    return str(named or resource.annotations.get("kubernetes.io/ingress.class") or "")


def _ingress_routes(resource: Resource) -> Iterator[Route]:
    tls = resource.get("spec", "tls")
    for index, one in enumerate(maps(resource.get("spec", "routes"))):
        steps: Steps = ("spec", "routes", index)
        match = str(one.get("match") or "")
        yield Route(
            resource=resource,
            steps=(*steps, "match"),
            hosts=tuple(_hosts(match)),
            keys=tuple(_keys(match)),
            paths=tuple(_PATH.findall(match)),
            services=tuple(_services(resource, one, steps)),
            middlewares=tuple(_middlewares(resource, one, steps)),
            tls_secret=str(dig(tls, "secretName") or ""),
            tls_steps=("spec", "tls", "secretName"),
            has_tls=isinstance(tls, dict),
            entry_points=frozenset(texts(resource.get("spec", "entryPoints"))),
            ingress_class=_class(resource),
        )


def _hosts(match: str) -> Iterator[str]:
    for group in _HOST.findall(match):
        yield from (host.lower() for host in _QUOTED.findall(group))


def _keys(match: str) -> Iterator[str]:
    """Yield one text per alternative of a rule; a rule with brackets is one alternative."""
    bare = re.sub(r"[`\"'][^`\"']*[`\"']", "", re.sub(r"\w+\(", "(", match))
    whole = "((" in bare.replace(" ", "") or "!" in bare
    for part in [match] if whole else match.split("||"):
        rest = " ".join(sorted(_HOST.sub("", part).replace("&&", " ").split()))
        hosts = list(_hosts(part))
        if whole and hosts:
            yield " ".join(match.split())
        else:
            yield from (f"{host} {rest}".strip() for host in hosts)


def _services(resource: Resource, one: dict[str, Any], steps: Steps) -> Iterator[ServiceRef]:
    for index, service in enumerate(maps(one.get("services"))):
        namespace = str(service.get("namespace") or resource.namespace)
        kind = str(service.get("kind") or "Service")
        place = (*steps, "services", index)
        yield ServiceRef(namespace, str(service.get("name") or ""), kind, service.get("port"), place)


def _middlewares(resource: Resource, one: dict[str, Any], steps: Steps) -> Iterator[MiddlewareRef]:
    for index, ref in enumerate(maps(one.get("middlewares"))):
        namespace = str(ref.get("namespace") or resource.namespace)
        yield MiddlewareRef(namespace, str(ref.get("name") or ""), (*steps, "middlewares", index))


def _ingress(resource: Resource) -> Iterator[Route]:
    """Yield the rules of an Ingress; its TLS secrets belong to the hosts that they name."""
    entry_points = frozenset(_listed(resource.annotations.get(f"{_ANNOTATION}router.entrypoints", "")))
    middlewares = tuple(_annotated(resource))
    tls = maps(resource.get("spec", "tls"))
    for index, one in enumerate(maps(resource.get("spec", "rules"))):
        host = str(one.get("host") or "").lower()
        at_tls = next((i for i, entry in enumerate(tls) if host in texts(entry.get("hosts"))), None)
        if at_tls is None and len(tls) == 1 and not tls[0].get("hosts"):
            at_tls = 0
        for place, path in enumerate(maps(dig(one, "http", "paths"))):
            steps: Steps = ("spec", "rules", index, "http", "paths", place)
            service = dig(path, "backend", "service")
            port = dig(service, "port", "number") or dig(service, "port", "name")
            named = str(dig(service, "name") or "")
            ref = ServiceRef(resource.namespace, named, "Service", port, (*steps, "backend", "service", "name"))
            where = str(path.get("path") or "/")
            yield Route(
                resource=resource, steps=steps, hosts=(host,) if host else (),
                keys=(f"{host} {where}",) if host else (),
                paths=() if where == "/" else (where,), services=(ref,) if named else (), middlewares=middlewares,
                tls_secret="" if at_tls is None else str(tls[at_tls].get("secretName") or ""),
                tls_steps=("spec", "tls", at_tls or 0, "secretName"), has_tls=at_tls is not None,
                entry_points=entry_points, ingress_class=_class(resource),
            )  # fmt: skip


def _annotated(resource: Resource) -> Iterator[MiddlewareRef]:
    """Yield the middlewares of an Ingress, `namespace-name@kubernetescrd`: one text, as only Traefik can divide it."""
    key = f"{_ANNOTATION}router.middlewares"
    for text in _listed(resource.annotations.get(key, "")):
        yield MiddlewareRef("", text, ("metadata", "annotations", key))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
