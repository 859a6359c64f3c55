"""What the report says of Flux, public hosts and the repository: a lab that is well, and what it must find."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from labkit.checks.health import Area, flux, git, ingress
from labkit.facts.apps import RouteFacts, RouteRow
from labkit.facts.flux import NAMESPACE, Condition, FluxFacts, FluxObject, Workload
from labkit.facts.git import GitFacts
from labkit.facts.manifests import parse_manifests
from labkit.facts.repository import Build, Cluster, RepositoryFacts, Resource, SourceFile
from tests.checks.health.scenes import NOW, Row, found

MODULES = (flux, git, ingress)
HEAD = "0123456789012345678901234567890123456789"
LIVE = f"master@sha1:{HEAD}"
OLD = f"master@sha1:{'f' * 40}"
PATH = "kubernetes/clusters/production"
MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec: {template: {spec: {containers: [{name: web, image: "web:1"}]}}}
---
apiVersion: traefik.io/v1alpha1
kind: Middleware
metadata: {name: authelia, namespace: authelia}
spec: {forwardAuth: {address: http://authelia}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: web, namespace: default}
spec:
  routes:
  - match: Host(`web.efym.net`)
    kind: Rule
    services: [{name: web, port: 80}]
    middlewares: [{name: authelia, namespace: authelia}]
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: open, namespace: default}
spec: {routes: [{match: Host(`open.efym.net`), kind: Rule, services: [{name: web, port: 80}]}]}
"""
KUSTOMIZATION = parse_manifests("""
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps, namespace: flux-system}
""").trees[0]


def repository(head: str = HEAD, path: str = PATH) -> GitFacts:
    resources = tuple(Resource(tree, "web.yaml", tree.line, tree) for tree in parse_manifests(MANIFESTS).trees)
    build = Build(Resource(KUSTOMIZATION, "apps.yaml", 1, KUSTOMIZATION), "apps", resources)
    return GitFacts(url="ssh://git", branch="master", path=path, head=head,
                    repository=RepositoryFacts("", (SourceFile("web.yaml"),), (Cluster(PATH, (build,)),)))  # fmt: skip


def one(kind: str, name: str, status: str = "True", reason: str = "Done", message: str = "", **more: Any) -> FluxObject:
    ready = Condition(type="Ready", status=status, reason=reason, message=message)
    return FluxObject(**{"kind": kind, "namespace": NAMESPACE, "name": name, "generation": 1, "observed": 1,
                         "conditions": (ready,), **more})  # fmt: skip


SOURCE = one("GitRepository", NAMESPACE, artifact=LIVE)
APPS = one("Kustomization", "apps", applied=LIVE, attempted=LIVE, source=f"GitRepository/{NAMESPACE}/{NAMESPACE}")
CONTROLLER = Workload(kind="Deployment", namespace=NAMESPACE, name="kustomize-controller", wanted=1, ready=1,
                      labels={"app.kubernetes.io/part-of": "flux"})  # fmt: skip
WEB = Workload(kind="Deployment", namespace="default", name="web", wanted=1, ready=1, images=("web:1",))
STALLED = Condition(type="Stalled", status="True", reason="RetriesExceeded", message="Failed to install after 4")
FAILED = Condition(type="Ready", status="False", reason="InstallFailed", message="timed out")
RELEASE = one("HelmRelease", "traefik", conditions=(FAILED, STALLED))


def seen(*objects: FluxObject, workloads: tuple[Workload, ...] = (CONTROLLER, WEB), **more: Any) -> FluxFacts:
    return FluxFacts(objects=objects or (SOURCE, APPS), workloads=workloads, read_at=NOW, **more)


def held(hours: int, **more: Any) -> FluxObject:
    return APPS.model_copy(update={"suspended": True, "suspended_since": NOW - timedelta(hours=hours), **more})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (seen(), []),
        (seen(workloads=()), [("flux.installed", "error", "Flux", "none")]),
        (seen(workloads=(CONTROLLER.model_copy(update={"ready": 0, "problem": "OOMKilled"}), WEB)),
         [("flux.installed", "error", f"Deployment/{NAMESPACE}/kustomize-controller", "OOMKilled")]),
        (seen(SOURCE, one("Kustomization", "apps", "False", "BuildFailed", "no such file")),
         [("flux.ready", "error", f"Kustomization/{NAMESPACE}/apps", "Ready=False BuildFailed: no such file")]),
        (seen(SOURCE, APPS, RELEASE),
         [("flux.retries", "error", f"HelmRelease/{NAMESPACE}/traefik", "Ready=False InstallFailed: timed out")]),
        (seen(SOURCE, held(3)), []),
        (seen(SOURCE, held(50, suspended_by="flux")),
         [("flux.suspended", "warning", f"Kustomization/{NAMESPACE}/apps", "suspended 2 days ago by flux")]),
        (seen(SOURCE, held(1, suspended_for="disaster-recovery")),
         [("flux.suspended", "warning", f"Kustomization/{NAMESPACE}/apps",
           "suspended 60 minutes ago for disaster-recovery")]),
        (seen(SOURCE, APPS.model_copy(update={"applied": OLD, "attempted": OLD})),
         [("flux.revision", "warning", f"Kustomization/{NAMESPACE}/apps", "master@fffffff")]),
        (seen(workloads=(CONTROLLER, WEB.model_copy(update={"images": ("web:2",)}))),
         [("flux.drift", "warning", "Deployment/default/web (web.yaml:2)", "web:2")]),
        (seen(installed="v2.9.4"), []),
    ],
)  # fmt: skip
def test_flux(facts: FluxFacts, expected: list[Row]) -> None:
    assert found(Area.FLUX, flux=facts, git=repository()) == expected


