"""The chart of reflector."""

from __future__ import annotations

from labkit.twin.charts.release import Program, Release, account, admin, deployment
from labkit.twin.kube.door import Object

NEWEST_MAJOR = 10


def render(release: Release) -> list[Object]:
    """Return the Deployment and its account."""
    name, labels = release.full_name, release.labels()
    image = release.value("image.repository", "emberstack/kubernetes-reflector")
    tag = release.value("image.tag", release.app_version)
    program = Program("reflector", f"{image}:{tag}", ports={"http": 8080})
    return [
        account(name, release, labels),
        *admin(name, release, labels, name),
        deployment(name, release, program, labels, replicas=int(release.value("replicaCount", 1))),
    ]
