"""The hosts themselves: their kernel, root file system, disks, pools and certificates, and how long they are up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labkit.twin.proxmox.calls import Call
from labkit.twin.world import World

GIB = 1024**3
DAY = 86400
RELEASES = {"8.4": ("8.4.14", "b502d23c55afcba1"), "9.1": ("9.1.1", "42db4a6cf33dac83")}
_KERNELS = {"8.4": "6.8.12-15-pve", "9.1": "6.17.2-1-pve"}
_UP_DAYS = 10
_CERTIFICATE_DAYS = 600
_CA_DAYS = 3200
_ROOT = 94 * GIB


@dataclass
class Disk:
    """One disk: `left` is what is left of its life in percent, None for one that does not tell."""

    device: str
    model: str
    serial: str
    size: int
    kind: str = "nvme"
    used: str = "LVM"
    health: str = "PASSED"
    left: int | None = 96

    def row(self) -> dict[str, Any]:
        """Return it as Proxmox lists it."""
        return {
            "devpath": self.device, "gpt": 1, "health": self.health, "model": self.model, "osdid": -1,
            "osdid-list": None, "rpm": 7200 if self.kind == "hdd" else 0, "serial": self.serial, "size": self.size,
            "type": self.kind, "used": self.used, "vendor": "unknown",
            "wearout": "N/A" if self.left is None else self.left,
            "by_id_link": f"/dev/disk/by-id/{self.kind}-{self.model.replace(' ', '_')}_{self.serial}",
        }  # fmt: skip


@dataclass
class Host:
    """How one host is doing; times are seconds since the epoch, sizes bytes."""

    booted: float
    version: str
    kernel: str
    certificate_ends: float
    disks: list[Disk]
    pools: list[dict[str, Any]] = field(default_factory=list)
    root_used: int = 9 * GIB
    memory: int | None = None
    """When it is not what its VMs need."""


class Hosts:
    """The state of every host of the lab; it may be changed at any time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: list[dict[str, Any]] = []
        """The backup jobs of the cluster."""
        self._all = {name: self._make(name) for name in world.lab.hosts}

    def __getitem__(self, name: str) -> Host:
        return self._all[name]

    def uptime(self, name: str) -> int:
        """Return for how many seconds a host has been up."""
        return max(int(self._world.clock.now() - self._all[name].booted), 1)

    def reboot(self, name: str) -> None:
        """Note that a host has just come up."""
        self._all[name].booted = self._world.clock.now()

    async def list_disks(self, call: Call) -> list[dict[str, Any]]:
        """Answer the disks of a host."""
        return [disk.row() for disk in self._all[call.node].disks]

    async def list_pools(self, call: Call) -> list[dict[str, Any]]:
        """Answer the ZFS pools of a host."""
        return [dict(pool) for pool in self._all[call.node].pools]

    async def certificates(self, call: Call) -> list[dict[str, Any]]:
        """Answer the certificates of a host: the cluster's CA and its own."""
        world, end = self._world, int(self._all[call.node].certificate_ends)
        name = f"{call.node}.{world.lab.network.search}"
        ca = f"/CN=Proxmox Virtual Environment/OU={world.seed.uuid('pve ca')}/O=PVE Cluster Manager CA"
        return [
            {"filename": "pve-root-ca.pem", "subject": ca, "san": [],
             **self._common(ca, "cluster", int(world.clock.now()) + _CA_DAYS * DAY)},
            {"filename": "pve-ssl.pem", "subject": f"/OU=PVE Cluster Node/CN={name}",
             "san": ["127.0.0.1", "::1", "localhost", call.node, name], **self._common(ca, call.node, end)},
        ]  # fmt: skip

    async def list_jobs(self, _call: Call) -> list[dict[str, Any]]:
        """Answer the backup jobs."""
        return [dict(job) for job in self.jobs]

    def status(self, name: str) -> dict[str, Any]:
        """Return what the state call of a host says beside its processors and memory."""
        host = self._all[name]
        free = max(_ROOT - host.root_used, 0)
        return {
            "pveversion": f"pve-manager/{host.version}/{RELEASES[self._world.options.proxmox][1]}",
            "kversion": f"Linux {host.kernel} #1 SMP PREEMPT_DYNAMIC PMX",
            "current-kernel": {"machine": "x86_64", "release": host.kernel, "sysname": "Linux",
                               "version": "#1 SMP PREEMPT_DYNAMIC PMX"},
            "rootfs": {"total": _ROOT, "used": host.root_used, "avail": free, "free": free},
            "loadavg": ["0.31", "0.27", "0.22"], "uptime": self.uptime(name), "wait": 0.001, "idle": 0,
        }  # fmt: skip

    def _common(self, issuer: str, whose: str, end: int) -> dict[str, Any]:
        digest = self._world.seed.hex("certificate", whose, length=64).upper()
        fingerprint = ":".join(digest[n : n + 2] for n in range(0, 64, 2))
        return {"fingerprint": fingerprint, "issuer": issuer, "notbefore": end - 2 * 365 * DAY, "notafter": end,
                "public-key-type": "rsaEncryption", "public-key-bits": 2048}  # fmt: skip

    def _make(self, name: str) -> Host:
        world, now = self._world, self._world.clock.now()
        release = world.options.proxmox
        serial = world.seed.hex("disk", name, length=10).upper()
        disk = Disk("/dev/nvme0n1", "SAMSUNG MZVL21T0HCLR-00B00", f"S676NF0R{serial}", 1024209543168)
        return Host(
            now - _UP_DAYS * DAY, RELEASES[release][0], _KERNELS[release], now + _CERTIFICATE_DAYS * DAY, [disk]
        )
