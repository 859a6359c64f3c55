"""Carry out one change of a plan."""

from __future__ import annotations

from labkit.errors import StepFailed
from labkit.lab import Lab, Machine
from labkit.lab.models import resolve_machine
from labkit.lab.vmconfig import config_differences, needs_restart, render_vm_config
from labkit.plan import Action, Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.known_hosts import forget_host, known_hosts_file
from labkit.systems.proxmox.create import create_vm, grow_disk, set_config
from labkit.systems.proxmox.guest import wait_until_ready
from labkit.systems.proxmox.job import Job, find_vm, new_job
from labkit.systems.proxmox.power import destroy, restart, start


def apply_change(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make one change of a plan true, and return what is there now.

    Args:
        lab: what is wanted.
        access: how Proxmox and the guests are reached.
        change: one of `plan_vms`.
        step: where progress is told.

    Raises:
        StepFailed: it did not succeed; names the VM, the expected, the got and the next step.
        SystemDown: Proxmox or a host stopped answering.
    """
    job = new_job(lab, access, step, change.target)
    if change.action is Action.CREATE:
        return create_vm(job, resolve_machine(lab, change.target))
    if change.action is Action.DELETE:
        return _delete(job, change)
    _find(job)
    machine = resolve_machine(lab, change.target)
    if change.action is Action.UPDATE:
        return _update(job, machine, change)
    return _start(job, machine)


def _find(job: Job) -> Job:
    vm = find_vm(job)
    if vm is None:
        raise job.fail("a VM of that name", "none", "it was removed meanwhile: run again")
    return job.at(vm)


def _update(job: Job, machine: Machine, change: Change) -> str:
    """Write what differs now, of what the plan named; restart when a running VM would not take it over."""
    config = job.config()
    if "disk" in change.after:
        config = grow_disk(job, machine, config)
    wanted = render_vm_config(job.lab, machine, ssh.public_key(job.lab, job.access))
    asked = {key: value for key, value in wanted.items() if key in change.after}
    values = {key: new for key, (_, new) in config_differences(asked, config.values).items()}
    running = job.status() == "running"
    if values:
        set_config(job, values)
    if running and needs_restart(values):
        restart(job)
        wait_until_ready(job, machine, just_started=True)
    left = config_differences(asked, job.config().values)
    if left:
        raise job.fail(f"{', '.join(left)} in force", "the old values, new ones pending", "restart it, then run again")
    return f"VM {job.vmid}: {', '.join(sorted(change.after))} as wanted"


def _start(job: Job, machine: Machine) -> str:
    wait_until_ready(job, machine, just_started=start(job))
    return f"VM {job.vmid} on {job.node} runs, {machine.address}"


def _delete(job: Job, change: Change) -> str:
    """Delete exactly the VM that the plan named; everything about it is looked at again before."""
    vm = find_vm(job)
    if vm is None:
        return "gone already"
    tag = job.lab.proxmox.tag
    if vm.vmid != change.before.get("vmid") or tag not in vm.tags or vm.name in job.lab.vms:
        raise StepFailed(
            f"VM {job.name}: expected VMID {change.before.get('vmid')} with the tag {tag}, outside the lab, got {vm} "
            f"with the tags {', '.join(vm.tags) or 'none'}; nothing was deleted",
            next_step="read the new plan",
        )
    addresses = _addresses(job.at(vm))
    destroy(job)
    forget_host(known_hosts_file(job.access.state), [job.name, *addresses])
    return f"VM {vm.vmid} deleted with its disks"


def _addresses(job: Job) -> list[str]:
    values = job.config().values
    parts = [part for key, value in values.items() if key.startswith("ipconfig") for part in value.split(",")]
    return [part.removeprefix("ip=").partition("/")[0] for part in parts if part.startswith("ip=")]
