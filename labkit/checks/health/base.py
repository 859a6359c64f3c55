"""What a health check is, and the registry that every module of this folder adds its own to. Pure.

A check is a generator that looks at a Scene and yields what is not as it should be:

    @health("proxmox.host-online", Area.PROXMOX, "every Proxmox host is online", Severity.ERROR, reads=("proxmox",))
    def host_online(scene: Scene) -> Iterator[Found]:
        for node in scene.proxmox.nodes: ...
            yield Found(f"host {node.name}", "online", "offline", "run maintain-host")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from labkit.errors import LabError
from labkit.facts.survey import Unread
from labkit.lab import Lab
from labkit.plan import Finding, Severity

HISTORY = "history"
"""What a check reads that looks at earlier reports: these come from the report's own file, from no system."""


class Area(StrEnum):
    """The parts of a lab that a report shows a light for, in its order."""

    PROXMOX = "proxmox"
    GUESTS = "guests"
    KUBERNETES = "kubernetes"
    FLUX = "flux"
    CERTIFICATES = "certificates"
    INGRESS = "ingress"
    LONGHORN = "longhorn"
    NAS = "nas"
    GIT = "git"
    LABKIT = "labkit"


@dataclass(frozen=True)
class Found:
    """One thing that is not as it should be; `severity` only where it differs from the check's own."""

    subject: str
    expected: str
    got: str
    remedy: str = ""
    severity: Severity | None = None


@dataclass(frozen=True)
class Scene:
    """What health checks look at: the lab with its limits, the facts by system, and the moment, UTC.

    `scene[name]` gives the facts of a system that the check names in its `reads`; the runner never asks a check
    whose facts are missing.
    """

    lab: Lab
    facts: Mapping[str, Any]
    now: datetime

    def __getitem__(self, system: str) -> Any:
        return self.facts[system]


Look = Callable[[Scene], Iterable[Found]]


@dataclass(frozen=True)
class HealthCheck:
    """One question of the report.

    Attributes:
        id: `area.what`, for suppressions and history.
        area: whose light it counts for.
        sentence: what is true when there are no findings, for people.
        severity: of its findings, unless one says otherwise.
        reads: the systems whose facts it needs, by the names of the readers.
        look: yields what is not as it should be.
    """

    id: str
    area: Area
    sentence: str
    severity: Severity
    reads: tuple[str, ...]
    look: Look

    def missing(self, scene: Scene) -> tuple[str, ...]:
        """Return the systems that it needs and that were not read."""
        return tuple(name for name in self.reads if isinstance(scene.facts.get(name), Unread | None))

    def __call__(self, scene: Scene) -> tuple[Finding, ...]:
        """Return its findings, the worst first."""
        found = [
            Finding(id=self.id, severity=one.severity or self.severity, subject=one.subject, expected=one.expected,
                    got=one.got, remedy=one.remedy)
            for one in self.look(scene)
        ]  # fmt: skip
        return tuple(sorted(found, key=lambda finding: (-finding.severity.rank, finding.subject)))


_registry: dict[str, HealthCheck] = {}


def health(
    name: str, area: Area, sentence: str, severity: Severity, *, reads: tuple[str, ...]
) -> Callable[[Look], Look]:
    """Register the decorated generator as a health check; raise LabError when its id is taken."""

    def register(look: Look) -> Look:
        if name in _registry:
            raise LabError(f"health check {name}: expected each id once")
        _registry[name] = HealthCheck(name, area, sentence, severity, reads, look)
        return look

    return register


def registered() -> tuple[HealthCheck, ...]:
    """Return all checks that were registered so far, by area and id."""
    order = list(Area)
    return tuple(sorted(_registry.values(), key=lambda check: (order.index(check.area), check.id)))
