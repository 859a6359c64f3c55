"""The twin's Proxmox put together: fakepve, the proxy in front of it, and the guests of its VMs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labkit.twin.guests import Guests
from labkit.twin.proxmox.access import Access
from labkit.twin.proxmox.agent import Agent
from labkit.twin.proxmox.calls import Call, Route, Routes
from labkit.twin.proxmox.clones import Clones
from labkit.twin.proxmox.cluster import Cluster
from labkit.twin.proxmox.configs import Configs
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.errors import PveError
from labkit.twin.proxmox.fakepve import FakePve
from labkit.twin.proxmox.hosts import Hosts
from labkit.twin.proxmox.inventory import Inventory, Vm
from labkit.twin.proxmox.power import Power
from labkit.twin.proxmox.privileges import Need, agent_need, vm
from labkit.twin.proxmox.server import Front
from labkit.twin.proxmox.storage import Storages, storage_type
from labkit.twin.proxmox.tasks import Task, Tasks
from labkit.twin.targets import LOCAL
from labkit.twin.world import World

_CONFIG = ("Disk", "CDROM", "CPU", "Memory", "Network", "HWType", "Options", "Cloudinit")


class Proxmox:
    """The cluster of the lab: `front` answers requests, `core` has the state."""

    def __init__(self, world: World, pve: FakePve, guests: Guests, vms: Sequence[Vm]) -> None:
        inventory = Inventory(pve)
        for one in vms:
            inventory.add(one)
        world.targets.more_vms = lambda: {one.name for one in inventory if not one.template}
        tasks = Tasks(world.clock, with_warnings=lambda: world.faults.has("task-warnings"))
        storages = Storages(world.lab, inventory, world.faults)
        self.core = Core(world, pve, inventory, tasks, storages, Access(world), guests, Hosts(world))
        self.front = Front(self.core, Routes(_routes(self.core, self)))
        self._locked: set[str] = set()
        self._down: set[str] = set()
        guests.powered_off = self._powered_off

    async def start(self) -> None:
        """Wait for fakepve, tell it what its file cannot, switch on what runs, and listen."""
        await self.core.pve.ready()
        await self._add_storages()
        if pool := self.core.world.lab.proxmox.pool:
            await self.core.pve.ask("POST", "/pools", {"poolid": pool})
        running = [one for one in self.core.inventory if one.running and not self.core.is_down(one.node)]
        guests = [self.core.guests.power_on(one.vmid, one.name, one.settings, at_once=True) for one in running]
        await asyncio.gather(*(guest.cloud_init.finished.wait() for guest in guests))
        await self.front.start()
        self.core.world.faults.follow(self.follow_faults)
        await self.core.world.faults.settle()

    async def stop(self) -> None:
        """End everything, fakepve too."""
        await self.front.stop()
        await self.core.pve.stop()

    async def follow_faults(self) -> None:
        """Take hosts away or bring them back, with their API, tasks and VMs, and lock what is to be locked."""
        self._lock_by_fault()
        await self.front.follow_hosts()
        for one in self.core.inventory:
            guest = self.core.guests.get(one.vmid)
            if self.core.is_down(one.node) and guest is not None:
                await guest.power_off(orderly=False)
            elif not self.core.is_down(one.node) and one.running and (guest is None or guest.phase == "off"):
                self.core.guests.power_on(one.vmid, one.name, one.settings)
        for node in self.core.world.lab.hosts:
            if self.core.is_down(node):
                self.core.tasks.lose(node)
            elif node in self._down:
                self.core.hosts.reboot(node)
        self._down = {node for node in self.core.world.lab.hosts if self.core.is_down(node)}

    async def next_id(self, call: Call) -> str:
        """Answer a free VMID, which somebody may take right away."""
        given = await Cluster(self.core).next_id(call)
        if self.core.world.faults.strike("vmid-taken"):
            await self.add_vm(int(given), f"somebody-{given}", next(iter(self.core.world.lab.hosts)), {})
        return given

    async def create(self, call: Call) -> str:
        """Make an empty VM, as fakepve does it."""
        vmid = call.number("vmid")
        if self.core.inventory.get(vmid):
            raise PveError(500, f"unable to create VM {vmid}: config file already exists")
        call.caller.check([Need("/vms/{vmid}", ("VM.Allocate",))], call.params)
        await self.add_vm(vmid, call.text("name", f"VM {vmid}"), call.node, call.params)

        async def work(_task: Task) -> None:
            await self.core.world.clock.sleep(self.core.world.pace.other)

        return self.core.tasks.start(call.node, "qmcreate", vmid, call.caller.user, work)

    async def add_vm(self, vmid: int, name: str, node: str, params: dict[str, object]) -> Vm:
        """Make a VM in fakepve and take note of it."""
        upid = await self.core.pve.ask("POST", f"/nodes/{node}/qemu", {**params, "vmid": vmid, "name": name})
        if (status := await self.core.outcome(node, upid)) != "OK":
            raise PveError(500, status)
        made = self.core.inventory.add(Vm(vmid, name, node, node))
        await self.core.inventory.refresh(made)
        self.core.guests.create(vmid, name)
        return made

    async def other(self, call: Call) -> object:
        """Have fakepve answer what has no part in the lab's state."""
        path = call.path
        if "vmid" in call.names:
            found = self.core.vm(call)
            path = path.replace(f"/nodes/{found.node}/", f"/nodes/{found.home}/", 1)
        return await self.core.pve.ask(call.method, path, call.params)

    async def _add_storages(self) -> None:
        names = {name for node in self.core.world.lab.hosts for name in self.core.storages.names(node)}
        for name in sorted(names - {LOCAL, "local-lvm"}):
            kind = storage_type(name)
            extra = {
                "lvmthin": {"vgname": "pve", "thinpool": name}, "zfspool": {"pool": f"rpool/{name}"},
                "nfs": {"server": "192.0.2.9", "export": "/export"},
            }.get(kind, {})  # fmt: skip
            await self.core.pve.ask("POST", "/storage", {"storage": name, "type": kind, "content": "images", **extra})
        if LOCAL in {
            self.core.world.lab.defaults.host.storage,
            *(h.storage for h in self.core.world.lab.hosts.values()),
        }:
            content = "iso,vztmpl,backup,images"
            await self.core.pve.ask("PUT", f"/storage/{LOCAL}", {"content": content})

    async def _powered_off(self, vmid: int) -> None:
        found = self.core.inventory.get(vmid)
        if found is not None:
            await self.core.power_off(found)

    def _lock_by_fault(self) -> None:
        locked = {given[0] for given in self.core.world.faults.arguments("vm-locked")}
        for one in self.core.inventory:
            if one.name in locked:
                one.lock = "backup"
            elif one.lock == "backup" and one.name in self._locked:
                one.lock = ""
        self._locked = locked


