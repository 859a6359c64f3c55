"""The chart of MetalLB."""

from __future__ import annotations

from labkit.twin.charts.release import (
    Program,
    Release,
    account,
    admin,
    daemon_set,
    deployment,
    port,
    service,
)
from labkit.twin.kube.crd_files import definitions
from labkit.twin.kube.door import Object

VERSIONS = {(0, 13): 12, (0, 14): 9, (0, 15): 3, (0, 16): 1}


def crds(release: Release) -> list[Object]:
    """Return the CRDs."""
    return definitions("metallb") if release.value("crds.enabled", True) else []


def render(release: Release) -> list[Object]:
    """Return the controller, the speakers and the webhook's Service."""
    name = release.full_name
    controller, speaker = release.labels("controller"), release.labels("speaker")
    found = [
        account(f"{name}-controller", release, controller),
        *admin(f"{name}:controller", release, controller, f"{name}-controller"),
        deployment(
            f"{name}-controller", release,
            Program("controller", f"quay.io/metallb/controller:{release.app_version}",
                    ["--port=7472", "--log-level=info"], {"monitoring": 7472, "webhook-server": 9443}),
            controller,
        ),
        service("metallb-webhook-service", release, controller, [port("https", 443, 9443)]),
    ]  # fmt: skip
    if release.value("speaker.enabled", True):
        program = Program("speaker", f"quay.io/metallb/speaker:{release.app_version}", ["--port=7472"],
                          {"monitoring": 7472})  # fmt: skip
        found += [
            account(f"{name}-speaker", release, speaker),
            *admin(f"{name}:speaker", release, speaker, f"{name}-speaker"),
            daemon_set(f"{name}-speaker", release, program, speaker),
        ]
    return found
