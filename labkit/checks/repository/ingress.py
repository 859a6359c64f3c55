"""Rules on routes: what they lead to must exist, and each host must have one route and a certificate. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from labkit.checks.repository.certificates import Kept, covers, secret_in
from labkit.checks.repository.charts import installed_namespaces, releases
from labkit.checks.repository.finding import Hit, Question, at, rule
from labkit.checks.repository.routes import MiddlewareRef, Route, ServiceRef, routes
from labkit.facts.manifests import dig, maps, texts
from labkit.facts.repository import Cluster, Resource
from labkit.plan import Severity

_OUTSIDE = {"kube-system", "kube-public"}
_BUILT_IN = {("default", "kubernetes")}


@lru_cache(maxsize=32)
def objects(cluster: Cluster, kind: str) -> dict[tuple[str, str], Resource]:
    """Return the objects of a kind by namespace and name."""
    return {(r.namespace, r.name): r for r in cluster.resources if r.kind == kind}


@lru_cache(maxsize=8)
def known_namespaces(cluster: Cluster) -> frozenset[str]:
    """Return the namespaces that the repository fills alone: no chart installs into them."""
    filled = {r.namespace for r in cluster.resources if r.kind not in {"IngressRoute", "Ingress", "Namespace"}}
    return frozenset(filled) - installed_namespaces(cluster) - _OUTSIDE


def _claims_all(cluster: Cluster, namespace: str) -> bool:
    """Tell whether what is not seen in a namespace does not exist."""
    return cluster.is_complete and namespace in known_namespaces(cluster)


@rule("route-service", Severity.ERROR, "every route leads to a service that exists").clusters
def find_missing_services(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield routes to services that nothing makes."""
    for route in routes(cluster):
        for ref in route.services:
            kind = "TraefikService" if ref.kind == "TraefikService" else "Service"
            if "@" in ref.name or "$" in ref.name or not ref.name or (ref.namespace, ref.name) in _BUILT_IN:
                continue
            if (ref.namespace, ref.name) not in objects(cluster, kind) and _claims_all(cluster, ref.namespace):
                why = f"{route.resource.label} leads to {kind} {ref.namespace}/{ref.name}, which does not exist"
                yield *at(route.resource, *ref.steps, "name"), why, _near(ref, cluster, kind)


def _near(ref: ServiceRef, cluster: Cluster, kind: str) -> str:
    elsewhere = [namespace for namespace, name in objects(cluster, kind) if name == ref.name]
    if elsewhere:
        return f"it exists in namespace {', '.join(sorted(elsewhere))}: add namespace to the reference"
    return "correct the name, or add the service"


