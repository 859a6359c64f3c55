"""Is there room for the replicas of the volumes that are to be restored? Pure.

On nodes that are there, what Longhorn says of its disks counts; on nodes that are not made yet, the size of their VMs,
less what Longhorn keeps free on a disk that it finds by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labkit.checks.base import error, warning
from labkit.facts.longhorn import LonghornFacts
from labkit.facts.restore import WantedVolume
from labkit.lab import Lab
from labkit.plan import Finding

RESERVED = 0.3
"""The part of a disk that Longhorn keeps free on a node's own disk (storage-reserved-percentage-for-default-disk)."""
USUAL_REPLICAS = 3
_MIB, _GIB = 1 << 20, 1 << 30


def check_room(lab: Lab, wanted: Sequence[WantedVolume], longhorn: LonghornFacts | None) -> Iterator[Finding]:
    """Yield the volumes for which no node has room, and those that will have fewer replicas than they should.

    Args:
        lab: for the sizes of nodes that are not there yet.
        wanted: the volumes that are to be restored.
        longhorn: the cluster as it was seen; None without one.
    """
    free = _free(lab, longhorn)
    for one in sorted((w for w in wanted if w.backup is not None), key=lambda w: (-w.size, w.id)):
        size = max(one.size, one.claim.requested)
        count = _replicas(one, longhorn)
        placed = 0
        for node in sorted(free, key=lambda name: (-free[name], name))[:count]:
            if free[node] >= size:
                free[node] -= size
                placed += 1
        if placed < count:
            find = warning if placed else error
            expected = f"{count} nodes with {size / _GIB:.0f} GiB free each"
            remedy = "raise disk of some VMs in the lab file"
            yield find("restore.room", f"volume of claim {one.id}", expected, f"{placed}",
                       f"it is restored with fewer replicas; {remedy}" if placed else remedy)  # fmt: skip


def _free(lab: Lab, longhorn: LonghornFacts | None) -> dict[str, int]:
    """Bytes that replicas may still be scheduled on, by node; of nodes that are not there yet as their VM will be."""
    found = {
        machine.name: int(machine.disk * _MIB * (1 - RESERVED))
        for machine in lab.machines
        if not _is_kept_off(machine.taints)
    }
    if longhorn is None or not longhorn.installed:
        return found
    percent = int(longhorn.settings.get("storage-over-provisioning-percentage") or 100)
    for node in longhorn.nodes:
        disks = [disk for disk in node.disks if disk.schedulable] if node.ready and node.schedulable else []
        found[node.name] = sum((disk.maximum - disk.reserved) * percent // 100 - disk.scheduled for disk in disks)
    return found


def _is_kept_off(taints: Sequence[str]) -> bool:
    """Whether a taint keeps Longhorn off a node, unless its chart tolerates that."""
    return any(taint.endswith((":NoSchedule", ":NoExecute")) for taint in taints)


def _replicas(one: WantedVolume, longhorn: LonghornFacts | None) -> int:
    given = one.claim.parameters.get("numberOfReplicas")
    setting = longhorn.settings.get("default-replica-count") if longhorn is not None else None
    text = given or setting or ""
    return int(text) if text.isdecimal() else USUAL_REPLICAS
