"""Where a replica goes: room, zones and nodes. Pure rules on plain numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

NO_ROOM = "insufficient storage"
NO_NODE = "nodes are unavailable"
NO_TAGS = "tags not fulfilled"
ANTI_AFFINITY = "hard affinity cannot be satisfied"


@dataclass(frozen=True)
class Spot:
    """A disk of a node that may take replicas; sizes in bytes.

    `used` is what is taken on the disk now, `scheduled` what the replicas on it may grow to.
    """

    node: str
    zone: str
    disk: str
    disk_id: str
    path: str
    maximum: int
    reserved: int
    used: int
    scheduled: int
    tags: tuple[str, ...] = ()
    node_tags: tuple[str, ...] = ()

    def has_room(self, size: int, over_provisioning: int, minimal: int) -> bool:
        """Tell whether a replica of that size fits, by the percentages of over-provisioning and minimal rest."""
        allowed = (self.maximum - self.reserved) * over_provisioning // 100
        free_enough = self.maximum - self.used > self.maximum * minimal // 100
        return free_enough and self.scheduled + size <= allowed


@dataclass(frozen=True)
class Rules:
    """What the settings and the volume ask for."""

    soft_nodes: bool = False
    soft_zones: bool = True
    over_provisioning: int = 100
    minimal: int = 25
    node_tags: tuple[str, ...] = ()
    disk_tags: tuple[str, ...] = ()


def choose(
    spots: Sequence[Spot], size: int, taken: Collection[str], zones: Collection[str], rules: Rules
) -> Spot | str:
    """Return the spot for one more replica, or why there is none.

    Args:
        spots: the disks that take replicas.
        size: of the volume, in bytes.
        taken: the nodes that have a replica of it.
        zones: the zones that have one.
        rules: of anti-affinity and room.
    """
    fitting = [s for s in spots if set(rules.node_tags) <= set(s.node_tags) and set(rules.disk_tags) <= set(s.tags)]
    roomy = [s for s in fitting if s.has_room(size, rules.over_provisioning, rules.minimal)]
    if not roomy:
        return NO_NODE if not spots else NO_ROOM if fitting else NO_TAGS
    fresh = [s for s in roomy if s.node not in taken]
    elsewhere = [s for s in fresh if s.zone not in zones]
    if elsewhere:
        return _roomiest(elsewhere)
    if fresh and rules.soft_zones:
        return _roomiest(fresh)
    if rules.soft_nodes and rules.soft_zones:
        return _roomiest(roomy)
    return ANTI_AFFINITY


def _roomiest(spots: Sequence[Spot]) -> Spot:
    return min(spots, key=lambda s: (s.scheduled - s.maximum, s.node, s.disk))
