"""The end of namespaces: everything in them goes, then they do."""

from __future__ import annotations

from collections import Counter

from labkit.twin.kube.door import Api, Clock, Event, Object

from .framework import Controller
from .kinds import CRDS, Kind, all_kinds, builtin_kinds
from .objects import finalizers_of, is_deleting, name_of, namespace_of, spec_of, status_of, with_condition

FINE = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
)  # fmt: skip
AGAIN = 5.0


class NamespaceEnd(Controller):
    """Delete what a terminating namespace holds, and finalize it when it is empty."""

    name = "namespace-controller"

    def __init__(self, api: Api, clock: Clock) -> None:
        super().__init__(api, clock)
        self.watches = ("namespaces", *(k.resource for k in builtin_kinds() if k.namespaced), CRDS)
        self._ending: set[str] = set()

    def keys(self, event: Event) -> list[str]:
        """Map what leaves, or is let go of, to its namespace, if that is ending."""
        if event.resource == CRDS:
            return sorted(self._ending)
        if event.resource != "namespaces":
            namespace = namespace_of(event.object)
            return [namespace] if namespace in self._ending else []
        name, ending = name_of(event.object), is_deleting(event.object) and event.type != "DELETED"
        (self._ending.add if ending else self._ending.discard)(name)
        return [name] if ending else []

    def reconcile(self, key: str) -> float | None:
        """Delete what is left; custom objects are looked at again after a while, as they are not watched here."""
        namespace = self.api.get("namespaces", key)
        if namespace is None or not is_deleting(namespace):
            return None
        kinds = [k for k in all_kinds(self.api) if k.namespaced]
        for kind in kinds:
            for obj in self.api.list(kind.resource, key):
                if not is_deleting(obj):
                    self.api.delete(kind.resource, name_of(obj), key)
        left = [(k, o) for k in kinds for o in self.api.list(k.resource, key)]
        if left:
            self._tell(namespace, left)
            return AGAIN
        if spec_of(namespace).get("finalizers"):
            self.api.patch("namespaces", key, {"spec": {"finalizers": None}}, subresource="finalize")
        return None

    def _tell(self, namespace: Object, left: list[tuple[Kind, Object]]) -> None:
        """Say in the status what holds the namespace up."""
        found, now = status_of(namespace).get("conditions"), self.now()
        for kind, reason, message in FINE:
            found = with_condition(found, kind, "False", now, reason=reason, message=message)
        resources = Counter(_dotted(kind) for kind, _ in left)
        text = ", ".join(f"{r} has {n} resource instances" for r, n in sorted(resources.items()))
        found = with_condition(
            found, "NamespaceContentRemaining", "True", now, reason="SomeResourcesRemain",
            message=f"Some resources are remaining: {text}",
        )  # fmt: skip
        held = Counter(f for _, obj in left for f in finalizers_of(obj))
        text = ", ".join(f"{f} in {n} resource instances" for f, n in sorted(held.items()))
        found = with_condition(
            found, "NamespaceFinalizersRemaining", "True" if held else "False", now,
            reason="SomeFinalizersRemain" if held else "ContentHasNoFinalizers",
            message=f"Some content in the namespace has finalizers remaining: {text}"
            if held else "All content-preserving finalizers finished",
        )  # fmt: skip
        if found != status_of(namespace).get("conditions"):
            patch = {"status": {"conditions": found}}
            self.api.patch("namespaces", name_of(namespace), patch, subresource="status")


def _dotted(kind: Kind) -> str:
    """Write a resource as the status of a namespace does: `pods.`, `deployments.apps`."""
    return kind.resource if "." in kind.resource else f"{kind.resource}."
