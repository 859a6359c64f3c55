"""All parts of one twin: made together, started in the order in which they lean on each other, ended backwards."""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from typing import Any

from labkit.twin.ailments.plant import Ailments
from labkit.twin.conditions import condition_actions
from labkit.twin.control import Control
from labkit.twin.disaster import Disaster
from labkit.twin.flux.system import GitOps
from labkit.twin.guests import Guests
from labkit.twin.inbox import Inbox
from labkit.twin.k3s.loss import Loss
from labkit.twin.k3s.scenario import build, minor_before
from labkit.twin.k3s.system import K3s
from labkit.twin.k3s.userfiles import furnish_airgap
from labkit.twin.longhorn.wiring import Storage
from labkit.twin.nas.system import Nas
from labkit.twin.person import Person
from labkit.twin.proxmox.daemon import Daemon
from labkit.twin.proxmox.fakepve import FakePve
from labkit.twin.proxmox.inventory import Vm
from labkit.twin.proxmox.system import Proxmox
from labkit.twin.reports import leave_reports
from labkit.twin.running import Running
from labkit.twin.world import World

SSH = "labkit.twin.guests.ssh"
"""Slow to import, and not needed before the first guest boots."""
_log = logging.getLogger(__name__)


class Parts:
    """Everything that a twin is made of.

    Args:
        world: what the parts share.
        daemon: fakepve, as it comes up.
        vms: what is there of VMs and templates.
        stopped: set when the twin is told to end.
    """

    def __init__(self, world: World, daemon: Daemon, vms: list[Vm], stopped: asyncio.Event) -> None:
        if any(vm.running for vm in vms):
            import_module(SSH)
        self.world = world
        self.guests = Guests(world)
        self.proxmox = Proxmox(world, FakePve(daemon), self.guests, vms)
        self.k3s = K3s(world, self.guests)
        options = world.options
        self.gitops = GitOps(world, self.k3s, repository=options.repo or None, branch=options.repo_branch)
        self.nas, self.inbox = Nas(world), Inbox(world)
        self._act(stopped)
        world.endpoints.reserve(*(f"{machine.address}:22" for machine in world.lab.machines))
        self.k3s.reserve()
        self.gitops.reserve()
        furnish_airgap(world)

    def _act(self, stopped: asyncio.Event) -> None:
        """Make what acts on the parts: people, disasters, ailments, and the door to all of them."""
        world, person = self.world, Person(self.proxmox)
        storage = Storage(world, self.k3s, self.nas.exports)
        self.disaster = Disaster(world, person, self.k3s, self.gitops, storage)
        for part in (storage, self.disaster, Loss(self.k3s)):
            person.actions |= part.actions
        person.actions |= condition_actions(self.guests, self.k3s, self.nas)
        self.ailments = Ailments(world, person.actions, self.k3s, self.gitops)
        person.actions |= self.ailments.actions
        self.running = Running(world, person, self.k3s, self.gitops, storage=storage,
                               ailments=self.ailments)  # fmt: skip
        self.control = Control(world, person, stopped)

    async def start(self) -> dict[str, Any]:
        """Start everything and set the scene; return what others need to find it."""
        await self.proxmox.start()
        await self.nas.start()
        await self.gitops.start()
        await self._set_the_scene(self.world.options.scenario)
        await self.ailments.follow()
        control = await self.control.start()
        return {"control": control, "exports": self.nas.exports.view(), "unreadable": self.gitops.unreadable}

    async def _set_the_scene(self, scenario: str) -> None:
        k3s = self.k3s
        if scenario == "disaster":
            await self.disaster.begin()
        if scenario in {"running", "ailing"}:
            await self._leave_reports()
            await self.running.begin(ailing=scenario == "ailing")
        if scenario in {"k3s", "k3s-behind", "flux"}:
            version = self.world.lab.k3s.version
            await build(k3s, minor_before(version) if scenario == "k3s-behind" else version)
        if scenario == "quorum-lost":
            await Loss(k3s).begin()
        if scenario == "flux" and k3s.cluster is not None:
            _log.info("the cluster is up")
            await self.gitops.bring_up(k3s.cluster.api)

    async def _leave_reports(self) -> None:
        """Have health reports behind the lab, as they saw it before anything went wrong with it."""
        world, storages = self.world, self.proxmox.core.storages
        room = {}
        for host in world.lab.hosts:
            for name in storages.names(host):
                status = storages.status(host, name)
                room[f"{host}/{name}"] = (int(status["used"]), int(status["total"]))
        for pool in self.nas.content.pools:
            room[f"pool {pool['name']}"] = (int(pool["allocated"]), int(pool["size"]))
        await asyncio.to_thread(leave_reports, world, await self.gitops.check_out(), room)

    async def stop(self) -> None:
        """End everything."""
        for part in (self.control, self.inbox, self.guests, self.k3s, self.gitops, self.nas, self.proxmox):
            await part.stop()
