"""What an overview of a cluster holds: nodes, pods and budgets, as short rows. Pure."""

from __future__ import annotations

from pydantic import Field

from labkit.facts.proxmox import Fact

CORDONED_BY = "labkit/cordoned-by"
"""The annotation of a node that a runbook took out: it holds the runbook's name, and goes with the uncordon."""
DOWN = "labkit/down-for"
"""The annotation of a node whose machine was shut down for a maintenance of the host that it names."""
MAINTAINED = "labkit/maintained"
"""The annotation of a node that came back from a maintenance: when, in UTC."""


class NodeRow(Fact):
    """One node."""

    name: str
    ready: bool
    problem: str = ""
    """Why it is not ready."""
    version: str = ""
    """The kubelet's, for example v1.33.4+k3s1."""
    server: bool = False
    voter: bool | None = None
    """Whether its etcd member votes; None on agents."""
    address: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """As the lab file writes them: key=value:Effect."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Those of labkit."""
    schedulable: bool = True

    @property
    def zone(self) -> str:
        """The value of its zone label."""
        return self.labels.get("topology.kubernetes.io/zone", "")

    @property
    def cordoned_by(self) -> str:
        """The runbook that cordoned it; empty when it is not cordoned, or a person did it."""
        return "" if self.schedulable else self.annotations.get(CORDONED_BY, "")


class PodRow(Fact):
    """One pod, as short as a drain needs it."""

    namespace: str
    name: str
    node: str = ""
    status: str = ""
    ready: str = ""
    owner: str = ""
    """The kind of its controller; empty when it has none: nobody makes it anew."""
    budgets: tuple[str, ...] = ()
    """The disruption budgets that match it."""

    @property
    def moves(self) -> bool:
        """Whether a drain has to move it: not a DaemonSet's, not a static one, not one that has ended."""
        return self.owner not in ("DaemonSet", "Node") and self.status not in ("Completed", "Succeeded", "Failed")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class BudgetRow(Fact):
    """One disruption budget."""

    namespace: str
    name: str
    allowed: int
    healthy: int = 0
    desired: int = 0
    expected: int = 0


class VolumeRow(Fact):
    """One Longhorn volume."""

    name: str
    state: str
    robustness: str
    replicas: tuple[str, ...] = ()
    """Nodes with a healthy replica."""

    @property
    def degraded(self) -> bool:
        """Whether it is in use with fewer replicas than it should have."""
        return self.robustness in ("degraded", "faulted")
