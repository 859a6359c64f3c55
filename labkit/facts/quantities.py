"""Quantities as Kubernetes writes them: 500m, 1Gi, 2. Pure."""

from __future__ import annotations

import re

_FORM = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)")
_UNITS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
          "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60}  # fmt: skip


def parse_quantity(text: object) -> float:
    """Read a quantity as a number of base units; 0 for what is none."""
    match = _FORM.fullmatch(str(text).strip())
    if match is None or match[2] not in _UNITS:
        return 0.0
    try:
        return float(match[1]) * _UNITS[match[2]]
    except ValueError:
        return 0.0
