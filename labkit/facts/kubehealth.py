"""What the health report looks at in the cluster: short rows of everything, more of what looks wrong. Pure data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import Field

from labkit.facts.kubernetes import BudgetRow, NodeRow
from labkit.facts.proxmox import Fact


class NodeHealth(NodeRow):
    """One node, with what presses on it."""

    pressures: tuple[str, ...] = ()
    """Conditions that hold and should not: MemoryPressure, DiskPressure, PIDPressure, NetworkUnavailable."""
    since: datetime | None = None
    """Since when it is ready, or is not."""


class PodHealth(Fact):
    """One pod as the overview shows it; `message` and `since` only of those that look wrong."""

    namespace: str
    name: str
    node: str = ""
    status: str = ""
    """As kubectl shows it: Running, CrashLoopBackOff, Init:0/1 ..."""
    ready: int = 0
    total: int = 0
    restarts: int = 0
    restarted: datetime | None = None
    """When a container was last started again."""
    created: datetime | None = None
    deleting: datetime | None = None
    """When it should have been gone."""
    owner: str = ""
    """What it belongs to, as `Deployment namespace/name`; empty for a pod of its own."""
    message: str = ""
    since: datetime | None = None
    """Since when it is as it is."""

    @property
    def subject(self) -> str:
        """What a person would look for: the pod's owner, for pods come and go."""
        return self.owner or f"Pod {self.namespace}/{self.name}"


class Workload(Fact):
    """A Deployment, StatefulSet or DaemonSet."""

    kind: str
    namespace: str
    name: str
    wanted: int = 0
    ready: int = 0
    created: datetime | None = None
    images: tuple[str, ...] = ()
    message: str = ""
    since: datetime | None = None
    """Since when it is short; only of those that are."""

    @property
    def subject(self) -> str:
        """How findings call it."""
        return f"{self.kind} {self.namespace}/{self.name}"


class JobRow(Fact):
    """A Job: Complete, Failed, Running or Suspended."""

    namespace: str
    name: str
    status: str
    created: datetime | None = None
    cronjob: str = ""
    """The CronJob that made it."""
    message: str = ""
    ended: datetime | None = None
    """Only of those that failed."""


class CronJobRow(Fact):
    """A CronJob."""

    namespace: str
    name: str
    schedule: str
    zone: str = ""
    suspended: bool = False
    active: int = 0
    """How many of its jobs run now."""
    created: datetime | None = None
    last: datetime | None = None
    """When it last started a job."""
    succeeded: datetime | None = None


class ClaimRow(Fact):
    """A PersistentVolumeClaim: Bound, Pending, Lost, Terminating."""

    namespace: str
    name: str
    status: str
    storage_class: str = ""
    created: datetime | None = None
    message: str = ""


class ServiceRow(Fact):
    """A Service."""

    namespace: str
    name: str
    kind: str = "ClusterIP"
    addresses: tuple[str, ...] = ()
    """What a load balancer gave it."""
    created: datetime | None = None
    backends: tuple[str, ...] = ()
    """The nodes of the ready pods behind it, one for each pod."""
    owners: tuple[str, ...] = ()
    """What those pods belong to."""


class WebhookRow(Fact):
    """A webhook that the API asks before it accepts something."""

    configuration: str
    kind: Literal["validating", "mutating"]
    service: str
    """namespace/name"""
    fails: bool
    """Whether the API refuses when nobody answers."""
    backends: int = 0
    """How many ready pods can answer; -1 when the Service is not there."""


class Budget(BudgetRow):
    """A PodDisruptionBudget with what it asks for."""

    minimum: str = ""
    most: str = ""


class QuotaRow(Fact):
    """One resource of a ResourceQuota."""

    namespace: str
    name: str
    resource: str
    used: str
    hard: str
    percent: float


class SnapshotRow(Fact):
    """A snapshot of etcd, on a node or in S3."""

    name: str
    node: str
    location: str = ""
    created: datetime | None = None
    size: int = 0
    good: bool = True
    error: str = ""
    opens: Literal["same", "other", "unknown"] = "unknown"
    """Whether the lab's token is the one that it was made with."""

    @property
    def elsewhere(self) -> bool:
        """Whether it is kept off the nodes."""
        return self.location.startswith("s3:")


class ServingCertificate(Fact):
    """The certificate that the API shows on one server, or at the lab's `virtual address`."""

    server: str
    expires: datetime


class DeprecatedUse(Fact):
    """A version of an API that somebody has asked for since the server's start, and that is on its way out."""

    group: str
    version: str
    resource: str
    removed: str = ""
    """The release of Kubernetes that no longer has it."""


class OldVersion(Fact):
    """A kind of which objects may still be stored in a version that its definition is about to drop."""

    definition: str
    versions: tuple[str, ...]
    newest: str


class BrokenApi(Fact):
    """A part of the API that another program should serve and does not."""

    name: str
    service: str
    reason: str


class EndingNamespace(Fact):
    """A namespace that is being deleted."""

    name: str
    since: datetime


class KubeHealth(Fact):
    """What was seen of the cluster at one moment."""

    server: str = ""
    """The address whose API answered."""
    created: datetime | None = None
    """When the cluster was made."""
    unhealthy: tuple[str, ...] = ()
    """The parts that /readyz reports as failed."""
    nodes: tuple[NodeHealth, ...] = ()
    pods: tuple[PodHealth, ...] = ()
    workloads: tuple[Workload, ...] = ()
    jobs: tuple[JobRow, ...] = ()
    cronjobs: tuple[CronJobRow, ...] = ()
    claims: tuple[ClaimRow, ...] = ()
    services: tuple[ServiceRow, ...] = ()
    webhooks: tuple[WebhookRow, ...] = ()
    budgets: tuple[Budget, ...] = ()
    quotas: tuple[QuotaRow, ...] = ()
    snapshots: tuple[SnapshotRow, ...] | None = None
    """The newest first; None when the cluster does not know such objects."""
    serving: tuple[ServingCertificate, ...] = ()
    kubeconfig_expires: datetime | None = None
    """When the client certificate of the lab's context ends; None without one."""
    kubeconfig: bool = False
    """Whether the user's kubeconfig has the lab's context."""
    deprecated: tuple[DeprecatedUse, ...] = ()
    old_versions: tuple[OldVersion, ...] = ()
    broken_apis: tuple[BrokenApi, ...] = ()
    ending: tuple[EndingNamespace, ...] = ()
    unread: dict[str, str] = Field(default_factory=dict)
    """Parts that could not be read, with the reason."""
    read_at: datetime

    def node(self, name: str) -> NodeHealth | None:
        """The node of that name, or None."""
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def down(self) -> frozenset[str]:
        """The names of the nodes that are not ready."""
        return frozenset(node.name for node in self.nodes if not node.ready)

    @property
    def voters(self) -> tuple[NodeHealth, ...]:
        """The servers whose etcd member votes."""
        return tuple(node for node in self.nodes if node.server and node.voter)

    def service(self, namespace: str, name: str) -> ServiceRow | None:
        """That Service, or None."""
        return next((one for one in self.services if (one.namespace, one.name) == (namespace, name)), None)

    def workload(self, subject: str) -> Workload | None:
        """The workload that findings call so, or None."""
        return next((one for one in self.workloads if one.subject == subject), None)

    def pods_of(self, subject: str) -> Iterator[PodHealth]:
        """The pods that belong to a workload."""
        return (pod for pod in self.pods if pod.owner == subject)
