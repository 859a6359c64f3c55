"""Endpoints and EndpointSlices: the ready pods behind each Service."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Event, Object

from .framework import Controller
from .objects import (
    is_deleting,
    is_finished,
    is_ready,
    labels_of,
    matches,
    name_of,
    namespace_of,
    owner_of,
    owner_reference,
    spec_of,
    status_of,
    uid_of,
)

SLICES = "endpointslices.discovery.k8s.io"
SERVICE = "kubernetes.io/service-name"
MANAGER, MANAGED_BY = "endpointslice-controller.k8s.io", "endpointslice.kubernetes.io/managed-by"
ZONE = "topology.kubernetes.io/zone"
LARGEST = 100


class EndpointSlices(Controller):
    """Write the EndpointSlices and the Endpoints of every Service that selects pods."""

    name = "endpointslice-controller"
    watches = ("services", "pods", "nodes")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a pod to the Services that select it."""
        obj = event.object
        if event.resource == "services":
            return [(namespace_of(obj), name_of(obj))]
        if event.resource == "nodes":
            return []
        found = self.api.list("services", namespace_of(obj))
        labels = labels_of(obj)
        return [(namespace_of(s), name_of(s)) for s in found if _selects(s, labels)]

    def reconcile(self, key: tuple[str, str]) -> None:
        """Bring the addresses of one Service up to date."""
        namespace, name = key
        service = self.api.get("services", name, namespace)
        slices = self.api.list(SLICES, namespace, {SERVICE: name, MANAGED_BY: MANAGER})
        if service is None or is_deleting(service):
            self._remove(slices if service is None else [])
            if service is None:
                self.api.delete("endpoints", name, namespace)
            return
        if not spec_of(service).get("selector") or spec_of(service).get("type") == "ExternalName":
            return
        pods = [p for p in self.api.list("pods", namespace) if _selects(service, labels_of(p)) and _counts(p)]
        pods.sort(key=name_of)
        self._write_slices(service, pods, [s for s in slices if (owner_of(s) or {}).get("uid") == uid_of(service)])
        self._write_endpoints(service, pods)

    def _remove(self, slices: list[Object]) -> None:
        for one in slices:
            self.api.delete(SLICES, name_of(one), namespace_of(one))

    def _write_slices(self, service: Object, pods: list[Object], slices: list[Object]) -> None:
        """Fill the slices that are there, make more or delete spare ones; an empty one always stays."""
        ports = [port_of(p, pods) for p in spec_of(service).get("ports") or []]
        entries = [self._entry(service, p) for p in pods]
        chunks = [entries[i : i + LARGEST] for i in range(0, len(entries), LARGEST)] or [[]]
        for index, chunk in enumerate(chunks):
            body = self._slice(service, chunk, ports)
            if index >= len(slices):
                self.api.create(SLICES, body)
                continue
            old = slices[index]
            if (old.get("endpoints") or []) != chunk or (old.get("ports") or []) != ports:
                self.api.update(SLICES, {**old, "endpoints": chunk, "ports": ports})
        self._remove(slices[len(chunks) :])

    def _slice(self, service: Object, chunk: list[dict[str, Any]], ports: list[dict[str, Any]]) -> Object:
        metadata = {
            "generateName": f"{name_of(service)}-",
            "namespace": namespace_of(service),
            "labels": {**labels_of(service), SERVICE: name_of(service), MANAGED_BY: MANAGER},
            "ownerReferences": [owner_reference(service)],
        }
        return {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "endpoints": chunk, "ports": ports,
        }  # fmt: skip

    def _entry(self, service: Object, pod: Object) -> dict[str, Any]:
        ending = is_deleting(pod)
        always = bool(spec_of(service).get("publishNotReadyAddresses"))
        serving = is_ready(pod)
        entry: dict[str, Any] = {
            "addresses": [status_of(pod)["podIP"]],
            "conditions": {"ready": (serving and not ending) or always, "serving": serving, "terminating": ending},
            "nodeName": spec_of(pod)["nodeName"],
            "targetRef": _reference(pod),
        }
        node = self.api.get("nodes", spec_of(pod)["nodeName"])
        zone = labels_of(node or {}).get(ZONE)
        if zone:
            entry["zone"] = zone
        if spec_of(pod).get("hostname") and spec_of(pod).get("subdomain") == name_of(service):
            entry["hostname"] = spec_of(pod)["hostname"]
        return entry

    def _write_endpoints(self, service: Object, pods: list[Object]) -> None:
        subsets = self._subsets(service, [p for p in pods if not is_deleting(p)])
        name, namespace = name_of(service), namespace_of(service)
        old = self.api.get("endpoints", name, namespace)
        if old is None:
            labels = {**labels_of(service), "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
            metadata = {"name": name, "namespace": namespace, "labels": labels}
            body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
            self.api.create("endpoints", {**body, **({"subsets": subsets} if subsets else {})})
        elif (old.get("subsets") or []) != subsets:
            self.api.patch("endpoints", name, {"subsets": subsets or None}, namespace)

    def _subsets(self, service: Object, pods: list[Object]) -> list[dict[str, Any]]:
        always = bool(spec_of(service).get("publishNotReadyAddresses"))
        ready = [_address(p) for p in pods if is_ready(p) or always]
        waiting = [_address(p) for p in pods if not (is_ready(p) or always)]
        if not ready and not waiting:
            return []
        subset: dict[str, Any] = {}
        if ready:
            subset["addresses"] = ready
        if waiting:
            subset["notReadyAddresses"] = waiting
        ports = [port_of(p, pods) for p in spec_of(service).get("ports") or []]
        named = [{k: v for k, v in p.items() if v != ""} for p in ports]
        return [{**subset, **({"ports": named} if named else {})}]


def _selects(service: Object, labels: dict[str, str]) -> bool:
    selector = spec_of(service).get("selector")
    return bool(selector) and matches({"matchLabels": selector}, labels)


def _counts(pod: Object) -> bool:
    return bool(status_of(pod).get("podIP")) and not is_finished(pod) and bool(spec_of(pod).get("nodeName"))


def _reference(pod: Object) -> dict[str, str]:
    return {"kind": "Pod", "name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)}


def _address(pod: Object) -> dict[str, Any]:
    return {"ip": status_of(pod)["podIP"], "nodeName": spec_of(pod)["nodeName"], "targetRef": _reference(pod)}


def port_of(port: dict[str, Any], pods: list[Object]) -> dict[str, Any]:
    """Resolve a Service's port to the pods' port; a name is looked up in their containers."""
    target = port.get("targetPort", port["port"])
    number = target if isinstance(target, int) else _named_port(str(target), pods) or port["port"]
    found = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
    return {**found, **({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {})}


def _named_port(name: str, pods: list[Object]) -> int | None:
    for pod in pods:
        for container in spec_of(pod).get("containers") or []:
            for port in container.get("ports") or []:
                if port.get("name") == name:
                    return int(port["containerPort"])
    return None
