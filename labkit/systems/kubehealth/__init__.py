"""What the health report wants to know of the cluster."""

from __future__ import annotations

from labkit.systems.kubehealth.read import read_kubernetes

__all__ = ["read_kubernetes"]
