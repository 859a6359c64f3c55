"""What MetalLB does when it runs: addresses out of its pools for Services of type LoadBalancer."""

from __future__ import annotations

import ipaddress
from typing import Any

from labkit.twin.controllers.loadbalancer import AddressPool, LoadBalancers, expand, ingress
from labkit.twin.controllers.objects import annotations_of, meta, name_of, namespace_of, spec_of, status_of
from labkit.twin.flux.gate import DEPLOYMENTS, GatedController, has_labels
from labkit.twin.kube.door import Api, Clock, Event, Object
from labkit.twin.kube.local import LocalApi

POOLS = "ipaddresspools.metallb.io"
_FROM = "metallb.io/ip-allocated-from-pool"
_POOL = ("metallb.io/address-pool", "metallb.universe.tf/address-pool")


class Pools:
    """A balancer that gives addresses out of the IPAddressPools that there are."""

    def __init__(self) -> None:
        self._given: dict[str, AddressPool] = {}
        self._ranges: dict[str, tuple[str, ...]] = {}

    def addresses(self, service: Object, api: Api) -> list[str]:
        """Return the address of a Service; none while there is no pool."""
        pools = api.list(POOLS)
        asked = next((annotations_of(service)[key] for key in _POOL if key in annotations_of(service)), "")
        fitting = [
            one for one in pools
            if name_of(one) == asked or (not asked and spec_of(one).get("autoAssign", True)) or _asks(service, one)
        ]  # fmt: skip
        if not pools:
            return []
        if not fitting:
            raise LookupError(f'unknown pool "{asked}"' if asked else "no available IPs")
        ranges = tuple(text for one in fitting for text in spec_of(one).get("addresses") or [])
        return self._pool(ranges).addresses(service, api)

    def release(self, service: Object) -> None:
        """Take back the addresses of a Service that went."""
        for pool in self._given.values():
            pool.release(service)

    def _pool(self, ranges: tuple[str, ...]) -> AddressPool:
        name = ",".join(ranges)
        if name not in self._given:
            self._given = {name: AddressPool(ranges)}
        return self._given[name]


class MetalLb(GatedController):
    """Write the addresses of Services, and how full the pools are."""

    name = "metallb-controller"
    resources = ("services",)
    watches = ("services", POOLS, DEPLOYMENTS)

    def __init__(self, api: LocalApi, clock: Clock) -> None:
        super().__init__(api, clock)
        self._inner = LoadBalancers(api, clock, Pools())

    def is_program(self, deployment: Object) -> bool:
        """Tell by the chart's labels."""
        return has_labels(deployment, name="metallb", component="controller")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """A pool concerns all Services."""
        if event.resource == "services":
            return self._inner.keys(event)
        return [(namespace_of(one), name_of(one)) for one in self.api.list("services")]

    def reconcile(self, key: tuple[str, str]) -> None:
        """Give a Service its address and tell from which pool it is."""
        if not self.awake:
            return
        self._inner.reconcile(key)
        service = self.api.get("services", key[1], key[0])
        if service is None or spec_of(service).get("type") != "LoadBalancer":
            return
        for pool in self.api.list(POOLS):
            held = [a for text in spec_of(pool).get("addresses") or [] for a in expand(text)]
            if set(ingress(service)) & set(held) and annotations_of(service).get(_FROM) != name_of(pool):
                self.api.patch("services", key[1], {"metadata": {"annotations": {_FROM: name_of(pool)}}}, key[0])
            self._count(pool, held)

    def _count(self, pool: Object, held: list[str]) -> None:
        taken = [a for one in self.api.list("services") for a in ingress(one) if a in held]
        four = [a for a in held if ipaddress.ip_address(a).version == 4]
        wanted: dict[str, Any] = {
            "assignedIPv4": len(taken), "availableIPv4": len(four) - len(taken), "assignedIPv6": 0,
            "availableIPv6": len(held) - len(four),
        }  # fmt: skip
        if any(status_of(pool).get(key) != value for key, value in wanted.items()):
            self.api.patch(POOLS, name_of(pool), {"status": wanted}, namespace_of(pool), subresource="status")


def _asks(service: Object, pool: Object) -> bool:
    """Tell whether a Service asks for an address of a pool, which need not assign by itself then."""
    wanted = annotations_of(service).get("metallb.io/loadBalancerIPs") or spec_of(service).get("loadBalancerIP") or ""
    held = {a for text in spec_of(pool).get("addresses") or [] for a in expand(text)}
    return bool(meta(service)) and str(wanted) in held
