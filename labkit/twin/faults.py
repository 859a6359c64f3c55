"""Faults by name: what each one does, and which of them are on.

A fault is written `name`, `name:argument` or `name:argument:argument`. Some are hiccups that count down and are
then over; the others last until they are cleared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from labkit.errors import InputError, Mistake


@dataclass(frozen=True)
class Fault:
    """One thing that can go wrong: its name, its arguments, a sentence, and how often it strikes.

    `strikes` is how often it happens before it is over by itself; 0 means until it is cleared. When `counted`,
    the first argument may be another number of strikes.
    """

    name: str
    sentence: str
    arguments: tuple[str, ...] = ()
    needed: int = 0
    strikes: int = 0

    @property
    def form(self) -> str:
        """How it is written, arguments that may be left out in brackets."""
        parts = [f":{word}" if n < self.needed else f"[:{word}]" for n, word in enumerate(self.arguments)]
        return self.name + "".join(parts)

    @property
    def duration(self) -> str:
        """Say how long it lasts."""
        times = f"{self.strikes} times" if self.strikes > 1 else "once"
        return f"{times} unless told otherwise" if self.strikes else "until cleared"


_ALL = (
    Fault("template-locked", "A clone is answered with a lock time-out of its template.", ("N",), strikes=2),
    Fault("clone-fails", "A clone begins, and its task ends in an error; the new VM is removed.", ("N",), strikes=1),
    Fault("clone-dies", "A clone's task dies half-way and leaves a VM with lock=clone.", ("N",), strikes=1),
    Fault("no-worker", "A write is answered with `got no worker upid` and not carried out.", ("N",), strikes=2),
    Fault("no-worker-done", "A write is answered with `got no worker upid`, yet is carried out.", ("N",), strikes=1),
    Fault("gateway-timeout", "A write is answered with 596 while its effect goes on.", ("N",), strikes=1),
    Fault("host-down", "A Proxmox host is off: its API refuses, others answer 595 for it, its VMs are gone.",
          ("HOST",), 1),
    Fault("no-quorum", "The cluster has no quorum: every write is refused."),
    Fault("storage-full", "A storage has no room left: clones onto it fail.", ("STORAGE", "HOST"), 1),
    Fault("slow", "Every answer of Proxmox takes so many milliseconds more.", ("MS",), 1),
    Fault("closing", "Every Nth request to Proxmox has its connection closed in the middle.", ("N",)),
    Fault("vmid-taken", "The next free VMID is taken by someone else right after it was told.", ("N",), strikes=1),
    Fault("vm-locked", "A VM is locked by a backup.", ("VM",), 1),
    Fault("missing-privilege", "The API tokens lack a privilege.", ("PRIVILEGE",), 1),
    Fault("wrong-token", "Proxmox does not accept the API tokens."),
    Fault("agent-silent", "The guest agent of a VM does not answer.", ("VM",), 1),
    Fault("wrong-address", "From its next boot on, a VM has another address than it was given.", ("VM",), 1),
    Fault("cloud-init-error", "From the next boot on, cloud-init of a VM ends in an error.", ("VM",), 1),
    Fault("task-warnings", "Every task that goes well ends with `WARNINGS: 1`."),
    Fault("ssh-silent", "The SSH port of a VM takes connections and says nothing.", ("VM",), 1),
    Fault("clock-off", "The clock of a VM is so many seconds ahead.", ("VM", "SECONDS"), 2),
    Fault("disk-full", "The disk of a VM is full: nothing can be written on it.", ("VM",), 1),
    Fault("ssh-drops", "The SSH connections of a VM break in the middle of the k3s installer.",
          ("VM",), 1, strikes=1),
    Fault("installer-download-fails", "The k3s installer cannot download k3s.", ("N",), strikes=1),
    Fault("k3s-wrong-token", "The servers take the token of a VM that wants to join, or of all, for a wrong one.",
          ("VM",)),
    Fault("k3s-dies-after-install", "k3s on a VM ends with an error right after it was installed, and at each start.",
          ("VM",), 1),
    Fault("node-not-ready", "The node of a VM never gets Ready: its network plugin does not come up.", ("VM",), 1),
    Fault("api-slow", "Every answer of the Kubernetes API takes so many milliseconds more.", ("MS",), 1),
    Fault("api-closing", "Every Nth request to the Kubernetes API has its connection closed; every 3rd without N.",
          ("N",)),
    Fault("git-unreachable", "The Git host refuses connections."),
    Fault("git-branch-moves", "Somebody else pushes right before the next push.", ("N",), strikes=1),
    Fault("wrong-age-key", "Somebody has encrypted a secret in the repository for another age key."),
    Fault("kustomization-broken", "Somebody has pushed a change with which a Kustomization does not build.",
          ("KUSTOMIZATION",), 1),
    Fault("chart-fails", "Every install and upgrade of a chart or release fails.", ("CHART",), 1),
    Fault("nas-unreachable", "The NAS answers nobody: neither its API nor NFS."),
    Fault("nfs-empty", "The export of the NAS is empty for so many twin seconds.", ("SECONDS",), 1),
    Fault("backup-corrupt", "A byte is flipped in a block of the newest backup of a volume, or of all.",
          ("VOLUME",), strikes=1),
    Fault("longhorn-slow", "Everything that Longhorn does takes so many times as long.", ("FACTOR",), 1),
    Fault("replica-short", "A node takes no replicas, so that volumes are short of them.", ("NODE",)),
    Fault("ailing", "Something is wrong with the lab that a health report must find: `labkit twin ailments`.",
          ("AILMENT",), 1),
    Fault("volume-degraded", "A volume has lost a replica and does not get it back.", ("NAME",), 1),
)  # fmt: skip
LATE = frozenset({"backup-corrupt", "nfs-empty", "nas-unreachable", "longhorn-slow", "replica-short"})
"""Faults that a rehearsal has come with the loss of everything: earlier they would only keep it from that point."""
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
"""Every fault of the twin, by name."""


@dataclass
class ActiveFault:
    """A fault that is on: its arguments, and how many strikes are left (None: until cleared)."""

    fault: Fault
    arguments: tuple[str, ...]
    left: int | None

    @property
    def text(self) -> str:
        """The fault as it was written."""
        return ":".join([self.fault.name, *self.arguments])


class Faults:
    """The faults that are on, and the parts of the twin that follow them.

    Args:
        check: raises InputError for a fault that is aimed at what is not there.
    """

    def __init__(self, check: Callable[[ActiveFault], None] = lambda _fault: None) -> None:
        self._check = check
        self._active: dict[str, ActiveFault] = {}
        self._followers: list[Callable[[], Awaitable[None]]] = []

    def follow(self, follower: Callable[[], Awaitable[None]]) -> None:
        """Have `follower` called by `settle`: it brings its part of the twin in line with the faults."""
        self._followers.append(follower)

    async def settle(self) -> None:
        """Bring all parts of the twin in line with the faults."""
        for follower in self._followers:
            await follower()

    def set(self, text: str) -> None:
        """Switch a fault on; raise InputError when there is none of that name, or its arguments do not fit."""
        fault = parse_fault(text)
        self._check(fault)
        self._active[fault.text] = fault

    def clear(self, text: str) -> bool:
        """Switch off one fault, or all of a name; return whether any was on."""
        gone = [key for key, fault in self._active.items() if text in {key, fault.fault.name}]
        for key in gone:
            del self._active[key]
        return bool(gone)

    def __iter__(self) -> Iterator[ActiveFault]:
        return iter(list(self._active.values()))

    def active(self) -> list[str]:
        """Return the faults that are on, as they were written."""
        return [fault.text for fault in self._active.values()]

    def has(self, name: str, *arguments: str) -> bool:
        """Tell whether a fault is on whose first arguments are these."""
        return any(given[: len(arguments)] == arguments for given in self.arguments(name))

    def arguments(self, name: str) -> list[tuple[str, ...]]:
        """Return the arguments of each fault of a name that is on."""
        return [fault.arguments for fault in self._active.values() if fault.fault.name == name]

    def strike(self, name: str, *arguments: str) -> bool:
        """Use up one strike of a fault (with these first arguments) that counts down; return whether there was one."""
        for key, fault in list(self._active.items()):
            fits = fault.fault.name == name and fault.arguments[: len(arguments)] == arguments
            if fits and fault.left is not None:
                fault.left -= 1
                if fault.left <= 0:
                    del self._active[key]
                return True
        return False


def parse_fault(text: str) -> ActiveFault:
    """Read `name[:argument]...`; raise InputError that says what is expected."""
    name, *arguments = text.split(":")
    fault = FAULTS.get(name)
    if fault is None:
        raise InputError([Mistake("fault", 0, 0, name, "one of " + ", ".join(sorted(FAULTS)), "an unknown name")])
    if not fault.needed <= len(arguments) <= len(fault.arguments) or not all(arguments):
        raise InputError([Mistake("fault", 0, 0, name, fault.form, text)])
    for word, value in zip(fault.arguments, arguments, strict=False):
        if word in {"N", "MS"} and (not value.isdecimal() or int(value) < 1):
            raise InputError([Mistake("fault", 0, 0, name, f"a whole number above zero for {word}", value)])
        if word in {"SECONDS", "FACTOR"} and not _is_number(value):
            raise InputError([Mistake("fault", 0, 0, name, f"a number for {word}", value)])
    left = None
    if fault.strikes:
        left = int(arguments[0]) if arguments and fault.arguments[0] == "N" else fault.strikes
    return ActiveFault(fault, tuple(arguments), left)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
