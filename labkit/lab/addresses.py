"""Addresses that several would have. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from labkit.lab.models import Lab


def address_clashes(lab: Lab, addresses: Iterable[str], *, vip: bool = True) -> list[str]:
    """Say which of a machine's addresses lie in a load balancer range, or are the virtual one.

    Args:
        lab: whose network.
        addresses: what the machine has; what is no IPv4 address is passed over.
        vip: whether the virtual address counts: kube-vip gives it to a running server.
    """
    found = []
    for text in addresses:
        try:
            address = ipaddress.IPv4Address(text)
        except ipaddress.AddressValueError:
            continue
        found += [f"{address}, inside {low}-{high}" for low, high in lab.network.ranges if low <= address <= high]
        if vip and address == lab.network.vip:
            found.append(f"{address}, which is network.vip")
    return found
