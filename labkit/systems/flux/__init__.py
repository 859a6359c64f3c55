"""Flux in the lab's cluster: what is there, its installation, and the chain of what it reconciles."""

from __future__ import annotations

from labkit.systems.flux.apply import apply_change
from labkit.systems.flux.read import read_flux

__all__ = ["apply_change", "read_flux"]
