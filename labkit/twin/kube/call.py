"""One request to the API, understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from aiohttp import web

from labkit.twin.kube.core import Core
from labkit.twin.kube.options import Target, WriteOptions
from labkit.twin.kube.paths import Place, Wanted
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.status import Cause, bad_request, invalid, required


@dataclass
class Call:
    """A request with what its path and headers mean."""

    core: Core
    request: web.BaseRequest
    place: Place
    resource: Resource
    wanted: Wanted
    query: dict[str, str]

    @property
    def target(self) -> Target:
        """What the request is about."""
        return Target(self.resource, self.place.namespace, self.place.name, self.place.subresource)

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored."""
        if self.query.get("dryRun", "All") != "All":
            cause = Cause("dryRun", "FieldValueNotSupported", 'Unsupported value: supported values: "All"')
            raise invalid("CreateOptions", "meta.k8s.io", "", [cause])
        return "dryRun" in self.query

    def options(self) -> WriteOptions:
        """Return what the query says about a write; the manager is the client unless it is named."""
        validation = self.query.get("fieldValidation") or "Warn"
        if validation not in ("Strict", "Warn", "Ignore"):
            raise bad_request(f'fieldValidation: Unsupported value: "{validation}"')
        agent = self.request.headers.get("User-Agent", "unknown")
        return WriteOptions(
            manager=self.query.get("fieldManager") or agent.split("/")[0][:128] or "unknown",
            dry_run=self.dry_run,
            validation=cast("Literal['Strict', 'Warn', 'Ignore']", validation),
            force=self.query.get("force", "") in ("true", "1"),
        )

    def require_manager(self) -> None:
        """Raise ApiError (422) when an apply does not name its manager."""
        if not self.query.get("fieldManager"):
            cause = required("fieldManager", "is required for apply patch")
            raise invalid("PatchOptions", "meta.k8s.io", "", [cause])
