"""The chart of Traefik: its arguments are those that the real program is then started with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.twin.charts.release import Program, Release, account, admin, deployment, port, service, wide
from labkit.twin.charts.semver import parse_version
from labkit.twin.kube.crd_files import definitions
from labkit.twin.kube.door import Object

NEWEST_MAJOR = 41
PORTS = {"metrics": (9100, None), "traefik": (8080, None), "web": (8000, 80), "websecure": (8443, 443)}
"""Entry points: the container's port and the one that the Service shows, None when it does not."""
_PROVIDERS = {
    "kubernetesCRD": ("kubernetescrd", ("allowCrossNamespace", "allowExternalNameServices", "allowEmptyServices")),
    "kubernetesIngress": ("kubernetesingress", ("allowExternalNameServices", "allowEmptyServices")),
}
_EMPTY_BY_DEFAULT = "allowEmptyServices"


def app_version(version: str) -> str:
    """Return the Traefik of a chart: 37 came with 3.5."""
    parsed = parse_version(version)
    return f"v3.{max(0, parsed.major - 32)}.2" if parsed else "v3.5.2"


def crds(_release: Release) -> list[Object]:
    """Return the CRDs."""
    return definitions("traefik")


def render(release: Release) -> list[Object]:
    """Return the Deployment, its Service, and the ingress class."""
    name, labels = release.full_name, release.labels()
    image = release.value("image.repository", "docker.io/traefik")
    tag = release.value("image.tag", release.app_version)
    program = Program(name, f"{image}:{tag}", list(arguments(release)),
                      {one: number for one, (number, _) in PORTS.items()}, cpu="50m", memory="64Mi")  # fmt: skip
    replicas = int(release.value("deployment.replicas", 1))
    found = [
        account(name, release, labels),
        *admin(f"{name}-{release.namespace}", release, labels, name),
        deployment(name, release, program, labels, replicas=replicas),
    ]
    if release.value("service.enabled", True):
        found.append(_service(release, labels))
    if release.value("ingressClass.enabled", True):
        notes = {"ingressclass.kubernetes.io/is-default-class":
                 str(bool(release.value("ingressClass.isDefaultClass", True))).lower()}  # fmt: skip
        one = wide("networking.k8s.io/v1", "IngressClass", release.value("ingressClass.name", name) or name, labels,
                   spec={"controller": "traefik.io/ingress-controller"})  # fmt: skip
        one["metadata"]["annotations"] = notes
        found.append(one)
    return found


def _service(release: Release, labels: Mapping[str, str]) -> Object:
    ports = [
        port(one, int(release.value(f"ports.{one}.exposedPort", shown)), one)
        for one, (_, shown) in PORTS.items()
        if shown is not None and release.value(f"ports.{one}.expose.default", True)
    ]
    kind = release.value("service.single", True) and release.value("service.type", "LoadBalancer")
    spec = {"type": kind or "LoadBalancer", **release.value("service.spec", {})}
    found = service(release.full_name, release, labels, ports, **spec)
    if notes := release.value("service.annotations"):
        found["metadata"]["annotations"] = dict(notes)
    return found


def arguments(release: Release) -> Iterator[str]:
    """Yield the command line."""
    for name, (number, _) in PORTS.items():
        yield f"--entryPoints.{name}.address=:{number}/tcp"
    yield "--api.dashboard=true"
    yield "--ping=true"
    yield from _providers(release)
    for name in PORTS:
        yield from _entry_point(name, release.value(f"ports.{name}", {}))
    yield f"--log.level={release.value('logs.general.level', 'INFO')}"
    if release.value("logs.access.enabled"):
        yield "--accesslog=true"
    yield from (str(one) for one in release.value("additionalArguments", []))


def _providers(release: Release) -> Iterator[str]:
    for key, (option, flags) in _PROVIDERS.items():
        if not release.value(f"providers.{key}.enabled", True):
            continue
        yield f"--providers.{option}"
        if kind := release.value(f"providers.{key}.ingressClass"):
            yield f"--providers.{option}.ingressClass={kind}"
        for flag in flags:
            if release.value(f"providers.{key}.{flag}", flag == _EMPTY_BY_DEFAULT):
                yield f"--providers.{option}.{flag}=true"


def _entry_point(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    target = ((values.get("redirections") or values.get("http", {}).get("redirections") or {}).get("entryPoint")) or {}
    if target.get("to"):
        shown = PORTS.get(target["to"], (0, 443))[1]
        head = f"--entryPoints.{name}.http.redirections.entryPoint"
        yield f"{head}.to=:{shown}"
        yield f"{head}.scheme={target.get('scheme', 'https')}"
        if target.get("permanent"):
            yield f"{head}.permanent=true"
    tls = values.get("tls") or values.get("http", {}).get("tls") or {}
    if tls.get("enabled", name == "websecure"):
        yield f"--entryPoints.{name}.http.tls=true"
    for middleware in values.get("middlewares") or []:
        yield f"--entryPoints.{name}.http.middlewares={middleware}"
