"""Longhorn in the twin: volumes with real bytes, backups in the real format on the NAS, and its REST service."""

from .apps import Apps
from .csi import LonghornProvisioner, closed_gate
from .hub import Hub, Pace
from .install import install
from .system import Longhorn, start

__all__ = ["Apps", "Hub", "Longhorn", "LonghornProvisioner", "Pace", "closed_gate", "install", "start"]
