"""Shut a VM down in good order for the maintenance of its host, and start it again."""

from __future__ import annotations

from labkit.lab import Lab
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.k3s.nodes import mark_down
from labkit.systems.proxmox.guest import wait_until_ready
from labkit.systems.proxmox.job import Job, find_vm, new_job
from labkit.systems.proxmox.power import start

SHUTDOWN_DEADLINE = 300.0
"""Lab seconds that a guest gets to go down: k3s ends its pods first."""


def apply_power(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Carry out a change of `plan_maintain`: `vm-down` or `vm-up`.

    Raises:
        StepFailed: the VM is not as it should be at the deadline.
    """
    job = new_job(lab, access, step, change.target)
    vm = find_vm(job)
    if vm is None:
        raise job.fail("a VM of that name", "none", "it was removed meanwhile: run again")
    job.at(vm)
    # The mark says that it was shut down for this: an interrupted run brings it back, and does not drain again.
    if change.kind == "vm-down":
        shut_down(job)
        mark_down(lab, access, change.target, job.node)
        return f"VM {job.vmid} on {job.node} is off"
    mark_down(lab, access, change.target, job.node)
    off = job.status() == "stopped"
    start(job)
    wait_until_ready(job, resolve_machine(lab, change.target), just_started=off)
    return f"VM {job.vmid} on {job.node} runs"


def shut_down(job: Job) -> None:
    """Shut a VM down in good order, unless it is off; it is never cut off.

    Raises:
        StepFailed: it is still running at the deadline.
    """
    if job.status() == "stopped":
        return
    job.step.say("shuts it down")
    job.write(
        "shutting it down",
        lambda: job.client.post(f"{job.path}/status/shutdown", timeout=int(SHUTDOWN_DEADLINE)),
        is_done=lambda: job.status() == "stopped",
    )
    job.wait(
        lambda: True if job.status() == "stopped" else None,
        what="it is stopped",
        deadline=SHUTDOWN_DEADLINE,
        every=1.0,
        last=job.status,
        causes="look at its console: something in it does not end; HA may start it again",
    )
