"""How a maintenance of a host ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.checks.base import Check, error
from labkit.checks.k3s import cluster_is_ready, nodes_are_in
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubernetes import DOWN
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab
from labkit.plan import Finding


def host_is_maintained(lab: Lab, *, phase: str) -> tuple[Check, ...]:
    """Return the checks after a phase: all is well again, or after `down` all that was not shut down is."""
    if phase != "down":
        return cluster_is_ready(lab), nodes_are_in(lab)

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        k3s: K3sFacts = facts["k3s"]
        proxmox: ProxmoxFacts = facts["proxmox"]
        for machine in lab.machines:
            node, vm = k3s.node(machine.name), proxmox.vm(machine.name)
            off = vm is None or vm.status == "stopped"
            if node is not None and node.annotations.get(DOWN) and not off:
                yield error("maintain.down", f"VM {machine.name}", "it off", "running", "run maintain-host again")
            elif node is not None and not node.annotations.get(DOWN) and not node.ready:
                yield error("maintain.others", f"node {machine.name}", "a ready node", node.problem or "not ready",
                            "mend it before you work on the host")  # fmt: skip

    sentence = "the VMs of the host are off, all other nodes are ready"
    return (Check("maintain.down", sentence, ("k3s", "proxmox"), find),)
