"""The door of the store for controllers: plain calls on the server's own event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Literal

from labkit.twin.kube import deletion, patching
from labkit.twin.kube.binding import bind
from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import Event, Object
from labkit.twin.kube.eviction import evict
from labkit.twin.kube.options import DeleteOptions, Target, WriteOptions
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.status import no_such_resource, success
from labkit.twin.kube.store import Change

Propagation = Literal["Background", "Foreground", "Orphan"]


class LocalApi:
    """The `Api` of labkit.twin.kube.door over a Core.

    Args:
        core: the server's objects and rules.
        manager: the field manager under which this door writes.
    """

    def __init__(self, core: Core, manager: str = "kube-controller-manager") -> None:
        self.core = core
        self.manager = manager

    def get(self, resource: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None when there is none."""
        found = self.core.store.get(resource, namespace, name)
        return found.object if found else None

    def list(self, resource: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Object]:
        """Return the objects of one or (with `namespace=""`) all namespaces, in order of their keys."""
        records = self.core.store.shelf(resource).select(namespace)
        if not labels:
            return [record.object for record in records]
        wanted = labels.items()
        return [r.object for r in records if wanted <= r.meta.get("labels", {}).items()]

    def create(self, resource: str, body: Object) -> Object:
        """Create with the full admission of the server; raise ApiError.

        `pods/binding` gives a pod its node, `pods/eviction` deletes one if its budget allows it.
        """
        meta = body.get("metadata", {})
        namespace, name = str(meta.get("namespace", "")), str(meta.get("name", ""))
        if resource == "pods/binding":
            return bind(self.core, namespace, name, body).object
        if resource == "pods/eviction":
            evict(self.core, namespace, name, body)
            return success(code=201)
        found = self.core.resource(resource)
        return self.core.create(Target(found, namespace), self._complete(found, body), self._options()).object

    def update(self, resource: str, body: Object) -> Object:
        """Replace spec and metadata; a resourceVersion in the body is compared; raise ApiError."""
        return self._update(resource, body, "")

    def update_status(self, resource: str, body: Object) -> Object:
        """Replace the status subresource only."""
        return self._update(resource, body, "status")

    def patch(self, resource: str, name: str, patch: Object, namespace: str = "", *, subresource: str = "") -> Object:
        """Apply a JSON merge patch; a patch that changes nothing writes nothing.

        `subresource` is "", "status" or, for namespaces, "finalize".
        """
        found = self.core.resource(resource)
        sub = subresource if subresource != "status" or found.status else ""
        target = Target(found, namespace, name, sub)
        return patching.patch(self.core, target, patch, patching.MERGE, self._options()).object

    def apply(self, body: Object, *, manager: str, force: bool = False) -> Object:
        """Server-side apply under a field manager; raise ApiError with the conflicts (409)."""
        found = self.core.registry.of_kind(str(body.get("apiVersion", "")), str(body.get("kind", "")))
        if found is None:
            raise no_such_resource()
        meta = body.get("metadata", {})
        target = Target(found, meta.get("namespace", ""), str(meta.get("name", "")))
        options = WriteOptions(manager=manager, force=force)
        return patching.apply(self.core, target, clone(body), options)[0].object

    def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        grace: int | None = None,
        propagation: Propagation = "Background",
    ) -> None:
        """Delete, honouring finalizers and grace; deleting what is not there does nothing."""
        found = self.core.registry.named(resource)
        record = self.core.store.get(resource, namespace, name)
        if found is not None and record is not None:
            options = DeleteOptions(grace=grace, propagation=propagation)
            deletion.delete(self.core, found, record, options)

    async def watch(self, resources: Iterable[str]) -> AsyncIterator[Event]:
        """Yield what is there now as ADDED, then every later change; a resource may come to exist later."""
        shelves = {key: self.core.store.shelf(key) for key in resources}
        events = deque(Event("ADDED", key, r.object) for key, shelf in shelves.items() for r in shelf.select())
        changed = asyncio.Event()
        listeners = {key: _listener(key, events, changed) for key in shelves}
        for key, shelf in shelves.items():
            shelf.listeners.add(listeners[key])
        try:
            while True:
                while events:
                    yield events.popleft()
                changed.clear()
                await changed.wait()
        finally:
            for key, shelf in shelves.items():
                shelf.listeners.discard(listeners[key])

    def _update(self, resource: str, body: Object, subresource: str) -> Object:
        found = self.core.resource(resource)
        meta = body.get("metadata", {})
        sub = subresource if subresource != "status" or found.status else ""
        target = Target(found, meta.get("namespace", ""), str(meta.get("name", "")), sub)
        return self.core.update(target, self._complete(found, body), self._options()).object

    def _complete(self, resource: Resource, body: Object) -> Object:
        """Return a copy that names its kind, which callers may leave out."""
        return {"apiVersion": resource.group_version, "kind": resource.kind, **clone(body)}

    def _options(self) -> WriteOptions:
        return WriteOptions(manager=self.manager)


def _listener(key: str, events: deque[Event], changed: asyncio.Event) -> Callable[[Change], None]:
    """Return what puts the changes of a resource into a watcher's queue, in which none is ever lost."""

    def listen(change: Change) -> None:
        events.append(Event(change.type, key, change.record.object))
        changed.set()

    return listen


def local_api(core: Core | None = None, manager: str = "kube-controller-manager") -> LocalApi:
    """Return a door to a server's objects; without a Core to a new and empty one."""
    return LocalApi(core or new_core(), manager)