@rule("route-port", Severity.ERROR, "every route names a port of its service").clusters
def find_wrong_ports(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield ports that the service does not have; an ExternalName service is reached all the same by a number."""
    for route in routes(cluster):
        for ref in route.services:
            service = objects(cluster, "Service").get((ref.namespace, ref.name))
            if ref.kind == "Service" and service is not None and (hit := _port_hit(route, ref, service)):
                yield hit


def _port_hit(route: Route, ref: ServiceRef, service: Resource) -> Hit | None:
    external = service.get("spec", "type") == "ExternalName"
    ports = maps(service.get("spec", "ports"))
    known = {str(dig(port, key)) for port in ports for key in ("port", "name") if dig(port, key) is not None}
    place = at(route.resource, *ref.steps, "port")
    where = f"{route.resource.label} leads to {service.label}"
    remedy = f"name one of: {', '.join(sorted(known))}" if known else "add spec.ports to the service"
    if ref.port is None:
        why = f"{where} without a port"
        return None if route.resource.kind == "Ingress" else (*place, why, remedy)
    number = str(ref.port).isdigit()
    if str(ref.port) in known or "$" in str(ref.port) or (external and number and not known):
        return None
    if external and number:
        why = f"{where} on port {ref.port}, but the ExternalName declares {', '.join(sorted(known))}"
        return *place, why, f"make both the same: Traefik uses {ref.port} and logs a warning", Severity.WARNING
    return *place, f"{where} on port {ref.port}, which it does not have", remedy


@rule("route-middleware", Severity.ERROR, "every middleware that a route names exists").clusters
def find_missing_middlewares(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield references to middlewares that nothing makes: Traefik then drops the whole route."""
    known = objects(cluster, "Middleware")
    for route in routes(cluster) if cluster.is_complete else ():
        if route.resource.kind == "IngressRouteTCP":
            continue
        for ref in route.middlewares:
            if not _middleware_exists(cluster, ref, known):
                name = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
                why = f"{route.resource.label} passes Middleware {name}, which does not exist"
                elsewhere = sorted(namespace for namespace, known_name in known if known_name == ref.name)
                remedy = (
                    f"it exists in namespace {', '.join(elsewhere)}" if elsewhere else "correct the name, or add it"
                )
                yield *at(route.resource, *ref.steps), why, remedy


def _middleware_exists(cluster: Cluster, ref: MiddlewareRef, known: dict[tuple[str, str], Resource]) -> bool:
    name, _, provider = ref.name.partition("@")
    if "$" in name or provider not in {"", "kubernetescrd"}:
        return True
    if provider or not ref.namespace:
        charts = any(name.startswith(f"{namespace}-") for namespace in installed_namespaces(cluster))
        return charts or any(name == f"{namespace}-{own}" for namespace, own in known)
    return (ref.namespace, name) in known or not _claims_middleware(cluster, ref.namespace)


def _claims_middleware(cluster: Cluster, namespace: str) -> bool:
    """Charts hardly ever make middlewares, save Traefik's own and an Authelia's."""
    charts = {
        r.chart
        for r in releases(cluster)
        if namespace in {r.resource.namespace, str(r.resource.get("spec", "targetNamespace"))}
    }
    return not charts - {"longhorn", "cert-manager", "reflector", "metallb"}


@rule("route-tls-secret", Severity.ERROR, "every certificate that a route names is in the route's namespace").clusters
def find_missing_certificates(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield routes whose TLS secret nothing makes in their namespace."""
    for route in _first_of_each(cluster):
        namespace = route.resource.namespace
        if not route.tls_secret or "$" in route.tls_secret or not cluster.is_complete:
            continue
        kept = secret_in(cluster, namespace, route.tls_secret)
        if kept is not None or (not _origin(cluster, route.tls_secret) and namespace not in known_namespaces(cluster)):
            continue
        why = f"{route.resource.label} uses the TLS secret {namespace}/{route.tls_secret}, which nothing makes"
        remedy = "add a Certificate with this secretName in the namespace, or let reflector copy it there"
        if origin := _origin(cluster, route.tls_secret):
            where = f"{origin.label} ({origin.file}) makes it in {origin.namespace}"
            remedy = f"{where}: add {namespace} to its reflector annotations"
        yield *at(route.resource, *route.tls_steps), why, remedy


def _origin(cluster: Cluster, secret: str) -> Resource | None:
    made = (r for r in cluster.resources if r.kind == "Certificate" and r.get("spec", "secretName") == secret)
    return next(made, None)


def _first_of_each(cluster: Cluster) -> Iterator[Route]:
    """Yield one route per object and TLS secret, so that each is told once."""
    seen = set()
    for route in routes(cluster):
        key = (route.resource.file, route.resource.label, route.tls_secret)
        if key not in seen:
            seen.add(key)
            yield route


@rule("route-tls-host", Severity.ERROR, "the certificate of a route covers its hosts").clusters
def find_uncovered_hosts(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield hosts that are not among the names of the certificate that the route uses."""
    for route in routes(cluster):
        kept: Kept | None = secret_in(cluster, route.resource.namespace, route.tls_secret) if route.tls_secret else None
        if kept is None or kept.names is None:
            continue
        for host in route.hosts:
            if not re.search(r"[${}*]", host) and not covers(kept.names, host):
                names = ", ".join(kept.names)
                why = f"{route.resource.label}: the certificate in {route.tls_secret} is for {names}, not {host}"
                yield (
                    *at(route.resource, *route.steps),
                    why,
                    "add the name to the Certificate; a * stands for one part only",
                )


@rule("host-twice", Severity.ERROR, "no two ingress objects answer for one host and path").clusters
def find_hosts_twice(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield rules that another object has as well, on the same entry point and ingress class."""
    seen: dict[tuple[str, str], list[Route]] = {}
    for route in routes(cluster):
        for key in route.keys:
            others = seen.setdefault((route.ingress_class, key), [])
            twin = next((other for other in others if _clash(other, route)), None)
            if twin is not None and "$" not in key:
                place = f"{twin.resource.file}:{twin.line}"
                why = f"{route.resource.label}: {key.split()[0]} is answered by {twin.resource.label} as well ({place})"
                yield *at(route.resource, *route.steps), why, "take one away, or give each its own host or path"
            others.append(route)


def _clash(one: Route, two: Route) -> bool:
    if one.resource.get(*one.steps[:-1], "priority") != two.resource.get(*two.steps[:-1], "priority"):
        return False
    if one.has_tls != two.has_tls and one.resource.kind == two.resource.kind:
        return False
    return not one.entry_points or not two.entry_points or bool(one.entry_points & two.entry_points)


@rule("traefik-not-allowed", Severity.ERROR, "Traefik allows what routes ask for").clusters
def find_not_allowed(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield references across namespaces and to ExternalName services that the Traefik chart's values do not allow."""
    charts = list(releases(cluster, "traefik"))
    if len(charts) != 1 or charts[0].resource.get("spec", "valuesFrom"):
        return
    values = charts[0].resource.get("spec", "values")
    arguments = " ".join(texts(dig(values, "additionalArguments"))).lower()
    allowed = dig(values, "providers", "kubernetesCRD") or {}
    cross = dig(allowed, "allowCrossNamespace") is True or "allowcrossnamespace" in arguments
    external = dig(allowed, "allowExternalNameServices") is True or "allowexternalnameservices" in arguments
    for route in routes(cluster):
        if route.resource.kind != "IngressRoute":
            continue
        own = route.resource.namespace
        named = [(ref.namespace, ref.name, ref.steps) for ref in route.middlewares]
        named += [(ref.namespace, ref.name, ref.steps) for ref in route.services]
        for namespace, name, steps in named if not cross else ():
            if namespace != own and "@" not in name:
                why = f"{route.resource.label} refers to {namespace}/{name}: Traefik refuses other namespaces"
                remedy = "set providers.kubernetesCRD.allowCrossNamespace: true in Traefik's values"
                yield *at(route.resource, *steps), why, remedy
        for ref in route.services:
            service = objects(cluster, "Service").get((ref.namespace, ref.name))
            if not external and service is not None and service.get("spec", "type") == "ExternalName":
                why = f"{route.resource.label} leads to the ExternalName {service.name}: Traefik refuses those"
                yield (
                    *at(route.resource, *ref.steps),
                    why,
                    "set providers.kubernetesCRD.allowExternalNameServices: true",
                )
