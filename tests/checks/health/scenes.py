"""How tests of health checks look at one area: the lab of the seed at a fixed moment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.checks.health import Area, Scene
from labkit.checks.health.base import registered
from labkit.lab.loader import load_lab

NOW = datetime(2026, 5, 4, 6, 30, tzinfo=UTC)
LAB = load_lab(Path(__file__).parents[3] / "parameters" / "lab.yaml")
Row = tuple[str, str, str, str]


def found(area: Area, **facts: Any) -> list[Row]:
    """Return what the checks of an area whose facts are there find: id, severity, subject, got."""
    scene = Scene(LAB, facts, NOW)
    checks = [check for check in registered() if check.area is area and not check.missing(scene)]
    assert checks
    return [(f.id, str(f.severity), f.subject, f.got) for check in checks for f in check(scene)]
