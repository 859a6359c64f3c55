"""What every namespace has: the ServiceAccount `default` and the ConfigMap with the cluster's CA."""

from __future__ import annotations

from labkit.twin.kube.door import Api, Clock, Event, Object

from .framework import Controller
from .objects import is_deleting, name_of, namespace_of

ROOT_CA = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as "
    "the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of "
    "Kubernetes clusters."
)


class Accounts(Controller):
    """Keep the ServiceAccount `default` and kube-root-ca.crt in every namespace that lives."""

    name = "serviceaccount-controller"
    watches = ("namespaces", "serviceaccounts", "configmaps")

    def __init__(self, api: Api, clock: Clock, ca: str = "") -> None:
        super().__init__(api, clock)
        self._ca = ca

    def keys(self, event: Event) -> list[str]:
        """Map a namespace to itself, and its two objects to it when they change."""
        if event.resource == "namespaces":
            return [] if event.type == "DELETED" else [name_of(event.object)]
        ours = name_of(event.object) == ("default" if event.resource == "serviceaccounts" else ROOT_CA)
        return [namespace_of(event.object)] if ours and event.type != "ADDED" else []

    def reconcile(self, key: str) -> None:
        """Make what is missing, and put a changed CA right."""
        namespace = self.api.get("namespaces", key)
        if namespace is None or is_deleting(namespace):
            return
        if self.api.get("serviceaccounts", "default", key) is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key}}
            self.api.create("serviceaccounts", account)
        found = self.api.get("configmaps", ROOT_CA, key)
        if found is None:
            self.api.create("configmaps", self._bundle(key))
        elif found.get("data") != {"ca.crt": self._ca}:
            self.api.patch("configmaps", ROOT_CA, {"data": {"ca.crt": self._ca}}, key)

    def _bundle(self, namespace: str) -> Object:
        note = {"kubernetes.io/description": DESCRIPTION}
        metadata = {"name": ROOT_CA, "namespace": namespace, "annotations": note}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": self._ca}}
