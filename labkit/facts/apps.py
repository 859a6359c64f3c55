"""What was read of apps beside Flux: claims with their volumes, when configurations changed, how routes answer."""

from __future__ import annotations

from datetime import datetime

from labkit.facts.proxmox import Fact


class ClaimRow(Fact):
    """A claim and the volume behind it."""

    namespace: str
    name: str
    size: str = ""
    storage_class: str = ""
    volume: str = ""
    phase: str = ""
    keeps: bool = True
    """Whether the data stays when the claim goes: the volume's reclaim policy is Retain."""
    nfs: str = ""
    """`server:path` of an NFS volume."""

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class ConfigRow(Fact):
    """A ConfigMap and when its content changed last."""

    namespace: str
    name: str
    changed: datetime | None = None


class AppFacts(Fact):
    """Claims and configurations of all namespaces."""

    claims: tuple[ClaimRow, ...] = ()
    configs: tuple[ConfigRow, ...] = ()
    read_at: datetime

    def claim(self, namespace: str, name: str) -> ClaimRow | None:
        """A claim, or None."""
        return next((one for one in self.claims if (one.namespace, one.name) == (namespace, name)), None)


class RouteRow(Fact):
    """How a host answers to a stranger over HTTPS."""

    host: str
    reachable: bool = False
    verified: bool = False
    """Whether its certificate is valid for the host, and from a known CA."""
    expires: datetime | None = None
    issuer: str = ""
    status: int = 0
    location: str = ""
    """Where it sends the stranger, without the query."""
    server_says: str = ""
    """The beginning of a short plain answer: `404 page not found` is Traefik's own."""
    problem: str = ""
    milliseconds: float = 0.0

    @property
    def is_routed(self) -> bool:
        """Whether some app stands behind it, rather than Traefik's own words for nothing."""
        nothing = self.status == 404 and self.server_says.startswith("404 page not found")
        return self.status > 0 and not nothing and self.status not in (502, 503, 504)


class RouteFacts(Fact):
    """How every host of the cluster's routes answers."""

    routes: tuple[RouteRow, ...] = ()
    read_at: datetime

    def route(self, host: str) -> RouteRow | None:
        """A host's answer, or None."""
        return next((one for one in self.routes if one.host == host), None)
