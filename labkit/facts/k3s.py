"""What was read from the Kubernetes API of the lab: of any server that answers, or that none does."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from labkit.facts.kubernetes import BudgetRow, NodeRow, PodRow, VolumeRow
from labkit.facts.proxmox import Fact


class KubeconfigSeen(Fact):
    """How the local kubeconfig compares with what the cluster hands out now."""

    state: Literal["unknown", "missing", "current", "stale"] = "unknown"
    expires: datetime | None = None
    """When the client certificate in the local file ends."""
    server: str = ""
    """The URL of the API in the local file."""


class K3sFacts(Fact):
    """What was seen of the cluster; `up` is False for a lab that has none yet."""

    up: bool = False
    server: str = ""
    """The machine whose API was asked."""
    problem: str = ""
    """Why none answered; empty when none was expected to."""
    ca: str = ""
    """The fingerprint of the cluster's CA."""
    unhealthy: tuple[str, ...] = ()
    """The parts that /readyz reports as failed."""
    vip: bool = False
    """Whether the lab's virtual address answers as this cluster; without a cluster, whether it answers at all."""
    nodes: tuple[NodeRow, ...] = ()
    pods: tuple[PodRow, ...] = ()
    budgets: tuple[BudgetRow, ...] = ()
    volumes: tuple[VolumeRow, ...] | None = None
    """None when Longhorn is not there."""
    kubeconfig: KubeconfigSeen = KubeconfigSeen()
    expires: datetime | None = None
    """When the administrator's certificate that the servers hold ends: k3s renews it at a restart."""
    read_at: datetime

    def node(self, name: str) -> NodeRow | None:
        """The node of that name, or None."""
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def voters(self) -> tuple[NodeRow, ...]:
        """The servers whose etcd member votes."""
        return tuple(node for node in self.nodes if node.server and node.voter)

    def pods_on(self, node: str) -> tuple[PodRow, ...]:
        """The pods of a node that a drain would have to move."""
        return tuple(pod for pod in self.pods if pod.node == node and pod.moves)

    def budget(self, namespace: str, name: str) -> BudgetRow | None:
        """That disruption budget, or None."""
        return next((b for b in self.budgets if (b.namespace, b.name) == (namespace, name)), None)


class DoorFacts(Fact):
    """How the servers answer to somebody who wants to join: HTTP statuses by server, None for no answer."""

    wrong: dict[str, int | None] = Field(default_factory=dict)
    """With a token that is wrong: 401 is right."""
    right: dict[str, int | None] = Field(default_factory=dict)
    """With the lab's token: 200 is right."""
    read_at: datetime
