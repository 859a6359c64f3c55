"""What faults can be aimed at: the hosts, VMs and storages of a lab; a slip in a name must not pass in silence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from labkit.errors import InputError, Mistake
from labkit.lab.mistakes import guess
from labkit.lab.models import Lab
from labkit.twin.ailments import AILMENTS
from labkit.twin.faults import ActiveFault, parse_fault

LOCAL = "local"
"""The storage for files that every host has."""


def storages_of(lab: Lab, host: str) -> tuple[str, ...]:
    """Return the storages of a host of the lab: `local`, and the one that holds the disks."""
    wanted = lab.hosts[host].storage or lab.defaults.host.storage
    return (LOCAL,) if wanted == LOCAL else (LOCAL, wanted)


def unknown_target(fault: str, what: str, known: Iterable[str], got: str) -> InputError:
    """Return the error for a fault that is aimed at nothing: it names what there is, and the nearest."""
    options = sorted(set(known))
    expected = f"{what} ({', '.join(options) or 'there is none'})"
    return InputError([Mistake("fault", 0, 0, fault, expected, got, guess(got, options))])


class Targets:
    """Check what faults are aimed at.

    Args:
        lab: its hosts, VMs and storages can be hit.
        more_vms: names of VMs that are there beside the lab's.

    Attributes:
        further: checks of parts of the twin that know what else is there.
    """

    def __init__(self, lab: Lab, more_vms: Callable[[], Collection[str]] = frozenset) -> None:
        self._lab = lab
        self.more_vms = more_vms
        self.further: list[Callable[[ActiveFault], None]] = []

    def check(self, fault: ActiveFault) -> None:
        """Raise InputError when a host, VM or storage that a fault names is not there, or what others know of."""
        self._check(fault)
        for check in self.further:
            check(fault)

    def _check(self, fault: ActiveFault) -> None:
        lab, where = self._lab, f"of lab {self._lab.name}"
        given = dict(zip(fault.fault.arguments, fault.arguments, strict=False))
        vms = {*lab.vms, *self.more_vms()}
        known = {"HOST": ("a host", lab.hosts), "VM": ("a VM", vms), "NODE": ("a node", lab.vms)}
        for word, (what, names) in known.items():
            if word in given and given[word] not in names:
                raise unknown_target(fault.fault.name, f"{what} {where}", names, given[word])
        if "AILMENT" in given and given["AILMENT"] not in AILMENTS:
            raise unknown_target(fault.fault.name, "an ailment", AILMENTS, given["AILMENT"])
        if "STORAGE" in given:
            hosts = [given["HOST"]] if "HOST" in given else list(lab.hosts)
            names = [name for host in hosts for name in storages_of(lab, host)]
            if given["STORAGE"] not in names:
                what = f"a storage of host {hosts[0]}" if "HOST" in given else f"a storage {where}"
                raise unknown_target(fault.fault.name, what, names, given["STORAGE"])


def check_faults(lab: Lab, faults: Iterable[str]) -> None:
    """Raise InputError for the first fault that does not exist, or is aimed at nothing in the lab."""
    targets = Targets(lab)
    for text in faults:
        targets.check(parse_fault(text))
