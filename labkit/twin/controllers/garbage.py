"""The garbage collector: what is owned goes after its last owner, in the background, before it, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.kube.door import Api, ApiError, Clock, Event, Object

from .framework import Controller, spawn
from .kinds import CRDS, EVENTS, Kind, builtin_kinds, kind_of_crd
from .objects import finalizers_of, is_deleting, meta, name_of, namespace_of, uid_of

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass
class Node:
    """An object in the graph of owners."""

    resource: str
    namespace: str
    name: str
    owners: tuple[str, ...] = ()


@dataclass
class Graph:
    """Who owns what, by uid."""

    nodes: dict[str, Node] = field(default_factory=dict)
    owned: dict[str, dict[str, None]] = field(default_factory=dict)

    def put(self, resource: str, obj: Object) -> tuple[str, ...]:
        """Enter an object; return the uids of its owners."""
        uid = uid_of(obj)
        owners = tuple(r["uid"] for r in meta(obj).get("ownerReferences") or [])
        old = self.nodes.get(uid)
        if old is None or old.owners != owners:
            self._unlink(uid)
            self.nodes[uid] = Node(resource, namespace_of(obj), name_of(obj), owners)
            for owner in owners:
                self.owned.setdefault(owner, {})[uid] = None
        return owners

    def drop(self, uid: str) -> list[str]:
        """Take an object out; return the uids of what it owned."""
        self._unlink(uid)
        self.nodes.pop(uid, None)
        return list(self.owned.get(uid, ()))

    def dependents(self, uid: str) -> list[str]:
        """Return the uids of what an object owns."""
        return list(self.owned.get(uid, ()))

    def _unlink(self, uid: str) -> None:
        for owner in self.nodes[uid].owners if uid in self.nodes else ():
            self.owned.get(owner, {}).pop(uid, None)
            if not self.owned.get(owner):
                self.owned.pop(owner, None)


class GarbageCollector(Controller):
    """Watch everything, keep the graph, and delete what has lost its owners; keys are uids."""

    name = "garbage-collector-controller"

    def __init__(self, api: Api, clock: Clock) -> None:
        super().__init__(api, clock)
        kinds = [k for k in builtin_kinds() if k.resource not in EVENTS]
        self.watches = tuple(k.resource for k in kinds)
        self._kinds = {(k.group, k.kind): k for k in kinds}
        self._graph = Graph()
        self._custom: dict[str, asyncio.Task[None]] = {}

    def keys(self, event: Event) -> Iterator[str]:
        """Keep the graph; yield the objects whose owners or dependents changed in a way that matters."""
        obj = event.object
        uid = uid_of(obj)
        if event.resource == CRDS:
            self._follow(event)
        if event.type == "DELETED":
            yield from self._graph.nodes[uid].owners if uid in self._graph.nodes else ()
            yield from self._graph.drop(uid)
            return
        owners = self._graph.put(event.resource, obj)
        if is_deleting(obj) and {FOREGROUND, ORPHAN} & set(finalizers_of(obj)):
            yield uid
            yield from self._graph.dependents(uid)
        elif any(owner not in self._graph.nodes for owner in owners):
            yield uid

    def reconcile(self, key: str) -> None:
        """Bring one object on: let its dependents go first, orphan them, or delete it with its owners gone."""
        node = self._graph.nodes.get(key)
        obj = None if node is None else self.api.get(node.resource, node.name, node.namespace)
        if node is None or obj is None or uid_of(obj) != key:
            return
        if is_deleting(obj):
            if ORPHAN in finalizers_of(obj):
                self._orphan(node, obj)
            elif FOREGROUND in finalizers_of(obj):
                self._foreground(node, obj)
            return
        self._check_owners(node, obj)

    async def run(self) -> None:
        """Work until cancelled; the watches of custom kinds end with it."""
        try:
            await super().run()
        finally:
            for task in self._custom.values():
                task.cancel()

    def _follow(self, event: Event) -> None:
        """Watch the objects of a new CRD, or stop watching those of one that went."""
        kind = kind_of_crd(event.object)
        if event.type == "DELETED":
            self._kinds.pop((kind.group, kind.kind), None)
            if task := self._custom.pop(kind.resource, None):
                task.cancel()
        elif kind.resource not in self._custom:
            self._kinds[kind.group, kind.kind] = kind
            self._custom[kind.resource] = spawn(self._watch(kind), f"{self.name} of {kind.resource}")

    async def _watch(self, kind: Kind) -> None:
        async for event in self.api.watch([kind.resource]):
            self.take(event)

    def _dependents(self, uid: str) -> list[tuple[Node, Object]]:
        found = []
        for one in self._graph.dependents(uid):
            node = self._graph.nodes[one]
            obj = self.api.get(node.resource, node.name, node.namespace)
            if obj is not None and uid_of(obj) == one:
                found.append((node, obj))
        return found

    def _orphan(self, node: Node, obj: Object) -> None:
        for child, found in self._dependents(uid_of(obj)):
            left = [r for r in meta(found)["ownerReferences"] if r["uid"] != uid_of(obj)]
            self._patch(child, {"ownerReferences": left or None})
        self._patch(node, {"finalizers": [f for f in finalizers_of(obj) if f != ORPHAN]})

    def _foreground(self, node: Node, obj: Object) -> None:
        """Delete the dependents; let the owner go when none of those that block it is left."""
        blocking = 0
        for child, found in self._dependents(uid_of(obj)):
            refs = [r for r in meta(found).get("ownerReferences") or [] if r["uid"] == uid_of(obj)]
            blocking += any(r.get("blockOwnerDeletion") for r in refs)
            if not is_deleting(found):
                self._check_owners(child, found)
        if not blocking:
            self._patch(node, {"finalizers": [f for f in finalizers_of(obj) if f != FOREGROUND]})

    def _check_owners(self, node: Node, obj: Object) -> None:
        """Delete an object whose owners are all gone or going; forget those that are gone."""
        refs = meta(obj).get("ownerReferences") or []
        owners = [(ref, self._owner(ref, namespace_of(obj))) for ref in refs]
        solid = [r for r, o in owners if o is not None and not _waits(o)]
        waiting = [r for r, o in owners if o is not None and _waits(o)]
        if not refs or len(solid) == len(refs):
            return
        if solid:
            self._patch(node, {"ownerReferences": solid})
        elif waiting and self._graph.dependents(uid_of(obj)):
            self.api.delete(node.resource, node.name, node.namespace, propagation="Foreground")
        else:
            self.api.delete(node.resource, node.name, node.namespace, propagation="Background")

    def _owner(self, ref: dict[str, Any], namespace: str) -> Object | None:
        """Return the owner that a reference means, None when it is gone; an unknown kind counts as gone."""
        group = ref["apiVersion"].rpartition("/")[0]
        kind = self._kinds.get((group, ref["kind"]))
        if kind is None:
            return None
        found = self.api.get(kind.resource, ref["name"], namespace if kind.namespaced else "")
        return found if found is not None and uid_of(found) == ref["uid"] else None

    def _patch(self, node: Node, metadata: dict[str, Any]) -> None:
        """Patch metadata; an object that went in the meantime needs no patch."""
        try:
            self.api.patch(node.resource, node.name, {"metadata": metadata}, node.namespace)
        except ApiError as error:
            if error.code != 404:
                raise


def _waits(owner: Object) -> bool:
    """Tell whether an owner waits for its dependents to be deleted."""
    return is_deleting(owner) and FOREGROUND in finalizers_of(owner)
