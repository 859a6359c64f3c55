"""Addresses of LoadBalancer Services: from a pool, as MetalLB gives them, or the nodes' own, as servicelb does."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Protocol

from labkit.twin.kube.door import Api, Clock, Event, Object

from .framework import Controller
from .objects import (
    annotations_of,
    is_deleting,
    is_true,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)

WANTED = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")


class Balancer(Protocol):
    """What gives addresses to Services; an empty list leaves the Service pending."""

    def addresses(self, service: Object, api: Api) -> list[str]:
        """Return the addresses of a Service, the same ones as long as it lives; raise LookupError with why not."""
        ...

    def release(self, service: Object) -> None:
        """Take back the addresses of a Service that went."""
        ...


class AddressPool:
    """Give one address out of ranges such as `192.168.5.50-192.168.5.60` or `192.168.5.64/28`."""

    def __init__(self, ranges: Iterable[str]) -> None:
        self._free = [a for text in ranges for a in expand(text)]
        self._given: dict[str, str] = {}

    def addresses(self, service: Object, api: Api) -> list[str]:
        """Return the address that the Service has, asks for, or the lowest free one; raise LookupError."""
        uid = uid_of(service)
        for other in api.list("services"):
            if uid_of(other) != uid and uid_of(other) not in self._given and ingress(other):
                self._given[uid_of(other)] = ingress(other)[0]
        taken = {a for u, a in self._given.items() if u != uid}
        wanted = asked_for(service)
        if wanted:
            if wanted not in self._free:
                raise LookupError(f'["{wanted}"] is not allowed in config')
            if wanted in taken:
                raise LookupError(f'can\'t change sharing key for "{name_of(service)}", address also in use')
        have = wanted or next(iter(ingress(service)), "") or self._given.get(uid, "")
        if not have or have not in self._free:
            have = next((a for a in self._free if a not in taken), "")
        if not have:
            raise LookupError("no available IPs")
        self._given[uid] = have
        return [have]

    def release(self, service: Object) -> None:
        """Make the address of a Service free again."""
        self._given.pop(uid_of(service), None)


class NodeAddresses:
    """Give the addresses of all ready nodes, as the load balancer of k3s does."""

    def addresses(self, service: Object, api: Api) -> list[str]:  # noqa: ARG002 - the same for every Service
        """Return the internal addresses of the ready nodes."""
        nodes = [n for n in api.list("nodes") if is_true(n, "Ready")]
        found = [a for n in nodes for a in status_of(n).get("addresses") or [] if a["type"] == "InternalIP"]
        return sorted((a["address"] for a in found), key=ipaddress.ip_address)

    def release(self, service: Object) -> None:
        """Nothing was taken, so nothing is given back."""


class LoadBalancers(Controller):
    """Write status.loadBalancer of the Services of that type."""

    name = "service-lb-controller"
    watches = ("services", "nodes")

    def __init__(self, api: Api, clock: Clock, balancer: Balancer) -> None:
        super().__init__(api, clock)
        self._balancer = balancer

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a node to all Services of the type; a Service that went gives its address back."""
        if event.resource == "services":
            if event.type == "DELETED":
                self._balancer.release(event.object)
                return self._pending()
            return [(namespace_of(event.object), name_of(event.object))]
        return self._all()

    def reconcile(self, key: tuple[str, str]) -> None:
        """Give one Service its addresses."""
        service = self.api.get("services", key[1], key[0])
        if service is None or is_deleting(service):
            return
        if spec_of(service).get("type") != "LoadBalancer" or spec_of(service).get("loadBalancerClass"):
            return
        try:
            found = self._balancer.addresses(service, self.api)
        except LookupError as error:
            text = f'Failed to allocate IP for "{key[0]}/{key[1]}": {error.args[0]}'
            self.events.warning(service, "AllocationFailed", text)
            return
        if found == ingress(service):
            return
        wanted: list[dict[str, Any]] = [{"ip": a, "ipMode": "VIP"} for a in found]
        patch = {"status": {"loadBalancer": {"ingress": wanted or None}}}
        self.api.patch("services", key[1], patch, key[0], subresource="status")
        if found:
            self.events.normal(service, "IPAllocated", f'Assigned IP ["{", ".join(found)}"]')

    def _all(self) -> list[tuple[str, str]]:
        found = self.api.list("services")
        return [(namespace_of(s), name_of(s)) for s in found if spec_of(s).get("type") == "LoadBalancer"]

    def _pending(self) -> list[tuple[str, str]]:
        return [k for k in self._all() if not ingress(self.api.get("services", k[1], k[0]) or {})]


def ingress(service: Object) -> list[str]:
    """Return the addresses that a Service has."""
    found = (status_of(service).get("loadBalancer") or {}).get("ingress") or []
    return [str(i["ip"]) for i in found if i.get("ip")]


def asked_for(service: Object) -> str:
    """Return the address that a Service asks for, "" when it leaves it open."""
    noted = [annotations_of(service)[k] for k in WANTED if k in annotations_of(service)]
    return str(noted[0] if noted else spec_of(service).get("loadBalancerIP") or "").strip()


def expand(text: str) -> list[str]:
    """Write out a range of addresses."""
    if "/" in text:
        return [str(a) for a in ipaddress.ip_network(text.strip(), strict=False)]
    first, _, last = text.partition("-")
    low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address((last or first).strip())
    return [str(low + i) for i in range(int(high) - int(low) + 1)]
