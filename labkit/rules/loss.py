"""Is the lab lost, or only silent: what speaks against building it anew. Pure.

A machine that is there may hold the only copy of the newest data. So nothing is built beside machines whose state is
not known, nor in place of a cluster that could be started.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from labkit.checks.base import error
from labkit.facts.guests import GuestFacts
from labkit.facts.k3s import K3sFacts
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab
from labkit.lab.vmconfig import is_half_made
from labkit.plan import Finding


def check_loss(
    lab: Lab, proxmox: ProxmoxFacts, guests: GuestFacts, k3s: K3sFacts, coming: Collection[str]
) -> Iterator[Finding]:
    """Yield why this lab must not be built anew.

    Args:
        lab: what is wanted.
        proxmox: the VMs that are there.
        guests: what SSH showed of them.
        k3s: the cluster, if any answers.
        coming: machines that will be made.
    """
    if k3s.up:
        return
    for machine in lab.machines:
        if machine.name not in coming:
            yield from _check_machine(machine.name, proxmox, guests)
    yield from _check_holders(lab, guests, coming)


def _check_machine(name: str, proxmox: ProxmoxFacts, guests: GuestFacts) -> Iterator[Finding]:
    vm = proxmox.vm(name)
    if vm is None or is_half_made(proxmox.config(vm).values):
        return
    if vm.status != "running":
        yield error("loss.stopped", f"VM {name}", "it gone, or running", f"{vm}, {vm.status}: its disk may hold data",
                    "start it with provision-vms and see whether the cluster comes back; "
                    "delete it only when you know that nothing on it is needed")  # fmt: skip
    elif not guests.guest(name).reachable:
        yield error("loss.silent", f"VM {name}", "it gone, or an answer over SSH",
                    guests.guest(name).problem or "no answer",
                    "look at its console in Proxmox: a lab that is only silent is not rebuilt")  # fmt: skip


def _check_holders(lab: Lab, guests: GuestFacts, coming: Collection[str]) -> Iterator[Finding]:
    """A server with data whose API is silent: to be started or reset, unless this rebuild has only just founded it."""
    holders = [server.name for server in lab.servers if guests.guest(server.name).server_db]
    joined = [guest.name for guest in guests.guests if guest.cluster_ca and guest.name not in coming]
    just_founded = holders == [lab.servers[0].name] and joined == holders
    if holders and not just_founded:
        yield error("loss.cluster", "cluster", "no data of one on any server", f"etcd's on {', '.join(holders)}",
                    "its API is silent, its data is not lost: run bootstrap-k3s, which starts it, or restore-etcd",
                    )  # fmt: skip
