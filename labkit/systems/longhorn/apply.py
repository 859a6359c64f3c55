"""Carry out one change on Longhorn: what does it stands in a table by the change's kind and action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from labkit.errors import LabError
from labkit.lab import Lab
from labkit.plan import Action, Change
from labkit.systems.access import Access, Step

Apply = Callable[[Lab, Access, Change, Step], str]

TABLE: Mapping[tuple[str, Action], str] = {
    ("backup-target", Action.ACT): "labkit.systems.longhorn.backups:apply_sync",
    ("backup", Action.CREATE): "labkit.systems.longhorn.backups:apply_backup",
    ("drill", Action.ACT): "labkit.systems.longhorn.drill:apply_drill",
    ("drill-leftover", Action.DELETE): "labkit.systems.longhorn.drill:apply_leftover",
    ("drill-backups", Action.DELETE): "labkit.systems.longhorn.drill:apply_replaced",
    ("restored-volume", Action.CREATE): "labkit.systems.longhorn.restore:apply_restored_volume",
    ("empty-volume", Action.CREATE): "labkit.systems.longhorn.restore:apply_empty_volume",
    ("volume-content", Action.ACT): "labkit.systems.longhorn.content:apply_content",
    ("restored-pv", Action.CREATE): "labkit.systems.longhorn.pvs:apply_pv",
    ("claim-volume", Action.UPDATE): "labkit.systems.longhorn.volumes:apply_claim",
    ("workload-down", Action.ACT): "labkit.systems.longhorn.holders:apply_down",
    ("workload-up", Action.ACT): "labkit.systems.longhorn.holders:apply_up",
    ("wake", Action.ACT): "labkit.systems.longhorn.wake:apply_wake",
}
"""By kind and action, `module:function`; the module is imported when it is needed."""


def apply_change(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make one change of Longhorn true, and return what is there now.

    Raises:
        StepFailed: it did not succeed; names the object, what was seen last, and the likely causes.
        SystemDown: the cluster or the NAS stopped answering.
    """
    place = TABLE.get((change.kind, change.action))
    if place is None:
        raise LabError(f"{change.id}: expected a change of Longhorn, got one that is not known")
    module, _, name = place.partition(":")
    apply: Apply = getattr(import_module(module), name)
    return apply(lab, access, change, step)
