"""Where replicas go, rule by rule."""

from __future__ import annotations

import pytest

from labkit.twin.longhorn.placement import ANTI_AFFINITY, NO_NODE, NO_ROOM, NO_TAGS, Rules, Spot, choose

GIB = 1 << 30


def spot(node: str, zone: str = "", **more: int | tuple[str, ...]) -> Spot:
    given = {"maximum": 100 * GIB, "reserved": 30 * GIB, "used": 0, "scheduled": 0, **more}
    return Spot(node=node, zone=zone, disk=f"disk-{node}", disk_id=node, path="/var/lib/longhorn/", **given)  # type: ignore[arg-type]


THREE = [spot("a", "x"), spot("b", "x"), spot("c", "y")]


@pytest.mark.parametrize(
    ("spots", "size", "taken", "zones", "rules", "answer"),
    [
        (THREE, 10, (), (), Rules(), "a"),
        (THREE, 10, ("a",), ("x",), Rules(), "c"),
        (THREE, 10, ("a", "c"), ("x", "y"), Rules(), "b"),
        (THREE, 10, ("a", "c"), ("x", "y"), Rules(soft_zones=False), ANTI_AFFINITY),
        (THREE, 10, ("a", "b", "c"), ("x", "y"), Rules(), ANTI_AFFINITY),
        (THREE, 10, ("a", "b", "c"), ("x", "y"), Rules(soft_nodes=True), "a"),
        ([], 10, (), (), Rules(), NO_NODE),
        (THREE, 71, (), (), Rules(), NO_ROOM),
        (THREE, 71, (), (), Rules(over_provisioning=200), "a"),
        ([spot("a", used=80 * GIB)], 1, (), (), Rules(), NO_ROOM),
        ([spot("a", scheduled=65 * GIB), spot("b")], 10, (), (), Rules(), "b"),
        ([spot("a", scheduled=20 * GIB), spot("b", scheduled=10 * GIB)], 10, (), (), Rules(), "b"),
        (THREE, 10, (), (), Rules(disk_tags=("ssd",)), NO_TAGS),
        ([spot("a"), spot("b", tags=("ssd",))], 10, (), (), Rules(disk_tags=("ssd",)), "b"),
        ([spot("a"), spot("b", node_tags=("fast",))], 10, (), (), Rules(node_tags=("fast",)), "b"),
    ],
)
def test_choose(
    spots: list[Spot], size: int, taken: tuple[str, ...], zones: tuple[str, ...], rules: Rules, answer: str
) -> None:
    chosen = choose(spots, size * GIB, taken, zones, rules)
    assert (chosen.node if isinstance(chosen, Spot) else chosen) == answer
