"""What was read of Flux and of what it applied: its controllers, secrets as hashes, its objects with their states."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from labkit.facts.proxmox import Fact

NAMESPACE = "flux-system"
CONTROLLER = "kustomize-controller"
SUSPENDED_FOR = "labkit/suspended-for"
"""The annotation of a Kustomization that a runbook has suspended for its own time: the runbook's name."""


class Condition(Fact):
    """One condition of an object's status."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class FluxObject(Fact):
    """One object of Flux: a source, a Kustomization, a HelmRelease. References are ids, `Kind/namespace/name`."""

    kind: str
    namespace: str
    name: str
    api_version: str = ""
    suspended: bool = False
    suspended_by: str = ""
    """The field manager that holds `spec.suspend`; empty when it is not set."""
    suspended_for: str = ""
    """The runbook that suspended it for its own time, and will resume it."""
    suspended_since: datetime | None = None
    """When `spec.suspend` was last set, as its field manager's entry says."""
    managers: tuple[str, ...] = ()
    """Every field manager of its spec."""
    generation: int = 0
    observed: int = 0
    conditions: tuple[Condition, ...] = ()
    artifact: str = ""
    """The revision that a source offers."""
    applied: str = ""
    """The revision that was applied last with success."""
    attempted: str = ""
    handled: str = ""
    """The request to reconcile that was handled last."""
    source: str = ""
    needs: tuple[str, ...] = ()
    chart: str = ""
    """The HelmChart that a HelmRelease waits for."""
    path: str = ""
    url: str = ""
    branch: str = ""
    secret: str = ""
    """The Secret that a source reads with, or a Kustomization decrypts with."""
    static: bool = False
    """A source that has no state of its own: an OCI HelmRepository."""
    target: str = ""
    """The namespace that a HelmRelease installs into."""
    applied_by: str = ""
    """The Kustomization that applies it, by its id; empty for what a person or bootstrap made."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """The whole spec of a GitRepository or a Kustomization; others may hold values that are secret."""

    @property
    def id(self) -> str:
        """`Kustomization/flux-system/apps`."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    def condition(self, kind: str) -> Condition | None:
        """A condition by its type, or None."""
        return next((one for one in self.conditions if one.type == kind), None)

    @property
    def is_ready(self) -> bool:
        """Whether Flux has looked at its current form and is content with it."""
        if self.static:
            return True
        ready, stalled = self.condition("Ready"), self.condition("Stalled")
        current = self.observed == self.generation and not (stalled and stalled.status == "True")
        return current and ready is not None and ready.status == "True"

    @property
    def is_rechecking(self) -> bool:
        """Whether Flux just now looks again at what it has applied: its condition is unknown for that moment."""
        ready = self.condition("Ready")
        again = ready is not None and ready.status == "Unknown" and self.observed == self.generation
        return again and bool(self.applied) and self.attempted in ("", self.applied)

    @property
    def trouble(self) -> Condition | None:
        """The condition that says what is wrong, the most telling one; None while there is none that does."""
        stalled, ready, released = (self.condition(kind) for kind in ("Stalled", "Ready", "Released"))
        if stalled is not None and stalled.status == "True":
            # That retries are used up says less than why they failed.
            others = (one for one in (ready, released) if one is not None and one.status == "False")
            return next((one for one in others if one.message not in ("", stalled.message)), stalled)
        return ready if ready is not None and ready.status == "False" else None


class Workload(Fact):
    """A Deployment, StatefulSet or DaemonSet: how many of its pods are there, and why not all."""

    kind: str
    namespace: str
    name: str
    wanted: int = 0
    ready: int = 0
    current: bool = True
    """Whether its controller has looked at its current form."""
    images: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    problem: str = ""
    """Why a pod of it does not run: `ImagePullBackOff: ...`."""
    started: datetime | None = None
    """When the oldest of its running pods was started."""
    configs: tuple[str, ...] = ()
    """The ConfigMaps that it mounts."""

    @property
    def id(self) -> str:
        """`Deployment/default/whoami`."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def is_ready(self) -> bool:
        """Whether all its pods are there and ready."""
        return self.current and self.ready >= self.wanted


class SecretSeen(Fact):
    """A Secret: its type, and a short hash of each of its values by key."""

    name: str
    type: str = "Opaque"
    keys: dict[str, str] = Field(default_factory=dict)


class FluxFacts(Fact):
    """Flux in the cluster; `installed` is empty for a cluster without it."""

    up: bool = True
    """Whether there is a cluster that answers."""
    namespace: bool = False
    installed: str = ""
    """The version of the installed components, for example v2.9.4."""
    crds: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The stored versions of Flux's custom resource definitions, by their name."""
    secrets: tuple[SecretSeen, ...] = ()
    objects: tuple[FluxObject, ...] = ()
    workloads: tuple[Workload, ...] = ()
    wanted_secrets: tuple[SecretSeen, ...] = ()
    """The Secrets that the lab's references give, hashed in the same way."""
    managed_by: str = ""
    """Another tool that manages Flux's Deployments, such as Helm."""
    read_at: datetime

    def find(self, identity: str) -> FluxObject | None:
        """An object by its id, or None."""
        return next((one for one in self.objects if one.id == identity), None)

    def secret(self, name: str) -> SecretSeen | None:
        """A Secret of Flux's namespace, or None."""
        return next((one for one in self.secrets if one.name == name), None)

    def workload(self, identity: str) -> Workload | None:
        """A workload by its id, or None."""
        return next((one for one in self.workloads if one.id == identity), None)

    @property
    def controllers(self) -> tuple[Workload, ...]:
        """Flux's own Deployments."""
        return tuple(one for one in self.workloads if one.labels.get("app.kubernetes.io/part-of") == "flux")

    @property
    def kustomizations(self) -> tuple[FluxObject, ...]:
        """All Kustomizations."""
        return tuple(one for one in self.objects if one.kind == "Kustomization")
