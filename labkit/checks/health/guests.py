"""Health checks of the guests, seen from inside: room, memory, clock, restarts that wait, and k3s itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import ago, listed, size
from labkit.facts.guesthealth import GuestHealth, GuestHealthFacts
from labkit.facts.pvehealth import PveHealth
from labkit.lab import Machine
from labkit.plan import Severity
from labkit.rules.versions import compare_versions

READS = ("guest-health",)
_OWN_UNITS = ("k3s", "k3s-agent")


def seen(scene: Scene) -> Iterator[tuple[Machine, GuestHealth]]:
    """Yield each machine of the lab with what was seen of it, whether it answered or not."""
    facts: GuestHealthFacts = scene["guest-health"]
    return ((machine, facts.guest(machine.name)) for machine in scene.lab.machines)


def there(scene: Scene) -> Iterator[tuple[Machine, GuestHealth]]:
    """Yield the machines that answered."""
    return ((machine, guest) for machine, guest in seen(scene) if guest.reachable)


def is_off(scene: Scene, name: str) -> bool:
    """Whether Proxmox says that a VM is off or gone: then nobody need wonder that it does not answer."""
    facts = scene.facts.get("proxmox-health")
    return isinstance(facts, PveHealth) and not facts.is_up(name)


@health("guests.reachable", Area.GUESTS, "every VM that runs can be reached by SSH", Severity.ERROR, reads=READS)
def reachable(scene: Scene) -> Iterator[Found]:
    """Find guests that run and do not let us in; those that are off are Proxmox's findings."""
    for machine, guest in seen(scene):
        if not guest.reachable and guest.host_key != "wrong" and not is_off(scene, machine.name):
            yield Found(f"guest {machine.name}", f"a login at {machine.address}", guest.problem or "no answer",
                        f"look at its console in Proxmox: is it up, has it its address? ssh {scene.lab.guests.user}@"
                        f"{machine.address}")  # fmt: skip


@health("guests.host-key", Area.GUESTS, "every guest shows the SSH host key that is known", Severity.ERROR, reads=READS)
def host_key(scene: Scene) -> Iterator[Found]:
    """Find guests behind whose address another machine answers."""
    for machine, guest in seen(scene):
        if guest.host_key == "wrong":
            yield Found(f"guest {machine.name}", "the known SSH host key", "another one",
                        f"if it was made anew, remove {machine.name} from labkit's known_hosts: it is learnt again; "
                        f"if not, `ip neigh show {machine.address}` tells who has its address")  # fmt: skip


@health("guests.disk", Area.GUESTS, "every guest's disk has room", Severity.WARNING, reads=READS)
def disk(scene: Scene) -> Iterator[Found]:
    """Find file systems that are nearly full: from 85 % images are deleted, from 90 % pods are evicted."""
    limits = scene.lab.health.limits.guests
    for machine, guest in there(scene):
        for one in guest.file_systems:
            if one.percent >= limits.disk_percent:
                full = one.percent >= limits.disk_full_percent
                yield Found(f"guest {machine.name}", f"less than {limits.disk_percent} % of {one.target} used",
                            f"{one.percent:.0f} %, {size(one.free)} free",
                            "give it a larger disk in the lab file and run provision-vms; for now: `sudo k3s crictl "
                            f"rmi --prune`, `sudo journalctl --vacuum-size=200M` on {machine.name}",
                            Severity.ERROR if full else None)  # fmt: skip


@health("guests.inodes", Area.GUESTS, "every guest's disk has inodes left", Severity.WARNING, reads=READS)
def inodes(scene: Scene) -> Iterator[Found]:
    """Find file systems that hold too many small files: then nothing can be written although there is room."""
    most = scene.lab.health.limits.guests.inode_percent
    for machine, guest in there(scene):
        for one in guest.file_systems:
            if one.inode_percent >= most:
                yield Found(f"guest {machine.name}", f"less than {most} % of the inodes of {one.target} taken",
                            f"{one.inode_percent:.0f} %",
                            f"`sudo du --inodes -x {one.target} | sort -n | tail` on {machine.name}: something leaves "
                            "many small files")  # fmt: skip


@health("guests.read-only", Area.GUESTS, "every guest can write to its disk", Severity.ERROR, reads=READS)
def read_only(scene: Scene) -> Iterator[Found]:
    """Find guests whose kernel made the disk read-only after an error."""
    for machine, guest in there(scene):
        if guest.read_only:
            yield Found(f"guest {machine.name}", "a root file system that can be written to", "read-only",
                        f"`sudo dmesg | grep -i ext4` on {machine.name}; look at the disks of {machine.host}, then "
                        "restart the VM: it checks the file system")  # fmt: skip


