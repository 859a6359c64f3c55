"""The door that controllers use: the API server's store, in process, without HTTP.

Everything runs on one event loop, so the calls are plain functions; only watching awaits. Objects are plain
dictionaries as the API serves them. What is returned may be kept but must not be changed in place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]
"""One API object, for example {"apiVersion": "v1", "kind": "Pod", "metadata": {...}, ...}."""


@dataclass(frozen=True)
class Event:
    """One change that a watch reports; `resource` is the plural with its group, as in `deployments.apps`."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    resource: str
    object: Object


class ApiError(Exception):
    """An answer that is no success: `status` is the Status object that a client would get, with `code`."""

    def __init__(self, status: Object) -> None:
        super().__init__(str(status.get("message", "")))
        self.status = status

    @property
    def code(self) -> int:
        """The HTTP status code."""
        return int(self.status.get("code", 500))

    @property
    def reason(self) -> str:
        """The machine-readable reason, for example `NotFound`."""
        return str(self.status.get("reason", ""))


class Api(Protocol):
    """What a controller may do. Resources are named `pods`, `deployments.apps`, `volumes.longhorn.io`."""

    def get(self, resource: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None when there is none."""
        ...

    def list(self, resource: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Object]:
        """Return the objects of one or (with `namespace=""`) all namespaces, in order of their keys.

        An unknown resource (its CRD is not there) gives an empty list.
        """
        ...

    def create(self, resource: str, body: Object) -> Object:
        """Create with the full admission of the server (defaults, validation); raise ApiError."""
        ...

    def update(self, resource: str, body: Object) -> Object:
        """Replace spec and metadata; a resourceVersion in the body is compared; raise ApiError."""
        ...

    def update_status(self, resource: str, body: Object) -> Object:
        """Replace the status subresource only."""
        ...

    def patch(self, resource: str, name: str, patch: Object, namespace: str = "", *, subresource: str = "") -> Object:
        """Apply a JSON merge patch; a patch that changes nothing writes nothing."""
        ...

    def apply(self, body: Object, *, manager: str, force: bool = False) -> Object:
        """Server-side apply under a field manager; raise ApiError with the conflicts (409)."""
        ...

    def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        grace: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        """Delete, honouring finalizers and grace; deleting what is not there does nothing."""
        ...

    def watch(self, resources: Iterable[str]) -> AsyncIterator[Event]:
        """Yield what is there now as ADDED, then every later change; a resource may come to exist later."""
        ...


class Clock(Protocol):
    """The twin's time: one twin second takes `scale` real seconds."""

    scale: float

    def now(self) -> float:
        """Twin time as seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep that many twin seconds."""
        ...
