"""Learn a guest's SSH host key through the guest agent, so that no first connection is on trust."""

from __future__ import annotations

from labkit.lab import Lab, Machine
from labkit.systems.access import Access, Step
from labkit.systems.known_hosts import known_hosts_file, store_host_keys
from labkit.systems.proxmox.agent import read_ssh_keys
from labkit.systems.proxmox.job import Job, find_vm, new_job

KEY_DEADLINE = 120.0


def learn_host_key(lab: Lab, access: Access, machine: Machine, step: Step | None = None) -> None:
    """Read a VM's SSH host key through its guest agent and store it as known.

    Raises:
        StepFailed: there is no such VM, or its agent does not tell the key.
        SystemDown: Proxmox does not answer.
    """
    job = new_job(lab, access, step or Step(), machine.name)
    vm = find_vm(job)
    if vm is None:
        raise job.fail("a VM, to read its SSH host key", "none", "labkit run provision-vms")
    store_key(job.at(vm), machine)


def store_key(job: Job, machine: Machine) -> None:
    """Read the SSH host key of a job's VM and store it under its name and address."""
    keys = job.wait(
        lambda: read_ssh_keys(job.client, job.path) or None,
        what="its SSH host key, read through the guest agent",
        deadline=KEY_DEADLINE,
        last=lambda: "no key file, or no answer from the agent",
        causes="look at the VM's console: is cloud-init still making the keys, is qemu-guest-agent running?",
    )
    store_host_keys(known_hosts_file(job.access.state), (machine.name, str(machine.address)), keys)
