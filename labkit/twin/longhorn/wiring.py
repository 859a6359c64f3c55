"""Longhorn in a whole twin: in every cluster that has it, on the disks of its guests, with the NAS of the lab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.kubelet import Gate
from labkit.twin.controllers.objects import spec_of
from labkit.twin.longhorn.backups import flip_newest
from labkit.twin.longhorn.csi import LonghornProvisioner, closed_gate
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import DRIVER, JOBS
from labkit.twin.longhorn.past import Past
from labkit.twin.longhorn.recurring import BACKUP_TASKS, RecurringJobs
from labkit.twin.longhorn.store import BackupStore
from labkit.twin.longhorn.system import Longhorn
from labkit.twin.nas.exports import Exports
from labkit.twin.seed import Seed

if TYPE_CHECKING:
    from labkit.twin.guests import Guests
    from labkit.twin.k3s.cluster import Cluster
    from labkit.twin.k3s.system import K3s
    from labkit.twin.world import World

_DATA = "/var/lib/longhorn"


class GuestDisks:
    """The disks of guests: what Longhorn keeps there goes when the VM is deleted."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests

    def folder(self, node: str) -> Path | None:
        """Return the folder on a node's guest, None while that is not up."""
        for guest in self._guests:
            if node in (guest.hostname, guest.name) and guest.phase == "up":
                return guest.files.locate(_DATA)
        return None


class Storage:
    """Have Longhorn in each cluster of a twin.

    Attributes:
        actions: for the control server: `data` (`what`: `read` or `write`), `night`.
        past: the record of what each backup holds.
        folder: where the bytes of all volumes are.
        exports: of the NAS.
    """

    def __init__(self, world: World, k3s: K3s, exports: Exports) -> None:
        self._world = world
        self._k3s = k3s
        self.exports = exports
        self.folder = world.options.state / "longhorn"
        self.past = Past()
        self._found: dict[str, Longhorn] = {}
        self.actions = {"data": self.data, "night": self.night}
        k3s.on_cluster.append(self._meet)
        world.faults.follow(self.corrupt)

    @property
    def longhorn(self) -> Longhorn | None:
        """The Longhorn of the cluster that serves."""
        cluster = self._k3s.cluster
        return self._found.get(cluster.id) if cluster is not None else None

    async def data(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the checksum of every volume; with `what: write`, after each running app has written more."""
        longhorn = self.longhorn
        if longhorn is None:
            return {}
        return longhorn.apps.write_all() if given.get("what") == "write" else longhorn.apps.view()

    async def night(self, _given: dict[str, Any]) -> dict[str, Any]:
        """Run every job that makes backups once, as it does at its hour; return the same as `data`."""
        longhorn = self.longhorn
        if longhorn is None or not longhorn.running:
            return {}
        jobs = RecurringJobs(longhorn.hub, longhorn.actions)
        for job in longhorn.hub.list(JOBS):
            if spec_of(job)["task"] in BACKUP_TASKS:
                await jobs.perform(job)
        return longhorn.apps.view()

    async def corrupt(self) -> None:
        """Carry out the fault `backup-corrupt` on the store of a lab whose Longhorn does not run."""
        if self.longhorn is not None and self.longhorn.running:
            return
        claims = {volume: next(iter(found.values()))["claim"] for volume, found in self.past.view()["backups"].items()}
        for given in self._world.faults.arguments("backup-corrupt"):
            stores = [BackupStore(folder) for folder in self.exports.places.values()]
            done = [flip_newest(store, given[0] if given else "", claims) for store in stores]
            if any(done):
                self._world.faults.strike("backup-corrupt", *given)

    def _meet(self, cluster: Cluster) -> None:
        """Prepare a cluster for Longhorn; it begins when the chart has been installed."""
        world = self._world
        hub = Hub(
            cluster.api, world.clock, self.exports, self.folder,
            disks=GuestDisks(self._k3s.guests), faults=world.faults, kubelets=cluster.kubelets,
            seed=Seed(world.options.seed, f"{world.lab.name} {cluster.id}"),
            on_write=lambda: world.counters.write("kubernetes"), on_backup=self.past.note_image,
            on_restore=self.past.note_restore,
        )  # fmt: skip

        def make(_cluster: Cluster) -> Sequence[Controller]:
            self._found[cluster.id] = Longhorn(hub, cluster.server)
            return [self._found[cluster.id]]

        cluster.more.append(make)
        cluster.provisioners[DRIVER] = LonghornProvisioner(cluster.api, world.clock)
        cluster.kubelets.gates.append(self._gate(cluster))

    def _gate(self, cluster: Cluster) -> Gate:
        def is_running() -> bool:
            found = self._found.get(cluster.id)
            return found is not None and found.running

        return closed_gate(cluster.api, is_running)
