"""The checks of the health report: one registry, one module per area."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from labkit.checks.health.base import Area, Found, HealthCheck, Scene, health, registered

__all__ = ["Area", "Found", "HealthCheck", "Scene", "all_checks", "health"]


def all_checks() -> tuple[HealthCheck, ...]:
    """Return every health check, by area and id."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return registered()
