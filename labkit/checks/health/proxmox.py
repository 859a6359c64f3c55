"""Health checks of the Proxmox hosts: are they there, have they room, do their disks and certificates last. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import ago, count, listed, size, until
from labkit.facts.pvehealth import HostHealth, PveHealth
from labkit.plan import Severity

READS = ("proxmox-health",)
GOOD_DISKS = ("PASSED", "OK", "UNKNOWN", "")
_CA = "pve-root-ca.pem"


def seen(scene: Scene) -> PveHealth:
    """Return the facts of Proxmox."""
    facts: PveHealth = scene["proxmox-health"]
    return facts


def online(scene: Scene) -> Iterator[HostHealth]:
    """Yield the hosts that are there and told of themselves."""
    return (host for host in seen(scene).hosts if host.online)


@health("proxmox.host-online", Area.PROXMOX, "every Proxmox host of the lab is online", Severity.ERROR, reads=READS)
def host_online(scene: Scene) -> Iterator[Found]:
    """Find hosts of the lab that are off, or no members of the cluster."""
    for name in scene.lab.hosts:
        host = seen(scene).host(name)
        if host is None:
            yield Found(
                f"host {name}",
                "a member of the Proxmox cluster",
                "none of that name",
                "`pvecm status` on another host; if it is gone for good, take it out of the lab file",
            )
        elif not host.online:
            yield Found(f"host {name}", "online", "offline",
                        f"switch it on, or look at its console and network (ping {host.ip or name})")  # fmt: skip


@health("proxmox.quorum", Area.PROXMOX, "the Proxmox cluster has its quorum", Severity.ERROR, reads=READS)
def cluster_quorum(scene: Scene) -> Iterator[Found]:
    """Find a cluster that takes no writes."""
    facts = seen(scene)
    if not facts.quorate:
        there = sum(host.online for host in facts.hosts)
        yield Found(
            "Proxmox cluster",
            "a quorum of its hosts",
            f"none: {there} of {len(facts.hosts)} are online",
            "bring hosts back until `pvecm status` says Quorate: Yes; nothing can be started until then",
        )


@health("proxmox.host-answers", Area.PROXMOX, "every online host tells of itself", Severity.WARNING, reads=READS)
def host_answers(scene: Scene) -> Iterator[Found]:
    """Find hosts that are online and do not answer."""
    for host in online(scene):
        if host.problem:
            yield Found(f"host {host.name}", "an answer about its disks, certificates and version", host.problem,
                        f"`systemctl status pvedaemon pveproxy pvestatd` on {host.name}")  # fmt: skip


@health("proxmox.storage-room", Area.PROXMOX, "every storage has room", Severity.WARNING, reads=READS)
def storage_room(scene: Scene) -> Iterator[Found]:
    """Find storages that are nearly full."""
    limits = scene.lab.health.limits.proxmox
    for storage in seen(scene).distinct_storages():
        if storage.percent < limits.storage_percent:
            continue
        where = "" if storage.shared else f" on {storage.node}"
        got = f"{storage.percent:.0f} % of {size(storage.total)} used, {size(storage.total - storage.used)} free"
        full = storage.percent >= limits.storage_full_percent
        yield Found(f"storage {storage.name}{where}", f"less than {limits.storage_percent} % used", got,
                    f"`pvesm list {storage.name}` shows what fills it: old backups, images and disks of nobody",
                    Severity.ERROR if full else None)  # fmt: skip


@health("proxmox.storage-available", Area.PROXMOX, "every storage can be reached", Severity.ERROR, reads=READS)
def storage_available(scene: Scene) -> Iterator[Found]:
    """Find storages that a host which is online cannot use."""
    facts = seen(scene)
    for storage in facts.storages:
        if not storage.available and storage.node in facts.online:
            kind = f" ({storage.type})" if storage.type else ""
            yield Found(f"storage {storage.name} on {storage.node}", "available", f"not available{kind}",
                        f"`pvesm status` on {storage.node}; what it is on may be off")  # fmt: skip


@health("proxmox.root-room", Area.PROXMOX, "every host's root file system has room", Severity.WARNING, reads=READS)
def root_room(scene: Scene) -> Iterator[Found]:
    """Find hosts whose root file system is nearly full: then their services stop."""
    limits = scene.lab.health.limits.proxmox
    for host in online(scene):
        percent = 100 * host.root_used / host.root_total if host.root_total else 0.0
        if percent >= limits.storage_percent:
            full = percent >= limits.storage_full_percent
            yield Found(f"host {host.name}", f"a root file system with less than {limits.storage_percent} % used",
                        f"{percent:.0f} % of {size(host.root_total)}",
                        f"`du -xh / | sort -h | tail` on {host.name}: logs, images and old kernels (`apt autoremove`)",
                        Severity.ERROR if full else None)  # fmt: skip


@health("proxmox.memory", Area.PROXMOX, "running VMs fit into their host's memory", Severity.WARNING, reads=READS)
def memory(scene: Scene) -> Iterator[Found]:
    """Find hosts that have promised more memory than they have."""
    most = scene.lab.health.limits.proxmox.memory_percent
    for host in online(scene):
        running = [vm for vm in seen(scene).vms if vm.node == host.name and vm.status == "running"]
        promised = sum(vm.maxmem for vm in running)
        if host.maxmem and 100 * promised > most * host.maxmem:
            got = f"{size(promised)} for {count(len(running), 'VM')}: {100 * promised / host.maxmem:.0f} %"
            yield Found(f"host {host.name}", f"at most {most} % of {size(host.maxmem)} promised to running VMs", got,
                        "give VMs less memory in the lab file or move one, then run provision-vms")  # fmt: skip


@health("proxmox.certificate", Area.PROXMOX, "the hosts' certificates last", Severity.WARNING, reads=READS)
def certificate(scene: Scene) -> Iterator[Found]:
    """Find certificates of hosts that end soon: Proxmox renews them by itself, unless that fails."""
    soon, told = timedelta(days=scene.lab.health.limits.proxmox.certificate_days), False
    for host in online(scene):
        for one in host.certificates:
            if one.expires - scene.now >= soon or (one.file == _CA and told):
                continue
            told = told or one.file == _CA
            subject = f"host {host.name}" if one.file != _CA else "Proxmox cluster"
            renew = "pvecm updatecerts --force" if "acme" not in one.file else "pvenode acme cert renew"
            yield Found(subject, f"{one.file} that lasts {soon.days} days or more", until(one.expires, scene.now),
                        f"`{renew}` on {host.name}, then `systemctl restart pveproxy`",
                        Severity.ERROR if one.expires <= scene.now else None)  # fmt: skip


@health("proxmox.disk-health", Area.PROXMOX, "SMART finds every disk healthy", Severity.ERROR, reads=READS)
def disk_health(scene: Scene) -> Iterator[Found]:
    """Find disks that say themselves that they are about to fail."""
    for host in online(scene):
        for disk in host.disks:
            if disk.health.upper() not in GOOD_DISKS:
                yield Found(f"disk {disk.device} on {host.name}", "healthy by SMART", disk.health,
                            f"`smartctl -a {disk.device}`; move VMs away (run maintain-host), then replace "
                            f"{disk.model} {disk.serial}".rstrip())  # fmt: skip


@health("proxmox.disk-wear", Area.PROXMOX, "no disk is worn out", Severity.WARNING, reads=READS)
def disk_wear(scene: Scene) -> Iterator[Found]:
    """Find solid-state disks near the end of their life."""
    most = scene.lab.health.limits.proxmox.disk_wear_percent
    for host in online(scene):
        for disk in host.disks:
            if disk.wear is not None and disk.wear >= most:
                yield Found(
                    f"disk {disk.device} on {host.name}",
                    f"less than {most} % worn",
                    f"{disk.wear} % worn",
                    f"order another one for {disk.model} {disk.serial}".rstrip() + "; etcd wears disks",
                )


@health("proxmox.pool", Area.PROXMOX, "every ZFS pool of the hosts is online", Severity.ERROR, reads=READS)
def pool(scene: Scene) -> Iterator[Found]:
    """Find ZFS pools that have lost a disk."""
    for host in online(scene):
        for one in host.pools:
            if one.health not in ("ONLINE", ""):
                yield Found(
                    f"pool {one.name} on {host.name}",
                    "ONLINE",
                    one.health,
                    f"`zpool status {one.name}` on {host.name}, then replace the disk that it names",
                )


@health("proxmox.version", Area.PROXMOX, "all hosts run the same version of Proxmox", Severity.WARNING, reads=READS)
def version(scene: Scene) -> Iterator[Found]:
    """Find hosts that were left behind by an update."""
    newest = max((host.version for host in online(scene)), key=_numbers, default="")
    for host in online(scene):
        if host.version and _numbers(host.version) < _numbers(newest):
            yield Found(
                f"host {host.name}",
                f"Proxmox {newest}, as the newest of its cluster has",
                host.version,
                f"`apt update && apt dist-upgrade` on {host.name}; run maintain-host for its reboot",
            )


@health("proxmox.kernel", Area.PROXMOX, "hosts of one version run the same kernel", Severity.INFO, reads=READS)
def kernel(scene: Scene) -> Iterator[Found]:
    """Find hosts that were not restarted since the kernel was updated; a version that differs says it already."""
    by_version: dict[str, list[HostHealth]] = {}
    for host in online(scene):
        by_version.setdefault(host.version, []).append(host)
    for hosts in by_version.values():
        newest = max((host.kernel for host in hosts), key=_numbers)
        for host in hosts:
            if host.kernel and _numbers(host.kernel) < _numbers(newest):
                yield Found(
                    f"host {host.name}",
                    f"the kernel {newest}, as the newest host of its version has",
                    host.kernel,
                    "run maintain-host: it restarts the host with its VMs moved or shut down",
                )


@health("proxmox.restarted", Area.PROXMOX, "no host was restarted lately", Severity.INFO, reads=READS)
def restarted(scene: Scene) -> Iterator[Found]:
    """Find hosts that came up within the last day: somebody should know why."""
    hours = scene.lab.health.limits.proxmox.restart_hours
    for host in online(scene):
        if 0 < host.uptime < hours * 3600:
            began = scene.now - timedelta(seconds=host.uptime)
            yield Found(f"host {host.name}", f"up for {hours} hours or more", f"it started {ago(began, scene.now)}",
                        f"if nobody did that: `journalctl -b -1 -e` on {host.name}")  # fmt: skip


@health("proxmox.template", Area.PROXMOX, "every host has the template of its VMs", Severity.WARNING, reads=READS)
def template(scene: Scene) -> Iterator[Found]:
    """Find hosts on which no VM could be made anew."""
    facts = seen(scene)
    have = {(vm.node, vm.name) for vm in facts.vms if vm.template}
    wanted = sorted({(machine.host, machine.template) for machine in scene.lab.machines})
    for host, name in wanted:
        if host in facts.online and (host, name) not in have:
            there = listed(found for node, found in sorted(have) if node == host)
            yield Found(f"host {host}", f"the template {name}: no VM can be made anew without it",
                        there or "no template", "run preflight: it says how to make one")  # fmt: skip


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers in a version, for comparison: 6.14.8-2-pve is (6, 14, 8, 2)."""
    words = "".join(letter if letter.isdecimal() else " " for letter in text).split()
    return tuple(int(word) for word in words)
