"""The virtual address of the API: kube-vip's manifest on every server, and the wait until the address answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labkit.facts.guests import GuestFacts, VipManifest
from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab, Machine
from labkit.lab.kubevip import deploys_kube_vip, digest, manifest
from labkit.plan import Action, Change, Risk

KIND = "kube-vip"


class VirtualAddress:
    """What is to be done for the virtual address of a lab; nothing in a lab without one.

    Attributes:
        wanted: the manifest that each server is to have; None when labkit leaves the address alone, because there is
            none, the lab file says so, or someone else serves it already.
    """

    def __init__(self, lab: Lab, guests: GuestFacts, k3s: K3sFacts) -> None:
        self._lab, self._guests, self._k3s = lab, guests, k3s
        ours = any(guest.kube_vip is not None for guest in guests.guests)
        self.wanted = wanted_manifest(lab, guests) if deploys_kube_vip(lab) and (ours or not k3s.vip) else None

    def manifests(self, machine: Machine, needs: Iterable[str] = ()) -> Iterator[Change]:
        """Put the manifest on a server, where it lacks or differs; before k3s first starts there, if it has not yet."""
        guest = self._guests.guest(machine.name)
        if self.wanted is None or machine.role != "server" or not guest.reachable or guest.kube_vip == self.wanted:
            return
        seen = guest.kube_vip
        yield Change(
            system="k3s",
            kind=KIND,
            target=machine.name,
            action=Action.CREATE if seen is None else Action.UPDATE,
            before={} if seen is None else seen.model_dump(mode="json"),
            after=self.wanted.model_dump(mode="json"),
            risk=Risk.SAFE if seen is None else Risk.DISRUPTIVE,
            needs=tuple(needs),
            note="k3s deploys it" if seen is None else "the API is away from the virtual address for seconds",
        )

    def answers(self, changes: Iterable[Change]) -> Iterator[Change]:
        """Wait until the address answers as this cluster, once all that it takes has been done."""
        needs = [change.id for change in changes]
        there = any(self._guests.guest(server.name).kube_vip for server in self._lab.servers)
        deployed = there or any(change.kind == KIND for change in changes)
        if self.wanted is not None and deployed and not self._k3s.vip:
            yield Change(system="k3s", kind="vip", target=str(self._lab.network.vip), action=Action.ACT,
                         after={"answers": True}, needs=tuple(needs), note="the API, at that address")  # fmt: skip


def wanted_manifest(lab: Lab, guests: GuestFacts) -> VipManifest:
    """Return what the manifest is to say; the interface is empty when the servers do not all call it alike."""
    address, version = str(lab.network.vip), lab.k3s.kube_vip
    interface = lab.network.vip_interface or _common_interface(lab, guests)
    name = digest(manifest(address, version, interface))
    return VipManifest(address=address, interface=interface, version=version, digest=name)


def _common_interface(lab: Lab, guests: GuestFacts) -> str:
    seen = {guests.guest(server.name).interfaces.get(str(server.address)) for server in lab.servers}
    names = {name for name in seen if name}
    return names.pop() if len(names) == 1 else ""
