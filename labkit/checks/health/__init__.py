"""The checks of the health report: one registry, one module per area."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from labkit.checks.health.base import HISTORY, Area, Found, HealthCheck, Scene, health, registered

__all__ = ["HISTORY", "Area", "Found", "HealthCheck", "Scene", "all_checks", "health", "needed_systems"]


def all_checks() -> tuple[HealthCheck, ...]:
    """Return every health check, by area and id."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return registered()


def needed_systems() -> tuple[str, ...]:
    """Return the names of the readers whose facts any check needs, in the order of the checks."""
    return tuple(dict.fromkeys(name for check in all_checks() for name in check.reads if name != HISTORY))
