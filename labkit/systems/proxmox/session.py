"""What the calls of one run share: connections, the task watcher, and the VMIDs given out.

One session belongs to one `Access`; it is made at the first use and goes when the access goes.
"""

from __future__ import annotations

import threading
import weakref

from labkit.facts.proxmox import VmRow
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.proxmox.client import Client
from labkit.systems.proxmox.rows import parse_resources, parse_vm
from labkit.systems.proxmox.tasks import Tasks

_sessions: dict[tuple[int, str], Session] = {}
_guard = threading.Lock()


class Session:
    """One run's connections to one Proxmox cluster; safe to use from many threads.

    Attributes:
        vmids: which VMID a missing VM gets.
        boot: lab seconds that the last VM took from its start to an answer of its agent; 0 before the first.
    """

    def __init__(self, lab: Lab, access: Access) -> None:
        self._lab = lab
        # The access must be free to go: it is what ends this session.
        self._access = weakref.ref(access)
        self._guard = threading.RLock()
        self._reader: Client | None = None
        self._writer: Client | None = None
        self._tasks: Tasks | None = None
        self.vmids = Vmids(lab, self)
        self.boot = 0.0

    @property
    def reader(self) -> Client:
        """Calls with the token that only reads, or with the writing one when there is no other."""
        with self._guard:
            if self._reader is None:
                token = self._lab.proxmox.read_token or self._lab.proxmox.token
                self._reader = Client(self._lab, self._alive(), token)
            return self._reader

    @property
    def writer(self) -> Client:
        """Calls with the token that writes; its secret is resolved at the first use."""
        with self._guard:
            if self._writer is None:
                self._writer = Client(self._lab, self._alive(), self._lab.proxmox.token)
            return self._writer

    @property
    def tasks(self) -> Tasks:
        """The one watcher of all tasks that are waited for."""
        with self._guard:
            if self._tasks is None:
                self._tasks = Tasks(self.writer, self._alive().clock)
            return self._tasks

    @property
    def requests(self) -> int:
        """How many requests were sent so far, by both clients."""
        clients = [client for client in (self._reader, self._writer) if client is not None]
        return sum(client.calls.total() for client in clients)

    def list_vms(self) -> tuple[VmRow, ...]:
        """Every guest of the cluster, read now."""
        rows = parse_resources(self.writer.get("cluster/resources", type="vm"))["vm"]
        return tuple(sorted((parse_vm(row) for row in rows), key=lambda vm: vm.vmid))

    def _alive(self) -> Access:
        access = self._access()
        if access is None:
            raise RuntimeError("a session outlived its access")
        return access


class Vmids:
    """Give out VMIDs: one per VM that is missing, in the order of the lab file, so that a run repeats itself."""

    def __init__(self, lab: Lab, session: Session) -> None:
        self._lab = lab
        self._session = session
        self._given: dict[str, int] = {}
        self._refused: set[int] = set()
        self._lowest = 0
        self._guard = threading.Lock()

    def of(self, name: str) -> int:
        """Return the VMID that a missing VM gets; the same one each time it is asked for."""
        with self._guard:
            if name not in self._given:
                self._give_out(name)
            return self._given[name]

    def another(self, name: str) -> int:
        """Return another VMID, because somebody else took the one that was given out."""
        with self._guard:
            self._refused.add(self._given.pop(name))
            self._give_out(name)
            return self._given[name]

    def _give_out(self, wanted: str) -> None:
        if not self._lowest:
            self._lowest = int(self._session.writer.get("cluster/nextid"))
        vms = self._session.list_vms()
        there = {vm.name for vm in vms if vm.lock != "clone"} - {wanted}
        fixed = {vm.vmid for vm in self._lab.vms.values() if vm.vmid is not None}
        used = {vm.vmid for vm in vms} | fixed | self._refused | set(self._given.values())
        free = self._lowest
        for machine in self._lab.machines:
            if machine.name in self._given or machine.name in there:
                continue
            if machine.vmid is not None:
                self._given[machine.name] = machine.vmid
                continue
            while free in used:
                free += 1
            self._given[machine.name] = free
            used.add(free)


def session_of(lab: Lab, access: Access) -> Session:
    """Return the session of a lab and an access, making it when there is none."""
    key = (id(access), lab.name)
    with _guard:
        if key not in _sessions:
            _sessions[key] = Session(lab, access)
            weakref.finalize(access, _sessions.pop, key, None)
        return _sessions[key]
