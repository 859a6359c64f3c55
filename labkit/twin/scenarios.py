"""The state in which a twin starts: `empty` and `disaster` have the templates only, `provisioned` the lab's VMs too.

The others have running VMs; what is in those is made by `labkit.twin.k3s.scenario`.
"""

from __future__ import annotations

import time
from typing import Any

from labkit.lab.models import Machine
from labkit.lab.vmconfig import render_vm_config
from labkit.twin.proxmox.inventory import Vm
from labkit.twin.world import World

FIRST_TEMPLATE = 9000
TEMPLATE_SIZE = "3584M"


def make_vms(world: World) -> list[Vm]:
    """Return templates and VMs of the scenario that the twin was started with."""
    templates = make_templates(world)
    if world.options.scenario in {"empty", "disaster"}:
        return templates
    taken = {vm.vmid for vm in templates} | {m.vmid for m in world.lab.machines if m.vmid is not None}
    free = (number for number in range(100, 10**9) if number not in taken)
    return templates + [
        _finished_vm(world, machine, next(free) if machine.vmid is None else machine.vmid)
        for machine in world.lab.machines
    ]


def make_templates(world: World) -> list[Vm]:
    """Return one template for each host of the lab, named as the lab says."""
    lab, common = world.lab, world.lab.defaults.host
    wanted = {machine.vmid for machine in lab.machines}
    free = (number for number in range(FIRST_TEMPLATE, 10**9) if number not in wanted)
    found = []
    for name, host in lab.hosts.items():
        template = (host.template or common.template).replace("{host}", name)
        vmid, storage = next(free), host.storage or common.storage
        config = _template_config(world, vmid, template, storage, host.bridge or common.bridge)
        found.append(Vm(vmid, template, name, name, config=config, template=True))
    return found


def fakepve_guests(vms: list[Vm]) -> list[dict[str, Any]]:
    """Return VMs as fakepve's file wants them."""
    return [
        {
            "vmid": vm.vmid, "name": vm.name, "node": vm.node, "config": vm.config, "template": vm.template,
            "status": "running" if vm.running else "stopped",
        }
        for vm in vms
    ]  # fmt: skip


def _template_config(world: World, vmid: int, name: str, storage: str, bridge: str) -> dict[str, str]:
    disk = f"base-{vmid}-disk-0" if storage != "local" else f"{vmid}/base-{vmid}-disk-0.qcow2"
    return {
        "name": name, "template": "1", "agent": "enabled=1", "boot": "order=scsi0", "cores": "2",
        "cpu": "x86-64-v2-AES",
        "ide2": f"{storage}:vm-{vmid}-cloudinit,media=cdrom", "memory": "2048", "ostype": "l26",
        "net0": f"virtio={world.seed.mac(vmid, name, 'net0')},bridge={bridge}", "scsihw": "virtio-scsi-single",
        "scsi0": f"{storage}:{disk},discard=on,iothread=1,size={TEMPLATE_SIZE}", "serial0": "socket",
        "vga": "serial0", "smbios1": f"uuid={world.seed.uuid('smbios', vmid, name)}",
    }  # fmt: skip


def _finished_vm(world: World, machine: Machine, vmid: int) -> Vm:
    name, storage = machine.name, machine.storage
    config = _template_config(world, vmid, name, storage, machine.bridge)
    del config["template"]
    wanted = render_vm_config(world.lab, machine, world.ssh_public_key)
    net = wanted["net0"].removeprefix("model=virtio")
    disk = f"vm-{vmid}-disk-0" if storage != "local" else f"{vmid}/vm-{vmid}-disk-0.qcow2"
    size = f"{machine.disk // 1024}G" if machine.disk % 1024 == 0 else f"{machine.disk}M"
    config |= wanted | {
        "name": name, "net0": f"virtio={world.seed.mac(vmid, name, 'net0')}{net}",
        "scsi0": f"{storage}:{disk},discard=on,iothread=1,size={size}",
    }  # fmt: skip
    return Vm(vmid, name, machine.host, machine.host, config=config, running=True, started=time.time() - 86400,
              pool=world.lab.proxmox.pool or "")  # fmt: skip
