"""The finalizers that keep a claim while a pod uses it, and a volume while a claim is bound to it."""

from __future__ import annotations

from labkit.twin.kube.door import Event, Object

from .framework import Controller
from .objects import finalizers_of, is_deleting, is_finished, name_of, namespace_of, spec_of, status_of
from .volume_rules import claim_names

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


class Protection(Controller):
    """Let a deleted claim or volume go as soon as nothing uses it."""

    name = "pvc-protection-controller"
    watches = ("persistentvolumeclaims", "persistentvolumes", "pods")

    def keys(self, event: Event) -> list[tuple[str, str, str]]:
        """Map a pod that ended or went to its claims."""
        obj = event.object
        if event.resource != "pods":
            return [(event.resource, namespace_of(obj), name_of(obj))] if is_deleting(obj) else []
        if event.type != "DELETED" and not is_finished(obj):
            return []
        return [("persistentvolumeclaims", namespace_of(obj), n) for n in claim_names(obj)]

    def reconcile(self, key: tuple[str, str, str]) -> None:
        """Take the finalizer off when nothing uses the object."""
        resource, namespace, name = key
        found = self.api.get(resource, name, namespace)
        if found is None or not is_deleting(found):
            return
        finalizer = VOLUME_FINALIZER if resource == "persistentvolumes" else CLAIM_FINALIZER
        if finalizer not in finalizers_of(found) or self._is_used(resource, found):
            return
        left = [f for f in finalizers_of(found) if f != finalizer]
        self.api.patch(resource, name, {"metadata": {"finalizers": left}}, namespace)

    def _is_used(self, resource: str, found: Object) -> bool:
        if resource == "persistentvolumes":
            return bool(status_of(found).get("phase") == "Bound")
        pods = self.api.list("pods", namespace_of(found))
        return any(name_of(found) in claim_names(p) and not is_finished(p) and self._holds(p) for p in pods)

    def _holds(self, pod: Object) -> bool:
        """Tell whether a pod holds its claims: it was scheduled, or still may be."""
        return bool(spec_of(pod).get("nodeName")) or not is_deleting(pod)
