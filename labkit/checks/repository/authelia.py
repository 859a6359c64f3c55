"""Rules that join Authelia's access control with the routes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from labkit.checks.repository.charts import releases
from labkit.checks.repository.finding import Hit, Question, at, rule
from labkit.checks.repository.ingress import objects
from labkit.checks.repository.routes import Route, routes
from labkit.facts.manifests import dig, maps, parse_manifests, texts, walk_leaves
from labkit.facts.repository import Cluster, Resource
from labkit.plan import Severity

_WHOLE_LINE = re.compile(r"^\s*\{\{.*\}\}\s*$", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_ASKS = {"one_factor", "two_factor", "deny"}
_GUARDS = {"forwardAuth", "basicAuth", "digestAuth", "ipAllowList", "ipWhiteList", "plugin"}
_NETWORK_CONDITIONS = ("networks", "methods", "query")


@dataclass(frozen=True)
class Access:
    """Authelia's access control, where it stands, and the hosts that are its portal or log in by OpenID Connect."""

    place: str
    default: str
    rules: tuple[dict[str, Any], ...]
    own_hosts: frozenset[str]


@lru_cache(maxsize=8)
def read_access(cluster: Cluster) -> Access | None:
    """Find Authelia's access control in a ConfigMap or in a chart's values; None when it cannot be read."""
    for resource in cluster.resources:
        for text in _config_texts(resource):
            cleaned = _TEMPLATE.sub("TEMPLATE", _WHOLE_LINE.sub("", text))
            tree = next(iter(parse_manifests(cleaned).trees), None)
            if isinstance(dig(tree, "access_control"), dict):
                return _access(resource, tree)
    for release in releases(cluster, "authelia"):
        tree = release.resource.get("spec", "values", "configMap")
        if isinstance(dig(tree, "access_control"), dict):
            return _access(release.resource, tree)
    return None


def _config_texts(resource: Resource) -> Iterator[str]:
    data = resource.get("data") if resource.kind == "ConfigMap" else None
    for value in data.values() if isinstance(data, dict) else ():
        if isinstance(value, str) and "access_control:" in value:
            yield value


def _access(resource: Resource, tree: Any) -> Access:
    control = dig(tree, "access_control")
    rules = tuple(maps(dig(control, "rules")))
    own = {_host(text) for client in maps(dig(tree, "identity_providers", "oidc", "clients"))
           for text in texts(client.get("redirect_uris"))}  # fmt: skip
    own |= {_host(str(value)) for steps, value in walk_leaves(dig(tree, "session")) if "authelia_url" in steps}
    own |= {str(value) for steps, value in walk_leaves(dig(tree, "session", "cookies")) if "subdomain" in steps}
    return Access(
        f"{resource.file}:{resource.line}", str(control.get("default_policy") or "deny"), rules, frozenset(own)
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def policy_for(access: Access, host: str, paths: Iterable[str]) -> str | None:
    """Return the policy that a stranger meets at a host under paths, or None when that cannot be told."""
    asked = tuple(paths) or ("/",)
    for one in access.rules:
        fits = _fits(one, host)
        if fits is None:
            return None
        if not fits or any(one.get(key) for key in _NETWORK_CONDITIONS):
            continue
        resources = texts(one.get("resources"))
        if resources and not all(_path_matches(resources, path) for path in asked):
            continue
        policy = str(one.get("policy") or "")
        if not (one.get("subject") and policy == "deny"):
            return policy
    return access.default


def _fits(one: dict[str, Any], host: str) -> bool | None:
    """Tell whether a rule is about a host; None when it depends on what is filled in later."""
    patterns = texts(one.get("domain_regex"))
    if any("$" in text.rstrip("$") or "TEMPLATE" in text for text in (*texts(one.get("domain")), *patterns)):
        return None
    if any(_matches_domain(domain.lower(), host) for domain in texts(one.get("domain"))):
        return True
    try:
        return any(
            re.search(pattern.replace("(?P<User>", "(").replace("(?P<Group>", "("), host) for pattern in patterns
        )
    except re.error:
        return None


def _matches_domain(domain: str, host: str) -> bool:
    if domain.startswith(("*.", "{user}.", "{group}.")):
        return host.endswith(domain[domain.index(".") :])
    return domain == host


def _path_matches(patterns: Iterable[str], path: str) -> bool:
    try:
        return any(re.search(pattern, path) for pattern in patterns)
    except re.error:
        return False


@rule("route-unprotected", Severity.WARNING, "no route leaves out a login that Authelia's rules ask for").clusters
def find_unprotected(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield routes without authentication to hosts that Authelia would deny or ask a login for."""
    access = read_access(cluster)
    if access is None or not cluster.is_complete or _is_guarded_everywhere(cluster):
        return
    told: set[tuple[str, int]] = set()
    for route in routes(cluster):
        if route.resource.kind == "IngressRouteTCP" or _is_guarded(cluster, route) or _only_redirects(cluster, route):
            continue
        for host in route.hosts:
            if host in access.own_hosts or "$" in host or _leads_to_authelia(route):
                continue
            policy = policy_for(access, host, route.paths)
            place = at(route.resource, *route.steps)
            if policy in _ASKS and place not in told:
                told.add(place)
                says = "deny" if policy == "deny" else f"ask for {policy}"
                why = f"{route.resource.label} opens {host} without authentication; Authelia's rules would {says}"
                remedy = "pass the forward-auth middleware, or add a rule with policy: bypass that says it is meant"
                yield *place, why, remedy


def _is_guarded(cluster: Cluster, route: Route) -> bool:
    """Tell whether a middleware of a route asks who is there; one that is not known counts as one that does."""
    known = objects(cluster, "Middleware")
    waiting = [(ref.namespace, ref.name.partition("@")[0]) for ref in route.middlewares]
    seen = set(waiting)
    while waiting:
        namespace, name = waiting.pop()
        found = known.get((namespace, name))
        if found is None and not namespace:
            found = next((r for (of, own), r in known.items() if f"{of}-{own}" == name), None)
        if found is None or _GUARDS & _parts(found):
            return True
        for ref in maps(found.get("spec", "chain", "middlewares")):
            key = (str(ref.get("namespace") or found.namespace), str(ref.get("name")))
            if key not in seen:
                seen.add(key)
                waiting.append(key)
    return False


def _only_redirects(cluster: Cluster, route: Route) -> bool:
    known = objects(cluster, "Middleware")
    found = [known.get((ref.namespace, ref.name)) for ref in route.middlewares]
    redirect = any(r is not None and {"redirectScheme", "redirectRegex"} & _parts(r) for r in found)
    return redirect or any(ref.name == "noop@internal" for ref in route.services)


def _parts(middleware: Resource) -> set[str]:
    """Return the keys of a middleware's spec: what it does."""
    spec = middleware.get("spec")
    return set(spec) if isinstance(spec, dict) else set()


def _leads_to_authelia(route: Route) -> bool:
    return any("authelia" in ref.name for ref in route.services)


def _is_guarded_everywhere(cluster: Cluster) -> bool:
    """Tell whether an entry point of Traefik itself passes a middleware."""
    for release in releases(cluster, "traefik"):
        values = release.resource.get("spec", "values")
        if any("http.middlewares" in argument for argument in texts(dig(values, "additionalArguments"))):
            return True
        if any(steps[-2:-1] == ("middlewares",) for steps, _ in walk_leaves(dig(values, "ports"))):
            return True
    return False
