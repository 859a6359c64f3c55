"""Plan the lab's VMs: create, update, start, and destroy what was named. Pure."""

from __future__ import annotations

import base64
import difflib
import hashlib
from collections.abc import Iterable, Iterator

from labkit.checks.base import error, info, warning
from labkit.checks.proxmox import (
    check_clashes,
    check_hosts,
    check_quorum,
    check_storage,
    check_templates,
    missing_machines,
)
from labkit.checks.vms import check_drift, show_size
from labkit.errors import InputError, Mistake
from labkit.facts.proxmox import ProxmoxFacts, VmRow
from labkit.lab import Lab, Machine
from labkit.lab.pveformat import boot_disk
from labkit.lab.vmconfig import (
    config_differences,
    is_half_made,
    needs_restart,
    render_vm_config,
    show_value,
)
from labkit.plan import Action, Change, Finding, Plan, Risk

RUNBOOK = "provision-vms"
RESTARTS = "vm-restart"
"""The lane of all restarts: never two VMs out at once."""


def plan_vms(
    lab: Lab,
    facts: ProxmoxFacts,
    *,
    ssh_public_key: str,
    destroy: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> Plan:
    """Plan what makes the VMs that are there into the VMs of the lab file.

    Args:
        lab: what is wanted.
        facts: what was seen just now.
        ssh_public_key: the key that cloud-init lets in, one OpenSSH line.
        destroy: VMs with labkit's tag that are no longer in the lab and are to be deleted with their disks.
        only: plan these VMs only; all when empty.

    Raises:
        InputError: `only` names a VM that is not in the lab, or `destroy` one that is.
    """
    _check_names(lab, destroy, only)
    chosen = [m for m in lab.machines if not only or m.name in only]
    changes = [change for machine in chosen for change in _plan_machine(lab, machine, facts, ssh_public_key)]
    findings = [
        *_check_start(lab, facts, chosen, only),
        *(finding for machine in chosen for finding in check_drift(lab, machine, facts)),
        *_check_orphans(lab, facts, destroy),
    ]
    deletes = [_delete(vm) for name in dict.fromkeys(destroy) if (vm := _doomed(lab, facts, name))]
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=(*changes, *deletes), findings=tuple(findings))


def _check_start(lab: Lab, facts: ProxmoxFacts, chosen: list[Machine], only: tuple[str, ...]) -> Iterator[Finding]:
    """What keeps this plan from being applied."""
    missing = missing_machines(lab, facts, only)
    yield from check_quorum(lab, facts)
    yield from check_hosts(lab, facts, chosen)
    yield from check_templates(lab, facts, missing)
    yield from check_storage(lab, facts, missing)
    yield from check_clashes(lab, facts, chosen)


def _plan_machine(lab: Lab, machine: Machine, facts: ProxmoxFacts, key: str) -> Iterator[Change]:
    found = facts.named(machine.name)
    if not found:
        yield _create(machine, half_made=False)
    if len(found) != 1 or found[0].kind != "qemu":
        return
    vm, config = found[0], facts.config(found[0]).values
    if is_half_made(config):
        yield _create(machine, half_made=True)
    elif vm.status != "unknown":
        update = _update(lab, machine, vm, config, key)
        yield from [update] if update else []
        if vm.status == "stopped":
            yield _start(machine, needs=(update.id,) if update else ())


def _create(machine: Machine, *, half_made: bool) -> Change:
    after: dict[str, str | int | None] = {
        "host": machine.host,
        "template": machine.template,
        "storage": machine.storage,
        "cores": machine.cores,
        "memory": show_size(machine.memory),
        "disk": show_size(machine.disk),
        "address": str(machine.address),
        "bridge": machine.bridge,
        "role": machine.role,
    }
    if machine.vlan is not None:
        after["vlan"] = machine.vlan
    if machine.vmid is not None:
        after["vmid"] = machine.vmid
    return Change(
        system="proxmox",
        kind="vm",
        target=machine.name,
        action=Action.CREATE,
        before={"state": "half-made"} if half_made else {},
        after=after,
        lane=f"clone:{machine.host}/{machine.template}",
        note="left half-made by an earlier run: it is finished" if half_made else "",
    )


