"""Health checks of every public host, by a real HTTPS request of a stranger at Traefik's address. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labkit.checks.apps import is_login
from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.repository.routes import Route, routes
from labkit.facts.apps import RouteFacts
from labkit.facts.git import GitFacts
from labkit.lab.authelia import read_authelia
from labkit.plan import Severity
from labkit.rules.app_form import authelia_file

READS = ("routes",)
BOTH = ("routes", "git")
_FORWARD = "forwardAuth"


def seen(scene: Scene) -> RouteFacts:
    """Return how hosts answer."""
    facts: RouteFacts = scene["routes"]
    return facts


@health("ingress.answers", Area.INGRESS, "every public host answers", Severity.ERROR, reads=READS)
def answers(scene: Scene) -> Iterator[Found]:
    """Find hosts that nothing answers for; one finding when nothing answers at all."""
    rows = seen(scene).routes
    silent = [row for row in rows if not row.reachable]
    if rows and len(silent) == len(rows):
        yield Found(f"Traefik at {scene.lab.ingress}", "an answer over HTTPS", silent[0].problem,
                    "look at Traefik's pods and its load balancer address")  # fmt: skip
        return
    for row in silent:
        yield Found(f"https://{row.host}", "an answer", row.problem, "look at Traefik's log for that host")


@health("ingress.certificate", Area.INGRESS, "every public host shows a valid certificate", Severity.ERROR, reads=READS)
def certificate(scene: Scene) -> Iterator[Found]:
    """Find hosts whose certificate a browser would refuse."""
    for row in seen(scene).routes:
        if row.reachable and not row.verified:
            yield Found(f"https://{row.host}", "a certificate for it from a known CA", row.problem,
                        "look at the Certificate, and whether its Secret is in the namespace of the route")  # fmt: skip


@health("ingress.status", Area.INGRESS, "an app stands behind every public host", Severity.ERROR, reads=READS)
def status(scene: Scene) -> Iterator[Found]:
    """Find hosts that Traefik has no service or no living pod for."""
    for row in seen(scene).routes:
        if row.reachable and not row.is_routed:
            yield Found(f"https://{row.host}", "the app's own answer", f"{row.status} {row.server_says}".strip(),
                        "look at the IngressRoute, its ingress class, its Service and the pods behind it")  # fmt: skip
        elif row.status >= 500:
            yield Found(f"https://{row.host}", "an answer without a fault", f"status {row.status}",
                        "look at the log of the app")  # fmt: skip


@health("ingress.protected", Area.INGRESS, "a login stands before every host that Git protects", Severity.ERROR,
        reads=BOTH)  # fmt: skip
def protected(scene: Scene) -> Iterator[Found]:
    """Find hosts that a stranger gets into although their route names a forward-auth middleware."""
    git: GitFacts = scene["git"]
    config = read_authelia(git.texts.get(authelia_file(git), ""))
    portal = (config.portal if config else "") or f"auth.{scene.lab.domain}"
    guarded = guarded_hosts(git)
    for row in seen(scene).routes:
        where = guarded.get(row.host)
        if where is None or not row.is_routed or is_login(row, portal) or row.status == 403:
            continue
        got = f"status {row.status}" + (f" to {row.location}" if row.location else "")
        yield Found(f"https://{row.host}", f"a redirect to {portal} for a stranger ({where})", f"{got}: it is open",
                    "look at the middleware of the route, and at Authelia's rules for the host")  # fmt: skip


@health("ingress.slow", Area.INGRESS, "every public host answers in time", Severity.WARNING, reads=READS)
def slow(scene: Scene) -> Iterator[Found]:
    """Find hosts that let people wait."""
    limit = scene.lab.health.limits.ingress.slow_milliseconds
    for row in seen(scene).routes:
        if row.reachable and row.milliseconds > limit:
            yield Found(f"https://{row.host}", f"an answer within {limit} ms", f"{row.milliseconds:.0f} ms",
                        "look at the app's load, its volume and the node that it is on")  # fmt: skip


@health("ingress.routed", Area.INGRESS, "every host of Git's routes is in the cluster", Severity.WARNING, reads=BOTH)
def routed(scene: Scene) -> Iterator[Found]:
    """Find hosts that stand in Git and that the cluster has no route for."""
    git: GitFacts = scene["git"]
    there = {row.host for row in seen(scene).routes}
    if not there or git.cluster is None:
        return
    missing: dict[str, str] = {}
    for route in routes(git.cluster):
        if route.resource.kind == "IngressRoute":
            missing |= {host: _place(route) for host in route.hosts if host not in there}
    for host, place in sorted(missing.items()):
        yield Found(f"https://{host} ({place})", "a route in the cluster", "none",
                    "see Flux: the Kustomization that applies it is behind, suspended or failing")  # fmt: skip


def guarded_hosts(git: GitFacts) -> Mapping[str, str]:
    """Return the hosts whose routes all pass a forward-auth middleware, with the place of one of them."""
    if git.cluster is None:
        return {}
    guards = {
        (one.namespace, one.name) for one in git.cluster.resources
        if one.kind == "Middleware" and one.get("spec", _FORWARD) is not None
    }  # fmt: skip
    passes: dict[str, list[tuple[bool, Route]]] = {}
    for route in routes(git.cluster):
        guarded = any((ref.namespace, ref.name) in guards for ref in route.middlewares)
        for host in route.hosts:
            passes.setdefault(host, []).append((guarded, route))
    return {host: _place(some[0][1]) for host, some in passes.items() if all(guarded for guarded, _ in some)}


def _place(route: Route) -> str:
    return f"{route.resource.file}:{route.line}"
