"""All programs that charts bring into a cluster and that the twin plays."""

from __future__ import annotations

from labkit.twin.charts.addresses import MetalLb
from labkit.twin.charts.certificates import Certificates, Issuers
from labkit.twin.charts.issuing import Issuer
from labkit.twin.charts.longhorn_driver import LonghornDriver, PinnedVolumes
from labkit.twin.charts.mirrors import Mirrors
from labkit.twin.controllers import Controller
from labkit.twin.kube.door import Clock
from labkit.twin.kube.local import LocalApi


def programs(api: LocalApi, clock: Clock, issuer: Issuer, *, pinned_volumes: bool = True) -> list[Controller]:
    """Return the controllers; each sleeps until the Deployment of its chart runs.

    Args:
        api: the door of the API server.
        clock: the twin's time.
        issuer: signs the certificates that cert-manager asks for.
        pinned_volumes: make the volumes that claims are pinned to; else they wait for somebody else to do so.
    """
    made: list[Controller] = [
        Issuers(api, clock), Certificates(api, clock, issuer), Mirrors(api, clock), MetalLb(api, clock),
        LonghornDriver(api, clock),
    ]  # fmt: skip
    return [*made, PinnedVolumes(api, clock)] if pinned_volumes else made