def test_stored_versions_that_git_would_no_longer_bring() -> None:
    name = "gitrepositories.source.toolkit.fluxcd.io"
    known = repository().model_copy(update={"crds": {name: ("v1",)}})
    facts = seen(crds={name: ("v1beta2", "v1")})
    assert found(Area.FLUX, flux=facts, git=known) == [
        ("flux.versions", "error", name, "some stored as v1beta2"),
    ]


LOGIN = "https://auth.efym.net/"
WEB_ROUTE = RouteRow(host="web.efym.net", reachable=True, verified=True, status=302, location=LOGIN, milliseconds=20)
OPEN_ROUTE = RouteRow(host="open.efym.net", reachable=True, verified=True, status=200, milliseconds=20)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((WEB_ROUTE, OPEN_ROUTE), []),
        ((WEB_ROUTE, OPEN_ROUTE.model_copy(update={"reachable": False, "problem": "refused"})),
         [("ingress.answers", "error", "https://open.efym.net", "refused")]),
        ((WEB_ROUTE.model_copy(update={"reachable": False, "problem": "no route to host"}),
          OPEN_ROUTE.model_copy(update={"reachable": False, "problem": "no route to host"})),
         [("ingress.answers", "error", "Traefik at 192.168.5.50", "no route to host")]),
        ((WEB_ROUTE, OPEN_ROUTE.model_copy(update={"verified": False, "problem": "expired"})),
         [("ingress.certificate", "error", "https://open.efym.net", "expired")]),
        ((WEB_ROUTE, OPEN_ROUTE.model_copy(update={"status": 503})),
         [("ingress.status", "error", "https://open.efym.net", "503")]),
        ((WEB_ROUTE, OPEN_ROUTE.model_copy(update={"status": 500})),
         [("ingress.status", "error", "https://open.efym.net", "status 500")]),
        ((WEB_ROUTE.model_copy(update={"status": 200, "location": ""}), OPEN_ROUTE),
         [("ingress.protected", "error", "https://web.efym.net", "status 200: it is open")]),
        ((WEB_ROUTE.model_copy(update={"location": "https://elsewhere.net/"}), OPEN_ROUTE),
         [("ingress.protected", "error", "https://web.efym.net",
           "status 302 to https://elsewhere.net/: it is open")]),
        ((WEB_ROUTE, OPEN_ROUTE.model_copy(update={"milliseconds": 4200.0})),
         [("ingress.slow", "warning", "https://open.efym.net", "4200 ms")]),
        ((WEB_ROUTE,), [("ingress.routed", "warning", "https://open.efym.net (web.yaml:25)", "none")]),
    ],
)  # fmt: skip
def test_public_hosts(rows: tuple[RouteRow, ...], expected: list[Row]) -> None:
    assert found(Area.INGRESS, routes=RouteFacts(routes=rows, read_at=NOW), git=repository()) == expected


def test_a_host_is_guarded_only_when_all_its_routes_are() -> None:
    assert ingress.guarded_hosts(repository()) == {"web.efym.net": "web.yaml:17"}


def test_the_rules_of_the_repository_checker_are_checks() -> None:
    rows = found(Area.GIT, git=repository())
    assert ("git.route-service", "error", "web.yaml:19") in [row[:3] for row in rows], rows
    assert {row[0].partition(".")[0] for row in rows} == {"git"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (repository(head=""), ("git.branch", "error", "branch master", "none at ssh://git")),
        (repository(path="elsewhere"),
         ("git.branch", "error", "path ./kubernetes/clusters/production", "none")),
    ],
)  # fmt: skip
def test_a_branch_that_nothing_follows_from(facts: GitFacts, expected: Row) -> None:
    assert expected in found(Area.GIT, git=facts)
