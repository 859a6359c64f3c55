"""The systems by name: how each is read, and how its changes are applied. Imported only when used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from labkit.errors import LabError
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step

Read = Callable[..., Any]
ApplyChange = Callable[[Lab, Access, Change, Step], str]

READERS: dict[str, str] = {
    "proxmox": "labkit.systems.proxmox:read_proxmox",
    "proxmox-health": "labkit.systems.proxmox:read_proxmox_health",
    "endpoints": "labkit.systems.endpoints:read_endpoints",
    "references": "labkit.systems.references:read_references",
    "guests": "labkit.systems.guests:read_guests",
    "guest-health": "labkit.systems.guesthealth:read_guest_health",
    "k3s": "labkit.systems.k3s:read_k3s",
    "kubernetes": "labkit.systems.kubehealth:read_kubernetes",
    "etcd": "labkit.systems.k3s:read_etcd",
    "join-door": "labkit.systems.k3s:read_door",
    "git": "labkit.systems.gitread:read_git",
    "flux": "labkit.systems.flux:read_flux",
    "apps": "labkit.systems.apps:read_apps",
    "routes": "labkit.systems.routes:read_routes",
    "schedules": "labkit.systems.schedules:read_schedules",
    "nas": "labkit.systems.nas:read_nas",
    "certificates": "labkit.systems.certificates:read_certificates",
    "longhorn": "labkit.systems.longhorn:read_longhorn",
    "flux-if-any": "labkit.systems.remains:read_flux_if_any",
    "longhorn-if-any": "labkit.systems.remains:read_longhorn_if_any",
    "store": "labkit.systems.backups:read_store",
    "verified": "labkit.systems.verified:read_verified",
    "holders": "labkit.systems.longhorn.holders:read_holders",
}
APPLIERS: dict[str, str] = {
    "proxmox": "labkit.systems.proxmox:apply_change",
    "guests": "labkit.systems.guests:apply_guest",
    "k3s": "labkit.systems.k3s:apply_change",
    "power": "labkit.systems.power:apply_power",
    "git": "labkit.systems.gitchange:apply_git",
    "flux": "labkit.systems.flux:apply_change",
    "apps": "labkit.systems.apps:apply_app",
    "longhorn": "labkit.systems.longhorn:apply_change",
    "recovery": "labkit.systems.recovery:apply_recovery",
}
PROVIDED: dict[str, str] = {
    "ssh_public_key": "labkit.systems.ssh:public_key",
    "protected": "labkit.run.gate:is_protected",
}
"""Wants that come from elsewhere than the notebook: a planner that has such a parameter gets it from here."""


def reader(name: str) -> Read:
    """Return the function that reads a system."""
    read: Read = _find(READERS, name)
    return read


def read(name: str, lab: Lab, access: Access, asked: Mapping[str, Any]) -> Any:
    """Read a system, with what the run asks for as far as its reader has such an argument."""
    function = reader(name)
    known = inspect.signature(function).parameters if asked else {}
    return function(lab, access, **{key: value for key, value in asked.items() if key in known})


def applier(name: str) -> ApplyChange:
    """Return the function that applies a change of a system."""
    apply: ApplyChange = _find(APPLIERS, name)
    return apply


def provider(name: str) -> Callable[[Lab, Access], Any]:
    """Return the function that supplies a planner's parameter."""
    provide: Callable[[Lab, Access], Any] = _find(PROVIDED, name)
    return provide


def _find(table: dict[str, str], name: str) -> Any:
    if name not in table:
        raise LabError(f"system {name!r}: expected one of {', '.join(sorted(table))}")
    module, _, function = table[name].partition(":")
    return getattr(import_module(module), function)
