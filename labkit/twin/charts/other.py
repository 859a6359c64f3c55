"""Any chart that the twin does not know: a Deployment and a Service of its name, by the values that most share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.twin.charts.release import Program, Release, account, deployment, port, service
from labkit.twin.kube.door import Object

_REPLICAS = ("replicaCount", "replicas", "deployment.replicas", "controller.replicas")


def render(release: Release) -> list[Object]:
    """Return the Deployment, its account and its Service."""
    name, labels = release.full_name, release.labels()
    number = _port(release)
    program = Program(release.chart, image(release), ports={"http": number})
    replicas = next((int(found) for path in _REPLICAS if (found := release.value(path)) is not None), 1)
    made = [account(name, release, labels), deployment(name, release, program, labels, replicas=replicas)]
    if release.value("service.enabled", True):
        kind = release.value("service.type", "ClusterIP")
        made.append(service(name, release, labels, [port("http", number)], type=str(kind)))
    return made


def image(release: Release) -> str:
    """Return the image that the values name, else one of the chart's name."""
    found: Any = release.value("image")
    if isinstance(found, str):
        return found
    if not isinstance(found, Mapping) or not found.get("repository"):
        return f"{release.chart}:{release.app_version}"
    registry = f"{found['registry']}/" if found.get("registry") else ""
    return f"{registry}{found['repository']}:{found.get('tag') or release.app_version}"


def _port(release: Release) -> int:
    found = release.value("service.port") or release.value("service.ports.http") or 80
    return int(found) if str(found).isdecimal() else 80
