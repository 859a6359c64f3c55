"""Health checks of the lab's VMs as Proxmox sees them: are they there, as wanted, and backed up. Pure.

VMs that are not the lab's are nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.proxmox import READS, seen
from labkit.checks.health.words import ago, count, listed
from labkit.facts.guesthealth import GuestHealthFacts
from labkit.facts.proxmox import VmRow
from labkit.facts.pvehealth import PveHealth, TaskRow
from labkit.lab import Machine
from labkit.lab.types import format_size
from labkit.plan import Severity

_MIB = 1024 * 1024
_HA_TROUBLE = ("error", "fence", "recovery")


def _pairs(scene: Scene) -> Iterator[tuple[Machine, VmRow]]:
    """Yield each machine of the lab with its VM, where there is exactly one, on a host that is online."""
    facts = seen(scene)
    for machine in scene.lab.machines:
        vm = facts.vm(machine.name)
        if vm is not None and vm.node in facts.online:
            yield machine, vm


@health("proxmox.vm-missing", Area.PROXMOX, "every VM of the lab is there, once", Severity.ERROR, reads=READS)
def vm_missing(scene: Scene) -> Iterator[Found]:
    """Find VMs of the lab that nobody has made, or somebody has deleted or copied."""
    for machine in scene.lab.machines:
        found = seen(scene).named(machine.name)
        if not found:
            yield Found(f"VM {machine.name}", f"on {machine.host}", "no such VM", "run provision-vms")
        elif len(found) > 1:
            yield Found(f"VM {machine.name}", "one VM of that name", listed(str(vm) for vm in found),
                        "rename or remove the one that is not the lab's: labkit touches neither",
                        Severity.WARNING)  # fmt: skip


@health("proxmox.vm-running", Area.PROXMOX, "every VM of the lab runs", Severity.ERROR, reads=READS)
def vm_running(scene: Scene) -> Iterator[Found]:
    """Find VMs of the lab that are switched off."""
    for machine, vm in _pairs(scene):
        if vm.status != "running":
            yield Found(f"VM {machine.name}", "running", vm.status,
                        f"`qm start {vm.vmid}` on {vm.node}, or run provision-vms")  # fmt: skip


@health(
    "proxmox.vm-host", Area.PROXMOX, "every VM is on the host that the lab file says", Severity.WARNING, reads=READS
)
def vm_host(scene: Scene) -> Iterator[Found]:
    """Find VMs that were moved: the zone of their node, and so the replicas of volumes, are no longer right."""
    for machine, vm in _pairs(scene):
        if vm.node != machine.host:
            yield Found(f"VM {machine.name}", f"on {machine.host}", f"on {vm.node}",
                        f"`qm migrate {vm.vmid} {machine.host} --online` on {vm.node}, or change its host in the lab "
                        "file and run bootstrap-k3s")  # fmt: skip


@health("proxmox.vm-size", Area.PROXMOX, "every VM is as large as the lab file says", Severity.WARNING, reads=READS)
def vm_size(scene: Scene) -> Iterator[Found]:
    """Find VMs with other sizes than wanted; a larger disk is fine, for disks never shrink."""
    for machine, vm in _pairs(scene):
        wanted: list[str] = []
        got: list[str] = []
        if vm.maxcpu != machine.cores:
            wanted, got = [*wanted, count(machine.cores, "core")], [*got, count(vm.maxcpu, "core")]
        sizes = (("memory", machine.memory, vm.maxmem // _MIB), ("disk", machine.disk, vm.maxdisk // _MIB))
        for word, mine, real in sizes:
            if real and (real < mine or (real != mine and word == "memory")):
                wanted, got = [*wanted, f"{word} {format_size(mine)}"], [*got, f"{word} {format_size(real)}"]
        if wanted:
            yield Found(f"VM {machine.name}", ", ".join(wanted), ", ".join(got), "run provision-vms")


@health("proxmox.vm-lock", Area.PROXMOX, "no VM is locked by nobody", Severity.WARNING, reads=READS)
def vm_lock(scene: Scene) -> Iterator[Found]:
    """Find locks whose operation has long ended: such a VM cannot be backed up, moved or restarted."""
    running = {task.id for task in seen(scene).tasks if not task.status}
    busy = {task.node for task in seen(scene).tasks if not task.status and not task.id}
    for machine, vm in _pairs(scene):
        if vm.lock and str(vm.vmid) not in running and vm.node not in busy:
            yield Found(f"VM {machine.name}", "no lock, for no task works on it", f"locked ({vm.lock})",
                        f"`qm unlock {vm.vmid}` on {vm.node}")  # fmt: skip


@health("proxmox.ha", Area.PROXMOX, "no VM is in trouble with HA", Severity.ERROR, reads=READS)
def high_availability(scene: Scene) -> Iterator[Found]:
    """Find VMs that HA has given up, or is recovering."""
    for machine, vm in _pairs(scene):
        if vm.ha in _HA_TROUBLE:
            yield Found(
                f"VM {machine.name}",
                "an HA state without trouble",
                vm.ha,
                f"`ha-manager status`; from error: `ha-manager set vm:{vm.vmid} --state disabled`, then started",
            )


@health(
    "proxmox.guest-agent", Area.PROXMOX, "the guest agent runs in every VM", Severity.WARNING,
    reads=("proxmox-health", "guest-health"),
)  # fmt: skip
def guest_agent(scene: Scene) -> Iterator[Found]:
    """Find VMs whose agent is not there: backups freeze nothing, and a new host key cannot be learnt."""
    guests: GuestHealthFacts = scene["guest-health"]
    for machine, _ in _pairs(scene):
        guest = guests.guest(machine.name)
        if guest.reachable and guest.agent != "active":
            yield Found(
                f"VM {machine.name}",
                "a guest agent that answers",
                guest.agent or "none",
                f"`sudo systemctl restart qemu-guest-agent` on {machine.name}, or run provision-vms",
            )


def _is_used(facts: PveHealth) -> bool:
    """Whether the owner backs up VMs at all: many a lab makes them anew instead."""
    return bool(facts.backup_jobs or facts.backups or any(storage.type == "pbs" for storage in facts.storages))


@health("proxmox.backup-age", Area.PROXMOX, "every VM of the lab has a recent backup", Severity.WARNING, reads=READS)
def backup_age(scene: Scene) -> Iterator[Found]:
    """Find VMs without a recent backup, where VMs are backed up at all."""
    facts = seen(scene)
    if not _is_used(facts):
        return
    if not facts.backups and not facts.unread:
        yield Found("backups of VMs", "some on a storage", "none that the token may see",
                    "look at the backup jobs (Datacenter > Backup); to see backups, the reading token needs VM.Backup "
                    "and Datastore.AllocateSpace")  # fmt: skip
        return
    oldest = timedelta(hours=scene.lab.health.limits.proxmox.backup_hours)
    for machine, vm in _pairs(scene):
        last = facts.last_backup(vm.vmid)
        if last is None and facts.unread:
            continue  # it may be where nobody could look
        if last is None or scene.now - last.made > oldest:
            got = "never backed up" if last is None else f"backed up {ago(last.made, scene.now)} ({last.storage})"
            yield Found(
                f"VM {machine.name}",
                f"a backup of the last {oldest // timedelta(hours=1)} hours",
                got,
                f"look whether a backup job has it (Datacenter > Backup), or `vzdump {vm.vmid}` on {vm.node}",
            )


@health("proxmox.backup-read", Area.PROXMOX, "every storage for backups can be read", Severity.WARNING, reads=READS)
def backup_read(scene: Scene) -> Iterator[Found]:
    """Find storages for backups whose content is not to be had."""
    for problem in seen(scene).unread:
        place, _, reason = problem.partition(": ")
        yield Found(place, "a list of the backups on it", reason, f"`pvesm list {place.split()[1]}` on that host")


@health("proxmox.backup-verified", Area.PROXMOX, "no VM's newest backup is broken", Severity.ERROR, reads=READS)
def backup_verified(scene: Scene) -> Iterator[Found]:
    """Find VMs whose newest backup the backup server found broken."""
    for machine, vm in _pairs(scene):
        last = seen(scene).last_backup(vm.vmid)
        if last is not None and last.verified == "failed":
            yield Found(f"VM {machine.name}", "a newest backup that was verified", f"a broken one on {last.storage}",
                        f"`vzdump {vm.vmid}` on {vm.node}, and look at the backup server's disks")  # fmt: skip


@health(
    "proxmox.backup-task", Area.PROXMOX, "the last backup task of every host went well", Severity.WARNING, reads=READS
)
def backup_task(scene: Scene) -> Iterator[Found]:
    """Find hosts on which the last run of a backup failed."""
    last: dict[tuple[str, str], TaskRow] = {}
    for task in sorted(seen(scene).tasks, key=lambda task: task.started):
        if task.kind == "vzdump" and task.status:
            last[task.node, task.id] = task
    newest = timedelta(hours=scene.lab.health.limits.proxmox.backup_hours)
    for (node, vmid), task in last.items():
        good = task.status == "OK" or task.status.startswith("WARNINGS")
        if not good and scene.now - task.started < newest:
            what = f" of VM {vmid}" if vmid else ""
            yield Found(f"backup{what} on {node}", "the last run to end well", f"{task.status} "
                        f"({ago(task.started, scene.now)})", f"its log: Tasks of {node} in Proxmox")  # fmt: skip
