"""Health checks of what fills up: it has room today, but at its pace of the last weeks not for long. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.checks.health.base import HISTORY, Area, Found, Scene, health
from labkit.checks.health.words import count, size
from labkit.plan import Severity
from labkit.rules.overview import capacity_of, with_trends


@health("proxmox.filling", Area.PROXMOX, "no storage of the hosts is full before long", Severity.WARNING,
        reads=("proxmox-health", HISTORY))  # fmt: skip
def proxmox_filling(scene: Scene) -> Iterator[Found]:
    """Find storages and root file systems of hosts that grow too fast."""
    return _filling(scene, "proxmox-health", "remove old images, backups and templates there, or add a disk")


@health("guests.filling", Area.GUESTS, "no disk of a VM is full before long", Severity.WARNING,
        reads=("guest-health", HISTORY))  # fmt: skip
def guests_filling(scene: Scene) -> Iterator[Found]:
    """Find file systems of VMs that grow too fast."""
    return _filling(scene, "guest-health", "write a larger disk into the lab file and run provision-vms")


@health("nas.filling", Area.NAS, "no pool is full before long", Severity.WARNING, reads=("nas", HISTORY))
def nas_filling(scene: Scene) -> Iterator[Found]:
    """Find pools that grow too fast."""
    return _filling(scene, "nas", "shorten what snapshots and backups are kept for, or add disks to the pool")


def _filling(scene: Scene, system: str, remedy: str) -> Iterator[Found]:
    limits = scene.lab.health.limits.trends
    for row in with_trends(capacity_of({system: scene[system]}), scene[HISTORY], scene.now):
        if row.days_left is None or row.per_day is None or row.days_left >= limits.full_days:
            continue
        yield Found(
            row.name, f"room for {count(limits.full_days, 'day')} at the pace of the last weeks",
            f"{size(row.used)} of {size(row.total)}, {size(row.per_day)} more a day: full in "
            f"{count(int(row.days_left), 'day')}",
            remedy, Severity.ERROR if row.days_left < limits.full_soon_days else None,
        )  # fmt: skip
