"""From when on the health report finds something: limits with defaults that suit a homelab."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from labkit.lab.base import Model
from labkit.lab.types import Checked, Form, FormError

Percent = Annotated[int, Field(ge=1, le=100)]
Many = Annotated[int, Field(ge=1, le=1000)]
Count = Annotated[int, Field(ge=1)]


def _day(value: str) -> str:
    try:
        date.fromisoformat(value)
    except ValueError:
        raise FormError("a date, for example 2027-01-31") from None
    return value


Day = Annotated[str, Checked(_day, "2027-01-31", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Reason = Annotated[str, Form(r".*\S.{8,}\S.*", "a reason in words", "the box is in repair until May")]
Pattern = Annotated[str, Form(r"\S(.*\S)?", "a name, * for any part of it", "host venus")]


class ProxmoxLimits(Model):
    """Limits for the Proxmox hosts."""

    storage_percent: Percent = 85
    """How full a storage may be."""
    storage_full_percent: Percent = 95
    """How full a storage is when VMs are about to stop: an error, no warning."""
    memory_percent: Many = 100
    """How much of a host's memory its running VMs may have between them; more than 100 swaps or kills."""
    backup_hours: Count = 192
    """How old the newest backup of a VM may be; the default is a week and a day."""
    certificate_days: Count = 10
    """How long a host's certificate must last; Proxmox renews its own two weeks before their end."""
    disk_wear_percent: Percent = 80
    """How worn a solid-state disk may be."""
    restart_hours: Count = 24
    """How long after its start a host is told to have been restarted."""


class GuestLimits(Model):
    """Limits for the VMs, seen from inside."""

    disk_percent: Percent = 80
    """How full the root file system may be; the kubelet deletes images from 85 and evicts pods from 90 on."""
    disk_full_percent: Percent = 90
    """How full it is when pods are evicted: an error, no warning."""
    inode_percent: Percent = 85
    """How many of the root file system's inodes may be taken."""
    memory_percent: Percent = 90
    """How much of the memory may be in use."""
    clock_seconds: Count = 2
    """How far a clock may be off; etcd and one-time passwords depend on it."""
    reboot_days: Count = 14
    """How long a reboot may wait that an update asked for."""


class KubernetesLimits(Model):
    """Limits for the cluster."""

    certificate_days: Count = 30
    """How long the certificates of k3s and of the kubeconfig must last; k3s renews its own at a restart."""
    snapshot_hours: Count = 2
    """How late an etcd snapshot may be after k3s.snapshot_schedule."""
    restarts: Count = 5
    """How often a container may have restarted, when the last time is no longer ago than `restart_hours`."""
    restart_hours: Count = 24
    """How long ago the last restart must be before it is forgotten."""
    stuck_minutes: Count = 15
    """How long a pod may wait, start or end, and a controller be short of replicas."""
    job_days: Count = 7
    """How long ago a job must have failed before it is forgotten."""
    quota_percent: Percent = 90
    """How much of a resource quota may be used."""


class CertificateLimits(Model):
    """Limits for the certificates of the cluster."""

    days: Count = 21
    """How long a certificate must last; those of Let's Encrypt are renewed 30 days before their end."""
    urgent_days: Count = 7
    """How long one lasts when it is an error, no warning."""


class FluxLimits(Model):
    """Limits for Flux."""

    suspended_hours: Count = 24
    """How long something may be suspended."""


class IngressLimits(Model):
    """Limits for the public hosts."""

    slow_milliseconds: Annotated[int, Field(ge=50)] = 3000
    """How long a host may take to answer a stranger."""


class LonghornLimits(Model):
    """Limits for Longhorn."""

    disk_percent: Percent = 80
    """How full a disk of Longhorn may be."""
    promised_percent: Many = 200
    """How much of a disk's room may be promised to volumes; they take it only as they fill."""
    restore_hours: Count = 6
    """How long a restore may take."""
    proven_days: Count = 35
    """How long ago the backups of a claim must have been restored and compared."""


class NasLimits(Model):
    """Limits for the TrueNAS box."""

    pool_percent: Percent = 80
    """How full a pool may be; ZFS becomes slow beyond that."""
    pool_full_percent: Percent = 90
    """How full a pool is when it is about to stop: an error, no warning."""
    scrub_days: Count = 40
    """How long ago the last scrub of a pool may have ended."""
    snapshot_hours: Count = 48
    """How old the newest snapshot of the backups' dataset may be."""
    replication_hours: Count = 48
    """How long ago a replication may have last succeeded."""
    disk_celsius: Percent = 50
    """How warm a disk may be."""
    key_days: Count = 30
    """How long the API key must last."""


class TrendLimits(Model):
    """Limits for what grows from report to report."""

    full_days: Count = 30
    """In how many days something may be full at the pace of the last weeks."""
    full_soon_days: Count = 7
    """In how many days it is full when it is an error, no warning."""


class Limits(Model):
    """From when on something counts as a finding, by area."""

    proxmox: ProxmoxLimits = ProxmoxLimits()
    """Limits for the Proxmox hosts."""
    guests: GuestLimits = GuestLimits()
    """Limits for the VMs, seen from inside."""
    kubernetes: KubernetesLimits = KubernetesLimits()
    """Limits for the cluster."""
    certificates: CertificateLimits = CertificateLimits()
    """Limits for the certificates of the cluster."""
    flux: FluxLimits = FluxLimits()
    """Limits for Flux."""
    ingress: IngressLimits = IngressLimits()
    """Limits for the public hosts."""
    longhorn: LonghornLimits = LonghornLimits()
    """Limits for Longhorn."""
    nas: NasLimits = NasLimits()
    """Limits for the TrueNAS box."""
    trends: TrendLimits = TrendLimits()
    """Limits for what grows from report to report."""


class Ignored(Model):
    """Findings that are accepted for a time: they count for nothing, and the report names them apart."""

    check: Pattern
    """The id of the check as the report names it; * stands for any part."""
    subject: Pattern = "*"
    """What the finding is about, as the report names it; * stands for any part."""
    reason: Reason
    """Why it is accepted."""
    until: Day
    """The last day on which it is; afterwards the findings count again."""

    @property
    def last_day(self) -> date:
        """The last day on which it holds."""
        return date.fromisoformat(self.until)


class Health(Model):
    """What the health report looks at."""

    limits: Limits = Limits()
    """From when on something counts as a finding."""
    ignore: tuple[Ignored, ...] = ()
    """Findings that are accepted for a time."""
    fail_on: Literal["info", "warning", "error", "never"] = "error"
    """The severity from which findings give exit status 1."""
