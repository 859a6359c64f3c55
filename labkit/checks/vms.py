"""Checks on the lab's VMs: each exists once, is finished, runs, and is configured as the lab file says."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.checks.base import Check, error, info, warning
from labkit.facts.proxmox import ProxmoxFacts, VmRow
from labkit.lab import Lab, Machine
from labkit.lab.pveformat import boot_disk
from labkit.lab.vmconfig import config_differences, is_half_made, render_vm_config
from labkit.plan import Finding

REMEDY = "run provision-vms"


def vms_are_ready(lab: Lab) -> Check:
    """Return the check that every VM of the lab is there, runs, and is as the lab file says."""

    def find(facts: ProxmoxFacts) -> Iterator[Finding]:
        for machine in lab.machines:
            yield from check_vm(lab, machine, facts)
            yield from check_drift(lab, machine, facts)

    sentence = f"all {len(lab.vms)} VMs of the lab run as the lab file says"
    return Check("vms-ready", sentence, ("proxmox",), lambda facts: find(facts["proxmox"]))


def check_vm(lab: Lab, machine: Machine, facts: ProxmoxFacts) -> Iterator[Finding]:
    """Say what keeps one VM from being ready; SSH keys are left to the guest."""
    subject, found = f"VM {machine.name}", facts.named(machine.name)
    if len(found) != 1:
        got = ", ".join(str(vm) for vm in found) or "none"
        yield error("vm.exists", subject, f"one VM, on {machine.host}", got, REMEDY if not found else "remove one")
        return
    vm, config = found[0], facts.config(found[0]).values
    if is_half_made(config):
        yield error("vm.finished", subject, "a finished VM", "one left half-made", REMEDY)
        return
    if vm.status != "running":
        yield error("vm.running", subject, "it running", vm.status, REMEDY)
    wanted = {key: value for key, value in render_vm_config(lab, machine, "").items() if key != "sshkeys"}
    for key, (before, after) in config_differences(wanted, config).items():
        yield error("vm.config", subject, f"{key} {after}", before or "none", REMEDY)
    disk = boot_disk(config)
    if disk is None or disk[1] < machine.disk:
        got = "none" if disk is None else show_size(disk[1])
        yield error("vm.disk", subject, f"a disk of {show_size(machine.disk)}", got, REMEDY)


def check_drift(lab: Lab, machine: Machine, facts: ProxmoxFacts) -> Iterator[Finding]:
    """Say what labkit does not change by itself: it needs a person, or time."""
    vm = facts.vm(machine.name)
    if vm is None:
        return
    subject, config = f"VM {machine.name}", facts.config(vm)
    if vm.node != machine.host:
        why = "HA may have moved it; " if vm.ha else ""
        remedy = f"{why}migrate it back, or write host: {vm.node} in the lab file"
        yield warning("vm.host", subject, f"it on {machine.host}", f"it on {vm.node}", remedy)
    if machine.vmid not in (None, vm.vmid):
        remedy = f"a VMID never changes: write vmid: {vm.vmid} in the lab file"
        yield warning("vm.vmid", subject, f"VMID {machine.vmid}", str(vm.vmid), remedy)
    disk = boot_disk(config.values)
    if disk is not None and disk[1] > machine.disk:
        remedy = f"a disk is never shrunk: write disk: {show_size(disk[1])} in the lab file"
        yield warning("vm.disk", subject, f"a disk of {show_size(machine.disk)}", show_size(disk[1]), remedy)
    for other in facts.vms:
        if other.name == vm.name and other.vmid != vm.vmid and other.lock == "clone":
            remedy = f"as root on {other.node}: qm unlock {other.vmid} && qm destroy {other.vmid}"
            yield warning("vm.dead-clone", subject, "no clone that died half-way", str(other), remedy)
    yield from _check_state(lab, vm, subject, facts)


def _check_state(lab: Lab, vm: VmRow, subject: str, facts: ProxmoxFacts) -> Iterator[Finding]:
    config, wanted = facts.config(vm), render_vm_config(lab, _machine(lab, vm.name), "")
    foreign = sorted(set(config.pending) - set(wanted))
    if foreign:
        remedy = "restart the VM when it suits, or revert them in its Hardware and Options tabs"
        yield warning("vm.pending", subject, "no settings that wait for a restart", ", ".join(foreign), remedy)
    if vm.lock and not is_half_made(config.values):
        yield info("vm.lock", subject, "no lock", f"lock {vm.lock}", "changes wait until that operation has ended")
    if lab.proxmox.tag not in vm.tags and not is_half_made(config.values):
        expected = f"the tag {lab.proxmox.tag}"
        yield warning("vm.taken-over", subject, expected, "a VM that labkit did not make", "it is taken over")


def _machine(lab: Lab, name: str) -> Machine:
    return next(machine for machine in lab.machines if machine.name == name)


def show_size(mib: int) -> str:
    """Return MiB as the lab file writes it: `100 GiB`, `1536 MiB`."""
    return f"{mib // 1024} GiB" if mib % 1024 == 0 else f"{mib} MiB"
