"""Flux has its Kustomization back after a restore, unless that would start an app on what is not there yet."""

from __future__ import annotations

from labkit.errors import StepFailed
from labkit.lab import Lab
from labkit.plan import Action, Change
from labkit.systems.access import Access, Step
from labkit.systems.flux.apply import apply_change
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.longhorn.holders import find_holders


def apply_wake(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Resume a Kustomization, given as `namespace/name`, when none of its workloads is still scaled down for a restore.

    Raises:
        StepFailed: one is: Flux would scale it up, or make a claim that is being switched.
    """
    holders = find_holders(open_cluster(lab, access))
    held = [one.id for one in holders if one.held and one.kustomization == change.target]
    if held:
        raise StepFailed(
            f"Kustomization {change.target}: expected all its workloads up again, got scaled down: {', '.join(held)}; "
            "it stays suspended",
            next_step="run disaster-recovery again: it goes on with what failed, or gives the workloads back",
        )
    space, _, name = change.target.partition("/")
    resume = Change(system="flux", kind="kustomization", target=name, action=Action.UPDATE,
                    after={"suspend": False, "namespace": space})  # fmt: skip
    return apply_change(lab, access, resume, step)
