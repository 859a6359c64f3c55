"""Things that ail real labs, by name: each can be planted in any twin, and the scenario `ailing` has all of them."""

from __future__ import annotations

from labkit.twin.ailments.ailment import Ailment, Step
from labkit.twin.ailments.cluster import IN_CLUSTER
from labkit.twin.ailments.machines import OF_MACHINES
from labkit.twin.ailments.storage import OF_STORAGE

__all__ = ["AILMENTS", "Ailment", "Step"]

AILMENTS: dict[str, Ailment] = {one.name: one for one in (*OF_MACHINES, *IN_CLUSTER, *OF_STORAGE)}
"""Every ailment by its name."""
