"""What machines that are about to be made will show: facts foreseen, so that one plan can go on from them. Pure."""

from __future__ import annotations

from collections.abc import Collection

from labkit.facts.guests import Guest, GuestFacts
from labkit.lab import Lab, Machine

USUAL_INTERFACE = "eth0"
"""What cloud-init of Proxmox calls the first network card of a VM."""
_USUAL_ARCH = "x86_64"
_MIB = 1 << 20


def foresee_guests(lab: Lab, guests: GuestFacts, coming: Collection[str]) -> GuestFacts:
    """Return the guests as they will be once the machines `coming` have been made; all others as they were seen."""
    rows = tuple(
        _fresh(lab, machine, guests) if machine.name in coming else guests.guest(machine.name)
        for machine in lab.machines
    )
    return guests.model_copy(update={"guests": rows})


def _fresh(lab: Lab, machine: Machine, guests: GuestFacts) -> Guest:
    """Return a machine right after its first boot: nothing of k3s, and none of what Longhorn needs, is on it."""
    address = str(machine.address)
    card = lab.network.vip_interface or _common(guests) or USUAL_INTERFACE
    return Guest(
        name=machine.name,
        address=address,
        reachable=True,
        host_key="ok",
        arch=next((guest.arch for guest in guests.guests if guest.arch), _USUAL_ARCH),
        memory=machine.memory * _MIB,
        disk_free=machine.disk * _MIB,
        packages={},
        addresses=(address,),
        interfaces={address: card},
        units={"k3s": "inactive", "k3s-agent": "inactive"},
    )


def _common(guests: GuestFacts) -> str:
    """Return what those that are there call the card of their address, when they all call it alike."""
    names = {guest.interfaces[guest.address] for guest in guests.guests if guest.address in guest.interfaces}
    return names.pop() if len(names) == 1 else ""
