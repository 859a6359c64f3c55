"""The chart of cert-manager."""

from __future__ import annotations

from labkit.twin.charts.release import Program, Release, account, admin, deployment, port, service
from labkit.twin.kube.crd_files import definitions
from labkit.twin.kube.door import Object

VERSIONS = {(1, minor): 20 for minor in range(10, 21)} | {(1, 21): 1}
_REGISTRY = "quay.io/jetstack"


def crds(release: Release) -> list[Object]:
    """Return the CRDs when the values ask for them."""
    wanted = release.value("crds.enabled") or release.value("installCRDs")
    return definitions("cert-manager") if wanted else []


def render(release: Release) -> list[Object]:
    """Return the controller, the CA injector and the webhook."""
    found: list[Object] = []
    for component, name, ports in (
        ("controller", "cert-manager", {"http-metrics": 9402, "http-healthz": 9403}),
        ("cainjector", "cainjector", {"http-metrics": 9402}),
        ("webhook", "webhook", {"https": 10250, "healthcheck": 6080}),
    ):
        labels = {**release.labels(component, name), "app": name}
        full = release.full_name if component == "controller" else f"{release.full_name}-{component}"
        args = ["--v=2", *(release.value("extraArgs", []) if component == "controller" else [])]
        image = f"{_REGISTRY}/cert-manager-{component}:{release.app_version}"
        program = Program(f"cert-manager-{component}", image, args, ports)
        replicas = release.value("replicaCount" if component == "controller" else f"{component}.replicaCount", 1)
        found += [account(full, release, labels), *admin(full, release, labels, full)]
        found.append(deployment(full, release, program, labels, replicas=int(replicas)))
        if component == "controller":
            found.append(service(full, release, labels, [port("tcp-prometheus-servicemonitor", 9402, "http-metrics")]))
        elif component == "webhook":
            found.append(service(full, release, labels, [port("https", 443)]))
    return found
