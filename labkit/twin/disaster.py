"""The loss of a whole lab: machines, disks and cluster; what is in Git, on the NAS and with the user stays."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from typing import Any

from labkit.lab.k3sconfig import api_url
from labkit.lab.kubevip import deploys_kube_vip
from labkit.twin.flux.claims import all_objects, claims_among
from labkit.twin.flux.system import GitOps
from labkit.twin.k3s.pki import make_pki
from labkit.twin.k3s.scenario import keep_kubeconfig
from labkit.twin.k3s.system import K3s
from labkit.twin.longhorn.former import Former
from labkit.twin.longhorn.store import BackupStore
from labkit.twin.longhorn.wiring import Storage
from labkit.twin.person import Person
from labkit.twin.seed import Seed
from labkit.twin.world import World


class Disaster:
    """Let everything be lost, now or before the twin began.

    Attributes:
        actions: for the control server: `destroy`, and `past`, the twin's own record of what was there.
    """

    def __init__(self, world: World, person: Person, k3s: K3s, gitops: GitOps, storage: Storage) -> None:
        self._world = world
        self._person = person
        self._k3s = k3s
        self._gitops = gitops
        self._storage = storage
        self.actions = {"destroy": self.destroy, "past": self.past}

    async def destroy(self, _given: dict[str, Any]) -> dict[str, Any]:
        """Delete every machine of the lab with its disks, and with them the cluster; return the record."""
        past = self._storage.past
        past.note_end(await self._storage.data({}))
        for guest in list(self._k3s.guests):
            await self._person.delete({"name": guest.name})
        self._k3s.forget()
        self._gitops.pinned = False
        shutil.rmtree(self._storage.folder, ignore_errors=True)
        return past.view()

    async def past(self, _given: dict[str, Any]) -> dict[str, Any]:
        """Return what each backup held when it was taken, and what was on the volumes when they were lost."""
        return self._storage.past.view()

    async def begin(self) -> None:
        """Have a lab behind us that ran, was backed up each night, and is lost: the scenario `disaster`."""
        world, gitops = self._world, self._gitops
        gitops.pinned = False
        tree = await gitops.check_out()
        entry = world.lab.git.path.removeprefix("./").strip("/")
        objects = await asyncio.to_thread(lambda: list(all_objects(tree, entry)))
        await asyncio.to_thread(gitops.keep_certificates, objects)
        seed = Seed(world.options.seed, f"{world.lab.name} former")
        former = Former(tuple(claims_among(objects)), seed, datetime.now(UTC))
        for folder in self._storage.exports.places.values():
            await asyncio.to_thread(former.leave, BackupStore(folder), self._storage.past)
        self._keep_kubeconfig()
        await self._storage.corrupt()

    def _keep_kubeconfig(self) -> None:
        """Leave the context of the lost cluster in the kubeconfig of the twin's user."""
        lab = self._world.lab
        address = lab.network.vip if deploys_kube_vip(lab) and lab.network.vip else lab.servers[0].address
        keep_kubeconfig(self._world, make_pki(self._world.clock.now()).kubeconfig(), api_url(address))
