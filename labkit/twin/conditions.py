"""How everything in the twin is doing, as somebody wishes: the actions of all parts that can be set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from labkit.twin.guests import Guests
from labkit.twin.guests.condition import GuestConditions
from labkit.twin.k3s.conditions import K3sConditions
from labkit.twin.k3s.system import K3s
from labkit.twin.nas.conditions import NasConditions
from labkit.twin.nas.system import Nas


def condition_actions(guests: Guests, k3s: K3s, nas: Nas) -> dict[str, Callable[[dict[str, Any]], Awaitable[Any]]]:
    """Return the actions that set the state of guests, cluster and NAS; those of Proxmox are a person's."""
    return GuestConditions(guests).actions | K3sConditions(k3s).actions | NasConditions(nas.content).actions
