"""What a write asks for besides the object itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from labkit.twin.kube.door import Object
from labkit.twin.kube.resources import Resource


@dataclass(frozen=True)
class Target:
    """What a request is about: a resource, one object of it, or a subresource of that object."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass
class WriteOptions:
    """Options of a create, update or patch; `warnings` is filled on the way."""

    manager: str = "unknown"
    dry_run: bool = False
    validation: Literal["Strict", "Warn", "Ignore"] = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass
class DeleteOptions:
    """Options of a delete; None means that the resource's own default holds."""

    grace: int | None = None
    propagation: str | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    @classmethod
    def read(cls, body: Object | None, query: dict[str, str]) -> DeleteOptions:
        """Read from a request's body and query; the body counts first."""
        sent = body or {}
        grace = sent.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        orphan = sent.get("orphanDependents")
        policy = sent.get("propagationPolicy") or query.get("propagationPolicy")
        if policy is None and orphan is not None:
            policy = "Orphan" if orphan else "Background"
        conditions = sent.get("preconditions") or {}
        return cls(
            grace=None if grace is None else int(grace),
            propagation=policy,
            uid=conditions.get("uid", ""),
            resource_version=conditions.get("resourceVersion", ""),
            dry_run=bool(sent.get("dryRun") or query.get("dryRun")),
        )
