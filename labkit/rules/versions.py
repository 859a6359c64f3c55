"""Versions of k3s: v1.33.4+k3s1 and what lies between two of them. Pure."""

from __future__ import annotations

import functools
import re

from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:[-+]k3s(\d+))?")


def version_key(version: str) -> tuple[int, ...]:
    """Return what a version is sorted by; zeros for one that has another form."""
    match = _VERSION.match(version)
    return tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)


def compare_versions(one: str, other: str) -> int:
    """Return -1, 0 or 1: whether a version is lower than, equal to or higher than another."""
    a, b = version_key(one), version_key(other)
    return (a > b) - (a < b)


def minor(version: str) -> int:
    """Return the minor version: 33 for v1.33.4+k3s1."""
    return version_key(version)[1]


def lowest(versions: list[str]) -> str:
    """Return the lowest of several versions."""
    return min(versions, key=functools.cmp_to_key(compare_versions))


def cluster_version(lab: Lab, k3s: K3sFacts) -> str:
    """Return the version that a machine joins with: that of the servers, the lab's for a new cluster."""
    running = [node.version for node in k3s.nodes if node.server and node.version]
    return lowest(running) if running else lab.k3s.version
