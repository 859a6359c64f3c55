"""Controllers that work only while the Deployment runs whose program they stand for."""

from __future__ import annotations

from collections.abc import Iterable

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import labels_of, name_of, namespace_of, status_of, uid_of
from labkit.twin.kube.door import Clock, Event, Object
from labkit.twin.kube.local import LocalApi

DEPLOYMENTS = "deployments.apps"


class GatedController(Controller):
    """A controller that is awake while a Deployment of its program has an available pod.

    Subclasses watch DEPLOYMENTS beside their own resources, and say by `is_program` which Deployment is theirs.
    """

    resources: tuple[str, ...] = ()
    """What is looked through when the program comes up."""
    api: LocalApi

    def __init__(self, api: LocalApi, clock: Clock) -> None:
        super().__init__(api, clock)
        self._running: set[str] = set()

    @property
    def awake(self) -> bool:
        """Whether the program runs."""
        return bool(self._running)

    def is_program(self, deployment: Object) -> bool:
        """Tell whether a Deployment runs this controller's program."""
        raise TypeError(f"controller {self.name!r} does not know its Deployment, asked for {name_of(deployment)}")

    def woke(self) -> None:
        """Look at everything; called when the program has come up."""
        for resource in self.resources:
            for obj in self.api.list(resource):
                super().take(Event("ADDED", resource, obj))

    def take(self, event: Event) -> None:
        """Follow the Deployment; hand on the rest while awake."""
        if event.resource == DEPLOYMENTS and self.is_program(event.object):
            self._follow(event)
        if self.awake and (event.resource != DEPLOYMENTS or DEPLOYMENTS in self.resources):
            super().take(event)

    def _follow(self, event: Event) -> None:
        uid, before = uid_of(event.object), self.awake
        if event.type != "DELETED" and status_of(event.object).get("availableReplicas"):
            self._running.add(uid)
        else:
            self._running.discard(uid)
        if self.awake and not before:
            self.woke()


def has_labels(obj: Object, **wanted: str) -> bool:
    """Tell whether an object carries `app.kubernetes.io/` labels."""
    labels = labels_of(obj)
    return all(labels.get(f"app.kubernetes.io/{key}") == value for key, value in wanted.items())


def key_of(obj: Object) -> tuple[str, str]:
    """Return namespace and name."""
    return namespace_of(obj), name_of(obj)


def keys_of(objects: Iterable[Object]) -> list[tuple[str, str]]:
    """Return namespaces and names."""
    return [key_of(obj) for obj in objects]