@health("guests.memory", Area.GUESTS, "every guest has memory left", Severity.WARNING, reads=READS)
def memory(scene: Scene) -> Iterator[Found]:
    """Find guests that are about to kill processes for lack of memory."""
    most = scene.lab.health.limits.guests.memory_percent
    for machine, guest in there(scene):
        if guest.memory_percent >= most:
            yield Found(f"guest {machine.name}", f"less than {most} % of its memory in use",
                        f"{guest.memory_percent:.0f} % of {size(guest.memory)}",
                        f"`kubectl top pods -A --sort-by=memory`; give {machine.name} more memory in the lab file and "
                        "run provision-vms")  # fmt: skip


@health("guests.clock", Area.GUESTS, "every guest's clock is right and kept right", Severity.WARNING, reads=READS)
def clock(scene: Scene) -> Iterator[Found]:
    """Find clocks that are off, as seen from here, or that nothing keeps right."""
    most = scene.lab.health.limits.guests.clock_seconds
    for machine, guest in there(scene):
        offset = guest.clock_offset
        off = offset is not None and abs(offset) - guest.clock_error > most
        if not off and guest.synchronized is not False:
            continue
        got = (
            f"{abs(offset or 0):.1f} s {'ahead' if (offset or 0) > 0 else 'behind'}"
            if off
            else "nothing keeps it right"
        )
        yield Found(f"guest {machine.name}", f"a clock that is at most {most} s off and synchronized", got,
                    f"`timedatectl` and `sudo systemctl restart systemd-timesyncd` on {machine.name}; is the time "
                    "server reachable?")  # fmt: skip


@health("guests.reboot", Area.GUESTS, "no guest waits long for its restart", Severity.WARNING, reads=READS)
def reboot(scene: Scene) -> Iterator[Found]:
    """Find guests that run an old kernel or library because nobody restarted them."""
    days = scene.lab.health.limits.guests.reboot_days
    for machine, guest in there(scene):
        if guest.reboot_since is not None and scene.now - guest.reboot_since >= timedelta(days=days):
            why = f" for {listed(guest.reboot_for, most=2)}" if guest.reboot_for else ""
            yield Found(f"guest {machine.name}", f"restarted within {days} days of an update that asks for it",
                        f"asked for {ago(guest.reboot_since, scene.now)}{why}",
                        f"kubectl drain {machine.name} --ignore-daemonsets --delete-emptydir-data, then `sudo reboot`; "
                        f"or run maintain-host for {machine.host}")  # fmt: skip


@health("guests.units", Area.GUESTS, "no unit of systemd has failed", Severity.WARNING, reads=READS)
def units(scene: Scene) -> Iterator[Found]:
    """Find guests with failed units, other than k3s's own."""
    for machine, guest in there(scene):
        failed = [name for name in guest.failed_units if name not in _OWN_UNITS]
        if failed:
            yield Found(f"guest {machine.name}", "no failed units", listed(failed),
                        f"`systemctl status {failed[0]}` on {machine.name}; `sudo systemctl reset-failed` when it is "
                        "of no matter")  # fmt: skip


@health("guests.k3s-unit", Area.GUESTS, "k3s runs on every guest, in its role", Severity.ERROR, reads=READS)
def k3s_unit(scene: Scene) -> Iterator[Found]:
    """Find guests on which k3s does not run, or runs as the other kind."""
    for machine, guest in there(scene):
        mine, other = _OWN_UNITS if machine.role == "server" else _OWN_UNITS[::-1]
        state = guest.unit(mine).state
        if state != "active":
            wrong = guest.unit(other).state == "active"
            got = f"{mine} {state}" + (f", and {other} active" if wrong else "")
            yield Found(f"guest {machine.name}", f"the unit {mine} active", got,
                        f"`journalctl -u {mine} -e` on {machine.name}; or run bootstrap-k3s")  # fmt: skip


@health("guests.k3s-version", Area.GUESTS, "every guest has the k3s of the lab file", Severity.WARNING, reads=READS)
def k3s_version(scene: Scene) -> Iterator[Found]:
    """Find guests on which another version of k3s is installed; where it is newer, the lab file is what is behind."""
    wanted = scene.lab.k3s.version
    newer: dict[str, list[str]] = {}
    for machine, guest in there(scene):
        if compare_versions(guest.k3s_version, wanted) > 0:
            newer.setdefault(guest.k3s_version, []).append(machine.name)
        elif guest.k3s_version != wanted:
            remedy = "run upgrade-k3s" if guest.k3s_version else "run bootstrap-k3s"
            yield Found(f"guest {machine.name}", f"k3s {wanted}", guest.k3s_version or "none", remedy)
    for version, names in newer.items():
        yield Found("k3s.version of the lab file", f"{version}, as on {listed(names)}", wanted,
                    f"write `version: {version}` there: after a loss the cluster would begin with less")  # fmt: skip
