"""The cluster and its hosts: resources, status, permissions, storages, tasks."""

from __future__ import annotations

from typing import Any

from labkit.lab.pveformat import parse_memory
from labkit.twin.proxmox.calls import Call
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.errors import PveError, parameter_error
from labkit.twin.proxmox.hosts import RELEASES
from labkit.twin.proxmox.inventory import Vm
from labkit.twin.proxmox.tasks import Task

_GIB = 1024**3


class Cluster:
    """The calls that concern no single VM."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def version(self, call: Call) -> dict[str, Any]:
        """Answer the version."""
        release = self._core.world.options.proxmox
        number, commit = self._core.hosts[call.at].version, RELEASES[release][1]
        return {"version": number, "release": release, "repoid": commit}

    async def permissions(self, call: Call) -> dict[str, Any]:
        """Answer the effective privileges of the caller, or of another token to one who may look at it."""
        who = call.text("userid", call.caller.user)
        if who != call.caller.user and not call.caller.has("Sys.Audit"):
            raise PveError(403, "Permission check failed (/access, Sys.Audit)")
        asked = call.caller if who == call.caller.user else self._core.access.named(who)
        return asked.permissions(call.text("path") or None)

    async def next_id(self, call: Call) -> str:
        """Answer a free VMID, or confirm that a given one is free."""
        wanted = call.params.get("vmid")
        if wanted is not None:
            if self._core.inventory.get(call.number("vmid")):
                raise parameter_error(vmid=f"VM {wanted} already exists")
            return str(wanted)
        return str(self._core.inventory.free_id())

    async def status(self, call: Call) -> list[dict[str, Any]]:
        """Answer the members of the cluster and whether it has a quorum."""
        lab, hosts = self._core.world.lab, list(self._core.world.lab.hosts)
        rows: list[dict[str, Any]] = [{
            "type": "cluster", "id": "cluster", "name": lab.name, "version": len(hosts), "nodes": len(hosts),
            "quorate": int(self._core.quorate),
        }] if len(hosts) > 1 else []  # fmt: skip
        for number, host in enumerate(hosts, 1):
            rows.append({
                "type": "node", "id": f"node/{host}", "name": host, "nodeid": number, "level": "",
                "ip": str(lab.network.cidr.network_address + 1 + number), "local": int(host == call.at),
                "online": int(not self._core.is_down(host)),
            })  # fmt: skip
        return rows

    async def resources(self, call: Call) -> list[dict[str, Any]]:
        """Answer VMs, hosts and storages in one list."""
        kind = call.text("type")
        if kind not in {"", "vm", "node", "storage", "sdn"}:
            raise parameter_error(
                type=f"value '{kind}' does not have a value in the enumeration 'vm, storage, node, sdn'"
            )
        given = await self._core.pve.ask("GET", "/cluster/resources", {"type": kind} if kind else {})
        rows = []
        for row in given:
            if row["type"] == "qemu" and call.caller.has("VM.Audit"):
                vm = self._core.inventory.get(row["vmid"])
                rows += [self._vm_row(row, vm)] if vm else []
            elif row["type"] == "node" and row["node"] in self._core.world.lab.hosts:
                rows.append({**row, **self._node_figures(row["node"])})
        if kind in {"", "storage"} and call.caller.has("Datastore.Audit", "Datastore.AllocateSpace"):
            rows += self._storage_rows()
        return rows

    async def nodes(self, _call: Call) -> list[dict[str, Any]]:
        """Answer the hosts."""
        rows = await self._core.pve.ask("GET", "/nodes")
        return [{**row, **self._node_figures(row["node"])} for row in rows if row["node"] in self._core.world.lab.hosts]

    async def node_status(self, call: Call) -> dict[str, Any]:
        """Answer the state of one host."""
        given: dict[str, Any] = await self._core.pve.ask("GET", f"/nodes/{call.node}/status")
        figures = self._node_figures(call.node)
        memory = {"total": figures["maxmem"], "used": figures["mem"], "free": figures["maxmem"] - figures["mem"]}
        memory["available"] = memory["free"]
        cpus = figures["maxcpu"]
        cpuinfo = {**given.get("cpuinfo", {}), "cpus": cpus, "cores": cpus, "sockets": 1, "model": "twin"}
        return {**given, **self._core.hosts.status(call.node), "memory": memory, "cpuinfo": cpuinfo}

    async def vms(self, call: Call) -> list[dict[str, Any]]:
        """Answer the VMs of one host."""
        found = []
        for home in sorted({vm.home for vm in self._core.inventory if vm.node == call.node}):
            for row in await self._core.pve.ask("GET", f"/nodes/{home}/qemu"):
                vm = self._core.inventory.get(row["vmid"])
                if vm and vm.node == call.node and call.caller.has("VM.Audit"):
                    row.pop("lock", None)
                    found.append({**row, **({"lock": vm.lock} if vm.lock else {})})
        return found

    async def vm_status(self, call: Call) -> dict[str, Any]:
        """Answer the state of one VM."""
        vm = self._core.vm(call)
        row: dict[str, Any] = await self._core.pve.ask("GET", self._core.path(vm, "/status/current"))
        row.pop("lock", None)
        row.update(self._figures(vm, cpus="cpus"))
        return {**row, **({"lock": vm.lock} if vm.lock else {})}

    async def storages(self, call: Call) -> list[dict[str, Any]]:
        """Answer the storages of one host."""
        if not call.caller.has("Datastore.Audit", "Datastore.AllocateSpace"):
            return []
        return [self._core.storages.status(call.node, name) for name in self._core.storages.names(call.node)]

    async def storage_status(self, call: Call) -> dict[str, Any]:
        """Answer the state of one storage."""
        return self._core.storages.status(call.node, call.names["storage"])

    async def storage_content(self, call: Call) -> list[dict[str, Any]]:
        """Answer the volumes of a storage, perhaps of one kind or one VM."""
        kind, vmid = call.text("content"), call.text("vmid")
        return [
            row for row in self._core.storages.content(call.node, call.names["storage"])
            if kind in {"", row["content"]} and vmid in {"", str(row.get("vmid"))}
        ]  # fmt: skip

    async def not_backed_up(self, _call: Call) -> list[dict[str, Any]]:
        """Answer the VMs of no backup job: a job of the twin is for all of them."""
        if any(int(job.get("enabled", 1)) for job in self._core.hosts.jobs):
            return []
        return [{"vmid": vm.vmid, "name": vm.name, "type": "qemu"} for vm in self._core.inventory if not vm.template]

    async def nothing(self, _call: Call) -> list[dict[str, Any]]:
        """Answer an empty list: the lab has none of these."""
        return []

    async def tasks(self, call: Call) -> list[dict[str, Any]]:
        """Answer the tasks of one host."""
        rows = [task.line() for task in self._core.tasks.of(call.node) if _may_see(call, task)]
        if vmid := call.text("vmid"):
            rows = [row for row in rows if row["id"] == vmid]
        start = call.number("start", 0)
        return rows[start : start + call.number("limit", 50)]

    async def cluster_tasks(self, call: Call) -> list[dict[str, Any]]:
        """Answer the latest tasks of all hosts."""
        return [task.line() for task in self._core.tasks.of() if _may_see(call, task)][:50]

    async def task_status(self, call: Call) -> dict[str, Any]:
        """Answer how a task stands."""
        return self._task(call).view()

    async def task_log(self, call: Call) -> list[dict[str, Any]]:
        """Answer the lines that a task wrote."""
        lines = [{"n": number, "t": text} for number, text in enumerate(self._task(call).log, 1)]
        start = call.number("start", 0)
        return lines[start : start + call.number("limit", 50)]

    async def stop_task(self, call: Call) -> None:
        """End a task."""
        task = self._task(call)
        if task.job is not None:
            task.job.cancel()

    def _task(self, call: Call) -> Task:
        task = self._core.tasks.get(call.node, call.names["upid"])
        if not _may_see(call, task):
            raise PveError(403, f"Permission check failed (/nodes/{task.node}, Sys.Audit)")
        return task

    def _vm_row(self, row: dict[str, Any], vm: Vm) -> dict[str, Any]:
        row = {**row, "node": vm.node, "name": vm.name, **self._figures(vm, cpus="maxcpu")}
        row.pop("lock", None)
        if self._core.is_down(vm.node):
            row["status"] = "unknown"
        if vm.lock:
            row["lock"] = vm.lock
        if vm.pool:
            row["pool"] = vm.pool
        return row

    def _figures(self, vm: Vm, *, cpus: str) -> dict[str, Any]:
        settings, running = vm.settings, vm.running
        memory = (parse_memory(settings.get("memory", "512")) or 512) * 1024**2
        return {
            cpus: int(settings.get("cores", "1")) * int(settings.get("sockets", "1")),
            "maxmem": memory, "maxdisk": int(vm.gib * _GIB),
            "uptime": int(self._core.world.clock.now() - vm.started) + 1 if running else 0,
        }  # fmt: skip

    def _node_figures(self, node: str) -> dict[str, Any]:
        """The size of a host: room for the lab's VMs and a third more."""
        if self._core.is_down(node):
            return {"status": "offline", "cpu": 0, "maxcpu": 0, "mem": 0, "maxmem": 0, "uptime": 0}
        machines = [machine for machine in self._core.world.lab.machines if machine.host == node]
        memory = sum(machine.memory for machine in machines) * 4 // 3
        running = [vm for vm in self._core.inventory if vm.node == node and vm.running]
        used = sum(parse_memory(vm.settings.get("memory", "512")) or 512 for vm in running) // 2
        room = self._core.hosts[node].memory or (memory // 4096 + 1) * 4 * _GIB
        return {
            "status": "online", "cpu": 0.04, "maxcpu": max(4, sum(machine.cores for machine in machines)),
            "mem": (used + 1024) * 1024**2, "maxmem": room, "uptime": self._core.hosts.uptime(node),
        }  # fmt: skip

    def _storage_rows(self) -> list[dict[str, Any]]:
        names = [(node, name) for node in self._core.world.lab.hosts for name in self._core.storages.names(node)]
        rows = [self._core.storages.resource(node, name) for node, name in names]
        return [{**row, "status": "unknown"} if self._core.is_down(row["node"]) else row for row in rows]


def _may_see(call: Call, task: Task) -> bool:
    return call.caller.has("Sys.Audit") or task.user in {call.caller.user, call.caller.user.partition("!")[0]}
