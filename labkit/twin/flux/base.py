"""What all controllers of Flux share: when an object is due, its conditions, requests to reconcile, finalizers."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

from labkit.twin.controllers.framework import Result
from labkit.twin.controllers.objects import (
    annotations_of,
    finalizers_of,
    is_deleting,
    meta,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    with_condition,
)
from labkit.twin.flux.durations import parse_duration
from labkit.twin.flux.gate import DEPLOYMENTS, GatedController
from labkit.twin.flux.surroundings import Surroundings
from labkit.twin.kube.door import Clock, Event, Object
from labkit.twin.kube.local import LocalApi

NAMESPACE = "flux-system"
FINALIZER = "finalizers.fluxcd.io"
REQUESTED = "reconcile.fluxcd.io/requestedAt"
FORCED = "reconcile.fluxcd.io/forceAt"
RESET = "reconcile.fluxcd.io/resetAt"
REQUEUE = 30.0
"""Twin seconds after which something that is not there yet is looked for again."""

GITS = "gitrepositories.source.toolkit.fluxcd.io"
OCIS = "ocirepositories.source.toolkit.fluxcd.io"
REPOSITORIES = "helmrepositories.source.toolkit.fluxcd.io"
CHARTS = "helmcharts.source.toolkit.fluxcd.io"
KUSTOMIZATIONS = "kustomizations.kustomize.toolkit.fluxcd.io"
RELEASES = "helmreleases.helm.toolkit.fluxcd.io"


class FluxController(GatedController):
    """A controller of one kind of Flux."""

    resource = ""
    program = ""
    finalizer = True
    width = 4

    def __init__(self, api: LocalApi, clock: Clock, surroundings: Surroundings) -> None:
        super().__init__(api, clock)
        self.around = surroundings
        self.resources = (self.resource,)
        self._seen: dict[tuple[str, str], Hashable] = {}
        self._due: dict[tuple[str, str], float] = {}

    def is_program(self, deployment: Object) -> bool:
        """Tell by the name."""
        return name_of(deployment) == self.program and namespace_of(deployment) == NAMESPACE

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Return the object's own key, or what `others` says about another kind."""
        if event.resource == self.resource:
            return [(namespace_of(event.object), name_of(event.object))]
        return [] if event.resource == DEPLOYMENTS else self.others(event)

    def others(self, event: Event) -> list[tuple[str, str]]:  # noqa: ARG002  # for subclasses
        """Return the keys that an event of another kind concerns."""
        return []

    def stamp(self, obj: Object) -> Hashable:
        """Return everything that makes an object due when it changes."""
        notes = annotations_of(obj)
        asked = tuple(notes.get(name) for name in (REQUESTED, FORCED, RESET))
        return meta(obj).get("generation"), is_deleting(obj), asked

    async def work(self, obj: Object) -> Result:
        """Reconcile an object that is due; return the twin seconds until it is due again."""
        raise TypeError(f"controller {self.name!r} does not work on {name_of(obj)}")

    async def end(self, obj: Object) -> None:
        """Take away what stands behind an object that is being deleted."""

    async def reconcile(self, key: tuple[str, str]) -> Result:
        """Work on an object when something asks for that or its interval is over."""
        obj = self.api.get(self.resource, key[1], key[0]) if self.awake else None
        if obj is None:
            self._seen.pop(key, None)
            return None
        stamp = self.stamp(obj)
        left = self._due.get(key, 0.0) - self.time()
        if self._seen.get(key) == stamp and left > 0:
            return left if left < float("inf") else None
        self._seen[key] = stamp
        try:
            after = await self._one(obj)
        except BaseException:
            self._seen.pop(key, None)
            raise
        self._due[key] = float("inf") if after is None else self.time() + after
        return after

    async def _one(self, obj: Object) -> Result:
        if is_deleting(obj):
            if FINALIZER in finalizers_of(obj):
                await self.end(obj)
                left = [name for name in finalizers_of(self.fresh(obj)) if name != FINALIZER]
                self.patch(obj, {"metadata": {"finalizers": left}})
            return None
        if self.finalizer and FINALIZER not in finalizers_of(obj):
            obj = self.patch(obj, {"metadata": {"finalizers": [*finalizers_of(obj), FINALIZER]}})
        if spec_of(obj).get("suspend"):
            return None
        return await self.work(copy.deepcopy(obj))

    def fresh(self, obj: Object) -> Object:
        """Return the newest version of an object, itself when it is gone."""
        return self.api.get(self.resource, name_of(obj), namespace_of(obj)) or obj

    def patch(self, obj: Object, patch: Object, subresource: str = "") -> Object:
        """Merge a patch into an object."""
        return self.api.patch(self.resource, name_of(obj), patch, namespace_of(obj), subresource=subresource)

    def mark(self, obj: Object, marks: Marks, **status: Any) -> None:
        """Write conditions and other fields of the status; a field of None is removed."""
        now = self.fresh(obj)
        if now is obj:
            return
        conditions = marks.on(status_of(now).get("conditions") or [], self.now(), meta(obj).get("generation", 1))
        self.patch(obj, {"status": {**status, "conditions": conditions}}, "status")

    def handled(self, obj: Object) -> dict[str, str]:
        """Return the status field that says which request has been handled."""
        asked = annotations_of(obj).get(REQUESTED)
        return {"lastHandledReconcileAt": asked} if asked else {}

    def interval(self, obj: Object) -> float:
        """Return the twin seconds between two looks at an object."""
        return parse_duration(spec_of(obj).get("interval"), 60.0)


class Marks:
    """Changes of conditions."""

    def __init__(self) -> None:
        self._set: dict[str, tuple[str, str, str]] = {}
        self._drop: set[str] = set()

    def true(self, kind: str, reason: str, message: str) -> Marks:
        """Make a condition True."""
        self._set[kind] = ("True", reason, message)
        return self

    def false(self, kind: str, reason: str, message: str) -> Marks:
        """Make a condition False."""
        self._set[kind] = ("False", reason, message)
        return self

    def unknown(self, kind: str, reason: str, message: str) -> Marks:
        """Make a condition Unknown."""
        self._set[kind] = ("Unknown", reason, message)
        return self

    def drop(self, *kinds: str) -> Marks:
        """Remove conditions."""
        self._drop.update(kinds)
        return self

    def on(self, conditions: list[dict[str, Any]], now: str, generation: int) -> list[dict[str, Any]]:
        """Return conditions with the changes made."""
        found = [one for one in conditions if one.get("type") not in self._drop]
        for kind, (status, reason, message) in self._set.items():
            found = with_condition(
                found, kind, status, now, reason=reason, message=message, observedGeneration=generation
            )
        return found


def failed(reason: str, message: str) -> Marks:
    """Return the conditions of an object that failed and is tried again."""
    return Marks().false("Ready", reason, message).true("Reconciling", "ProgressingWithRetry", message)
