"""What ails Proxmox hosts and guests."""

from __future__ import annotations

from labkit.twin.ailments.ailment import Ailment, ailment, step

_WEEKS = 24 * 21

OF_MACHINES: tuple[Ailment, ...] = (
    ailment("storage-nearly-full", "proxmox.storage-room", "storage {storage} on {host2}",
            step("storage", name="{storage}", host="{host2}", percent=91)),
    ailment("host-certificate-ends", "proxmox.certificate", "host {host3}",
            step("host", name="{host3}", certificate_days=4)),
    ailment("host-behind", "proxmox.version", "host {host3}", step("host", name="{host3}", version="9.0.11")),
    ailment("host-root-full", "proxmox.root-room", "host {host2}", step("host", name="{host2}", root_percent=93)),
    ailment("host-disk-fails", "proxmox.disk-health", "disk /dev/nvme0n1 on {host1}",
            step("host", name="{host1}", disk={"health": "FAILED"})),
    ailment("host-disk-worn", "proxmox.disk-wear", "disk /dev/nvme0n1 on {host2}",
            step("host", name="{host2}", disk={"left": 8})),
    ailment("host-restarted", "proxmox.restarted", "host {host3}", step("host", name="{host3}", up_days=0.2)),
    ailment("vm-lock-forgotten", "proxmox.vm-lock", "VM {agent3}", step("lock", vm="{agent3}", lock="backup")),
    ailment("vm-backup-old", "proxmox.backup-age", "VM {agent2}",
            step("backup", vm="{agent2}", hours=None), step("backup", vm="{agent2}", hours=_WEEKS)),
    ailment("backup-task-failed", "proxmox.backup-task", "backup on {host2}",
            step("task", host="{host2}", status="job errors", hours=6)),
    ailment("guest-disk-fills", "guests.disk", "guest {agent1}", step("guest", name="{agent1}", disk_percent=86)),
    ailment("guest-inodes-gone", "guests.inodes", "guest {agent2}", step("guest", name="{agent2}", inode_percent=96)),
    ailment("guest-memory-full", "guests.memory", "guest {server2}",
            step("guest", name="{server2}", memory_percent=97)),
    ailment("guest-waits-for-restart", "guests.reboot", "guest {agent3}",
            step("guest", name="{agent3}", reboot_days=40)),
    ailment("guest-unit-failed", "guests.units", "guest {server3}",
            step("guest", name="{server3}", failed_unit="snapd.service")),
    ailment("guest-clock-off", "guests.clock", "guest {agent4}", step("fault", name="clock-off:{agent4}:9")),
)  # fmt: skip
