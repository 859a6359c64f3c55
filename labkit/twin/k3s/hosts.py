"""From a guest to k3s on it, for commands that know only the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest
    from labkit.twin.k3s.host import Host

_hosts: WeakKeyDictionary[Guest, Host] = WeakKeyDictionary()


def enter(guest: Guest, host: Host) -> Host:
    """Remember k3s on a guest."""
    _hosts[guest] = host
    return host


def host_of(guest: Guest) -> Host | None:
    """Return k3s on a guest; None in a twin without k3s."""
    return _hosts.get(guest)
