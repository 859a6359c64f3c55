"""Events that controllers write about objects, counted instead of repeated."""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Literal

from labkit.twin.kube.door import Api, ApiError, Clock, Object

from .objects import meta, name_of, namespace_of, stamp, uid_of

LOG = logging.getLogger(__name__)


class Recorder:
    """Write events under one component's name; the same event again only raises its count."""

    def __init__(self, api: Api, clock: Clock, component: str) -> None:
        self._api = api
        self._clock = clock
        self._component = component

    def normal(self, obj: Object, reason: str, message: str, *, host: str = "") -> None:
        """Record something that went as planned."""
        self._record(obj, "Normal", reason, message, host)

    def warning(self, obj: Object, reason: str, message: str, *, host: str = "") -> None:
        """Record something that a person may have to look at."""
        self._record(obj, "Warning", reason, message, host)

    def _record(self, obj: Object, kind: Literal["Normal", "Warning"], reason: str, message: str, host: str) -> None:
        """Create the event or count it; a namespace that ends takes no events, which is no failure."""
        now, namespace = stamp(self._clock.now()), namespace_of(obj) or "default"
        name = event_name(obj, kind, reason, message, host)
        try:
            old = self._api.get("events", name, namespace)
            if old is None:
                said = {"type": kind, "reason": reason, "message": message, "reportingInstance": host}
                self._api.create("events", {**self._body(obj, name), **said})
            else:
                again = {"count": int(old.get("count") or 1) + 1, "lastTimestamp": now}
                self._api.patch("events", name, again, namespace)
        except ApiError as error:
            LOG.debug("event %s of %s was not taken: %s", reason, name_of(obj), error)

    def _body(self, obj: Object, name: str) -> dict[str, Any]:
        now = stamp(self._clock.now())
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace_of(obj) or "default"},
            "involvedObject": reference(obj),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def event_name(obj: Object, *parts: str) -> str:
    """Name an event by its object and a hash of what it says, so that the same one is found again."""
    text = "\0".join([str(obj.get("kind", "")), uid_of(obj), *parts])
    return f"{name_of(obj)}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def reference(obj: Object) -> dict[str, Any]:
    """Build an ObjectReference."""
    found = {
        "apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "namespace": namespace_of(obj),
        "name": name_of(obj), "uid": uid_of(obj), "resourceVersion": meta(obj).get("resourceVersion"),
    }  # fmt: skip
    return {k: v for k, v in found.items() if v}
