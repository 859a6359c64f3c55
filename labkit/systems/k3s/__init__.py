"""k3s: read the cluster, and carry out what the runbooks plan for it.

Names are looked up when they are used: reading the guests needs a part of this package only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.systems.k3s.apply import apply_change
    from labkit.systems.k3s.cluster import open_cluster
    from labkit.systems.k3s.etcd import read_etcd
    from labkit.systems.k3s.read import read_door, read_k3s

__all__ = ["apply_change", "open_cluster", "read_door", "read_etcd", "read_k3s"]

_PLACES = {
    "apply_change": "apply",
    "open_cluster": "cluster",
    "read_door": "read",
    "read_etcd": "etcd",
    "read_k3s": "read",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
