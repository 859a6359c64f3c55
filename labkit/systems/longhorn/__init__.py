"""Longhorn: what it has, what is bound to its volumes, and its backups."""

from labkit.systems.longhorn.apply import apply_change
from labkit.systems.longhorn.read import read_longhorn

__all__ = ["apply_change", "read_longhorn"]
