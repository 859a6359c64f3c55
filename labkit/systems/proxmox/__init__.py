"""Proxmox VE: read a cluster, and carry out changes of its VMs."""

from __future__ import annotations

from labkit.systems.proxmox.apply import apply_change
from labkit.systems.proxmox.health import read_proxmox_health
from labkit.systems.proxmox.read import read_proxmox

__all__ = ["apply_change", "read_proxmox", "read_proxmox_health"]