def _update(lab: Lab, machine: Machine, vm: VmRow, config: dict[str, str], key: str) -> Change | None:
    differences = config_differences(render_vm_config(lab, machine, key), config)
    before = {name: show_value(name, old) for name, (old, _) in differences.items()}
    after = {name: show_value(name, new) for name, (_, new) in differences.items()}
    if "sshkeys" in after:
        after["sshkeys"] = f"{before['sshkeys']} and {fingerprint(key)}"
    disk = boot_disk(config)
    if disk is not None and disk[1] < machine.disk:
        before["disk"], after["disk"] = show_size(disk[1]), show_size(machine.disk)
    if not after:
        return None
    restart = vm.status == "running" and needs_restart(after)
    return Change(
        system="proxmox",
        kind="vm",
        target=machine.name,
        action=Action.UPDATE,
        before=dict(before),
        after=dict(after),
        risk=Risk.DISRUPTIVE if restart else Risk.SAFE,
        lane=RESTARTS if restart else "",
        note="reboot: takes effect at the next start" if restart else "",
    )


def _start(machine: Machine, *, needs: tuple[str, ...]) -> Change:
    return Change(
        system="proxmox",
        kind="vm",
        target=machine.name,
        action=Action.ACT,
        before={"status": "stopped"},
        after={"status": "running"},
        needs=needs,
        note="start",
    )


def _delete(vm: VmRow) -> Change:
    return Change(
        system="proxmox",
        kind="vm",
        target=vm.name,
        action=Action.DELETE,
        before={"vmid": vm.vmid, "host": vm.node},
        risk=Risk.DESTRUCTIVE,
        note="the VM and all its disks are deleted",
    )


def orphans(lab: Lab, facts: ProxmoxFacts) -> tuple[VmRow, ...]:
    """Return the VMs with labkit's tag that are not in the lab, in the order of their VMIDs."""
    return tuple(vm for vm in facts.tagged(lab.proxmox.tag) if vm.name not in lab.vms and vm.kind == "qemu")


def _doomed(lab: Lab, facts: ProxmoxFacts, name: str) -> VmRow | None:
    found = facts.named(name)
    return found[0] if len(found) == 1 and found[0] in orphans(lab, facts) else None


def _check_orphans(lab: Lab, facts: ProxmoxFacts, destroy: tuple[str, ...]) -> Iterator[Finding]:
    for vm in orphans(lab, facts):
        if vm.name not in destroy:
            remedy = f"put it back into the lab file, or delete it: destroy={vm.name}"
            yield info("vm.orphan", f"VM {vm.name}", "every labkit VM in the lab file", str(vm), remedy)
    for name in dict.fromkeys(destroy):
        found = facts.named(name)
        if not found:
            got = f"none; orphans: {', '.join(vm.name for vm in orphans(lab, facts)) or 'none'}"
            remedy = "it is gone already, or the name is misspelt"
            yield warning("vm.destroy", f"VM {name}", "a VM to be deleted", got, remedy)
        elif _doomed(lab, facts, name) is None:
            got = ", ".join(str(vm) for vm in found)
            expected = f"one VM with the tag {lab.proxmox.tag}"
            yield error("vm.destroy", f"VM {name}", expected, got, "labkit deletes only what it made; do it by hand")


def _check_names(lab: Lab, destroy: Iterable[str], only: Iterable[str]) -> None:
    mistakes = [
        Mistake("parameters", 0, 0, "only", "a VM of the lab", name, _suggest(name, lab.vms))
        for name in only
        if name not in lab.vms
    ]
    mistakes += [
        Mistake("parameters", 0, 0, "destroy", "a VM that is no longer in the lab", name, "remove it there first")
        for name in destroy
        if name in lab.vms
    ]
    if mistakes:
        raise InputError(mistakes)


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def fingerprint(public_key: str) -> str:
    """Return the SHA256 fingerprint of an OpenSSH public key, as ssh-keygen shows it."""
    blob = base64.b64decode(public_key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