def _routes(core: Core, whole: Proxmox) -> list[Route]:
    cluster, configs, power, agent = Cluster(core), Configs(core), Power(core), Agent(core)
    version, one, node = core.world.options.proxmox, "/nodes/{node}/qemu/{vmid}", "/nodes/{node}"
    audit, use, sees = vm("VM.Audit"), vm("VM.PowerMgmt"), agent_need(version, "VM.GuestAgent.Audit")
    runs = agent_need(version, "VM.GuestAgent.Unrestricted")
    reads = agent_need(version, "VM.GuestAgent.FileRead")
    change = vm(*(f"VM.Config.{name}" for name in _CONFIG), any_of=True)
    cluster_audit, node_audit = (Need("/", ("Sys.Audit",)),), (Need("/nodes/{node}", ("Sys.Audit",)),)
    store = (Need("/storage/{storage}", ("Datastore.Audit", "Datastore.AllocateSpace"), any=True),)
    return [
        Route("GET", "/version", cluster.version),
        Route("GET", "/access/permissions", cluster.permissions),
        Route("GET", "/cluster/nextid", whole.next_id),
        Route("GET", "/cluster/status", cluster.status, cluster_audit),
        Route("GET", "/cluster/resources", cluster.resources),
        Route("GET", "/cluster/tasks", cluster.cluster_tasks),
        Route("GET", "/cluster/ha/resources", cluster.nothing, cluster_audit),
        Route("GET", "/cluster/ha/groups", cluster.nothing, cluster_audit),
        Route("GET", "/cluster/ha/rules", cluster.nothing, cluster_audit),
        Route("GET", "/cluster/backup", core.hosts.list_jobs, cluster_audit),
        Route("GET", "/cluster/replication", cluster.nothing),
        Route("GET", "/cluster/backup-info/not-backed-up", cluster.not_backed_up, cluster_audit),
        Route("GET", "/pools", whole.other),
        Route("GET", "/storage", whole.other),
        Route("GET", "/nodes", cluster.nodes),
        Route("GET", f"{node}/status", cluster.node_status, node_audit),
        Route("GET", f"{node}/disks/list", core.hosts.list_disks, node_audit),
        Route("GET", f"{node}/disks/zfs", core.hosts.list_pools, node_audit),
        Route("GET", f"{node}/services", whole.other, node_audit),
        Route("GET", f"{node}/certificates/info", core.hosts.certificates),
        Route("GET", f"{node}/network", whole.other),
        Route("GET", f"{node}/storage", cluster.storages),
        Route("GET", f"{node}/storage/{{storage}}/status", cluster.storage_status, store),
        Route("GET", f"{node}/storage/{{storage}}/content", cluster.storage_content, store),
        Route("GET", f"{node}/tasks", cluster.tasks),
        Route("GET", f"{node}/tasks/{{upid}}/status", cluster.task_status),
        Route("GET", f"{node}/tasks/{{upid}}/log", cluster.task_log),
        Route("DELETE", f"{node}/tasks/{{upid}}", cluster.stop_task),
        Route("POST", f"{node}/vzdump", power.backup),
        Route("GET", f"{node}/qemu", cluster.vms),
        Route("POST", f"{node}/qemu", whole.create),
        Route("DELETE", one, power.delete, vm("VM.Allocate")),
        Route("GET", f"{one}/config", configs.get, audit),
        Route("PUT", f"{one}/config", configs.put, change),
        Route("POST", f"{one}/config", configs.post, change),
        Route("GET", f"{one}/pending", configs.pending, audit),
        Route("PUT", f"{one}/resize", configs.resize, vm("VM.Config.Disk")),
        Route("GET", f"{one}/cloudinit", configs.cloud_init, audit),
        Route("PUT", f"{one}/cloudinit", configs.regenerate, vm("VM.Config.Cloudinit")),
        Route("GET", f"{one}/cloudinit/dump", configs.dump, audit),
        Route("POST", f"{one}/clone", Clones(core).clone, vm("VM.Clone")),
        Route("GET", f"{one}/status/current", cluster.vm_status, audit),
        Route("POST", f"{one}/status/start", power.start, use),
        Route("POST", f"{one}/status/stop", power.stop, use),
        Route("POST", f"{one}/status/shutdown", power.shutdown, use),
        Route("POST", f"{one}/status/reboot", power.reboot, use),
        Route("POST", f"{one}/status/reset", power.reset, use),
        Route("GET", f"{one}/snapshot", whole.other, audit),
        Route("POST", f"{one}/agent/ping", agent.ping, sees),
        Route("GET", f"{one}/agent/network-get-interfaces", agent.interfaces, sees),
        Route("GET", f"{one}/agent/get-osinfo", agent.os_info, sees),
        Route("GET", f"{one}/agent/get-host-name", agent.host_name, sees),
        Route("POST", f"{one}/agent/exec", agent.execute, runs),
        Route("GET", f"{one}/agent/exec-status", agent.execution, runs),
        Route("GET", f"{one}/agent/file-read", agent.read_file, reads),
    ]
