"""Traefik's own view of the API.

Pods of the twin have no network, and an API server refuses loopback addresses in EndpointSlices. So Traefik does not
read the cluster's API but a copy of what it reads there, in which every Service leads to its stand-in on loopback:
EndpointSlices get its address in place of the pods', an ExternalName gets an EndpointSlice of its own, and forwardAuth
addresses inside the cluster are replaced. Nothing else differs, and nothing that Traefik does reaches the cluster.
"""

from __future__ import annotations

import copy
import re
from typing import Any
from urllib.parse import urlsplit

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import labels_of, name_of, namespace_of, spec_of
from labkit.twin.ingress.backends import LOOPBACK, Backends
from labkit.twin.kube.core import Core
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import Clock, Event, Object
from labkit.twin.kube.local import LocalApi

_GROUP = "traefik.io"
_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_SLICES = "endpointslices.discovery.k8s.io"
_ROUTES, _MIDDLEWARES = f"ingressroutes.{_GROUP}", f"middlewares.{_GROUP}"
_KINDS = (
    "configmaps", "nodes", "services", "secrets", "namespaces", _SLICES, "ingresses.networking.k8s.io",
    "ingressclasses.networking.k8s.io", _ROUTES, f"ingressroutetcps.{_GROUP}", f"ingressrouteudps.{_GROUP}",
    _MIDDLEWARES, f"middlewaretcps.{_GROUP}", f"serverstransports.{_GROUP}", f"serverstransporttcps.{_GROUP}",
    f"tlsoptions.{_GROUP}", f"tlsstores.{_GROUP}", f"traefikservices.{_GROUP}",
)  # fmt: skip
_OF = "kubernetes.io/service-name"
_INSIDE = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\.cluster\.local)?\.?")


class View(Controller):
    """Keep the copy in step with the cluster; `core` holds it."""

    name = "traefik-view"
    watches = (_DEFINITIONS, *_KINDS)
    width = 1

    def __init__(self, api: LocalApi, clock: Clock, backends: Backends) -> None:
        super().__init__(api, clock)
        self.core: Core = new_core(clock)
        self.external_names = True
        """Whether Traefik is allowed to follow ExternalName Services; else it sees them as they are, and refuses."""
        self._backends = backends

    def keys(self, event: Event) -> list[tuple[str, str, str]]:
        """Return the object; a Service takes its EndpointSlices along, and a route the Services that it names."""
        obj, found = event.object, [(event.resource, namespace_of(event.object), name_of(event.object))]
        if event.resource == _DEFINITIONS and spec_of(obj).get("group") != _GROUP:
            return []
        if event.resource == "services":
            slices = self.api.list(_SLICES, namespace_of(obj), {_OF: name_of(obj)})
            found += [(_SLICES, namespace_of(obj), name_of(one)) for one in slices]
        if event.resource == _ROUTES:
            found += [("services", space, name) for space, name, _ in _named(obj)]
        return found

    async def reconcile(self, key: tuple[str, str, str]) -> None:
        """Copy one object, or take its copy away."""
        resource, namespace, name = key
        obj = self.api.get(resource, name, namespace)
        if obj is None:
            self._remove(resource, namespace, name)
            if resource == "services":
                self._remove(_SLICES, namespace, f"{name}-external")
            return
        obj = copy.deepcopy(obj)
        if resource == _SLICES:
            await self._slice(obj)
        elif resource == _MIDDLEWARES:
            await self._middleware(obj)
        elif resource == "services" and spec_of(obj).get("type") == "ExternalName" and self.external_names:
            obj = await self._external(obj)
        self._put(resource, obj)

    def _put(self, resource: str, obj: Object) -> None:
        """Keep a copy past all validation, which would refuse loopback addresses."""
        old = self.core.store.get(resource, namespace_of(obj), name_of(obj))
        if old is None or _bare(old.object) != _bare(obj):
            self.core.store.put(resource, obj)

    def _remove(self, resource: str, namespace: str, name: str) -> None:
        old = self.core.store.get(resource, namespace, name)
        if old is not None:
            self.core.store.remove(resource, old)

    async def _slice(self, obj: Object) -> None:
        """Lead all ready endpoints of a slice to one stand-in for each port, which then chooses a pod."""
        service = labels_of(obj).get(_OF, "")
        ready = [one for one in obj.get("endpoints") or [] if (one.get("conditions") or {}).get("ready")]
        for port in obj.get("ports") or []:
            port["port"] = await self._port(namespace_of(obj), service, port)
        obj["endpoints"] = [{"addresses": [LOOPBACK], "conditions": {"ready": True}}] if ready else []

    async def _external(self, obj: Object) -> Object:
        """Turn an ExternalName Service into one with an endpoint on loopback."""
        ports = [{"name": "", **one} for one in spec_of(obj).get("ports") or []]
        found: list[dict[str, Any]] = []
        for port in ports:
            number = await self._port(namespace_of(obj), name_of(obj), port)
            found.append({"name": port["name"], "port": number, "protocol": "TCP"})
        body = {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": found,
            "metadata": {"name": f"{name_of(obj)}-external", "namespace": namespace_of(obj),
                         "labels": {_OF: name_of(obj)}, "uid": f"{obj['metadata']['uid']}-external"},
            "endpoints": [{"addresses": [LOOPBACK], "conditions": {"ready": True}}],
        }  # fmt: skip
        self._put(_SLICES, body)
        obj["spec"] = {"type": "ClusterIP", "clusterIP": "10.43.255.254", "ports": ports}
        return obj

    async def _middleware(self, obj: Object) -> None:
        forward = spec_of(obj).get("forwardAuth") or {}
        parts = urlsplit(str(forward.get("address", "")))
        inside = _INSIDE.fullmatch(parts.hostname or "")
        if inside is not None:
            number = parts.port or (443 if parts.scheme == "https" else 80)
            tls = parts.scheme == "https"
            port = await self._backends.port((inside[2], inside[1], str(number)), tls=tls)
            forward["address"] = parts._replace(netloc=f"{LOOPBACK}:{port}").geturl()

    async def _port(self, namespace: str, service: str, port: dict[str, Any]) -> int:
        word = str(port.get("name") or port["port"])
        return await self._backends.port((namespace, service, word), tls=self._speaks_tls(namespace, service, port))

    def _speaks_tls(self, namespace: str, service: str, port: dict[str, Any]) -> bool:
        """Tell whether Traefik will speak TLS to a Service: by the scheme in a route, the port's name or number."""
        for route in self.api.list(_ROUTES):
            for space, name, scheme in _named(route):
                if (space, name) == (namespace, service) and scheme:
                    return scheme == "https"
        return str(port.get("name", "")).startswith("https") or port.get("port") == 443


def _named(route: Object) -> list[tuple[str, str, str]]:
    """Return the Services of an IngressRoute: namespace, name, scheme."""
    services = [one for rule in spec_of(route).get("routes") or [] for one in rule.get("services") or []]
    return [(one.get("namespace") or namespace_of(route), one["name"], one.get("scheme", "")) for one in services
            if one.get("kind", "Service") == "Service"]  # fmt: skip


def _bare(obj: Object) -> Object:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}}
