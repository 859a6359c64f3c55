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
