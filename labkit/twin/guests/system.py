"""What is in a fresh Ubuntu guest: packages, modules, files, network cards as tools show them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from labkit.twin.guests.identity import host_key_files
from labkit.twin.guests.units import Unit

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest

KERNEL = "6.8.0-87-generic"
MACHINE = "x86_64"
PACKAGES: Mapping[str, str] = {
    "bash": "5.2.21-2ubuntu4", "cloud-init": "25.2-0ubuntu1~24.04.1", "coreutils": "9.4-3ubuntu6.1",
    "curl": "8.5.0-2ubuntu10.6", "openssh-server": "1:9.6p1-3ubuntu13.14", "qemu-guest-agent": "1:8.2.2+ds-0ubuntu1.10",
    "systemd": "255.4-1ubuntu8.11", "sudo": "1.9.15p5-3ubuntu5.24.04.1",
}  # fmt: skip
MODULES = frozenset({"overlay", "virtio_net", "virtio_scsi", "nls_iso8859_1"})
OS_INFO: Mapping[str, str] = {
    "id": "ubuntu", "name": "Ubuntu", "version": "24.04.3 LTS (Noble Numbat)", "version-id": "24.04",
    "pretty-name": "Ubuntu 24.04.3 LTS", "kernel-release": KERNEL, "machine": MACHINE,
    "kernel-version": "#88-Ubuntu SMP PREEMPT_DYNAMIC",
}  # fmt: skip
_OS_RELEASE = """PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.3 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
"""
_FOLDERS = ("etc/ssh", "etc/systemd/system", "etc/modules-load.d", "etc/sysctl.d", "home", "root", "run", "tmp",
            "usr/local/bin", "usr/bin", "var/lib/cloud/instance", "var/log", "var/tmp", "proc", "mnt", "opt",
            "srv")  # fmt: skip


def furnish(guest: Guest) -> None:
    """Put into a new guest what the template has."""
    for folder in _FOLDERS:
        guest.files.locate(f"/{folder}").mkdir(parents=True, exist_ok=True)
    guest.files.locate("/var/run").symlink_to("/run")
    guest.files.put("/etc/os-release", _OS_RELEASE)
    guest.files.put("/etc/machine-id", guest.world.seed.hex("machine-id", guest.vmid, guest.name) + "\n")
    guest.files.virtual["/proc/meminfo"] = partial(_meminfo, guest)
    guest.files.virtual["/proc/uptime"] = partial(_uptime, guest)
    guest.files.virtual["/proc/loadavg"] = lambda: b"0.08 0.03 0.01 1/143 1042\n"
    for name, text in (("ssh", "OpenBSD Secure Shell server"), ("qemu-guest-agent", "QEMU Guest Agent"),
                       ("systemd-timesyncd", "Network Time Synchronization")):  # fmt: skip
        guest.units.add(Unit(f"{name}.service", text))


def come_up(guest: Guest) -> None:
    """Begin with an empty /run, as far as anybody looks: a restart was done."""
    for name in ("reboot-required", "reboot-required.pkgs"):
        guest.files.locate(f"/run/{name}").unlink(missing_ok=True)


def write_identity(guest: Guest, instance: str) -> None:
    """Write the files of a new instance: names, hosts, host keys, instance id."""
    name, domain = guest.hostname, guest.settings.get("searchdomain", "")
    full = f"{name}.{domain}".rstrip(".")
    guest.files.put("/etc/hostname", f"{name}\n")
    guest.files.put("/etc/hosts", f"127.0.1.1 {full} {name}\n127.0.0.1 localhost\n")
    guest.files.put("/var/lib/cloud/data/instance-id", f"{instance}\n")
    for path, (text, mode) in host_key_files(guest).items():
        guest.files.put(path, text, mode=mode)


def write_boot_finished(guest: Guest) -> None:
    """Write what cloud-init writes at its end."""
    guest.files.put("/var/lib/cloud/instance/boot-finished", f"{uptime(guest):.2f} - cloud-init finished\n")
    guest.files.put("/var/log/cloud-init-output.log", f"Cloud-init finished: {guest.cloud_init.status}\n")


def uptime(guest: Guest) -> float:
    """Return the seconds since the boot."""
    return max(guest.world.clock.now() - guest.booted, 0.01)


def interfaces(guest: Guest) -> list[dict[str, Any]]:
    """Return the network cards as the guest agent shows them."""
    loop = {"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}
    cards: list[dict[str, Any]] = [
        {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [loop]},
        {"name": "eth0", "hardware-address": guest.mac, "ip-addresses": []},
    ]
    if guest.address:
        own = {"ip-address": guest.address, "ip-address-type": "ipv4", "prefix": guest.prefix}
        local = {"ip-address": link_local(guest.mac), "ip-address-type": "ipv6", "prefix": 64}
        more = [{"ip-address": text, "ip-address-type": "ipv4", "prefix": 32} for text in sorted(guest.virtual)]
        cards[1]["ip-addresses"] = [own, *more, local]
    return cards


def link_local(mac: str) -> str:
    """Return the IPv6 address that a card gives itself."""
    parts = [int(part, 16) for part in mac.split(":")] if mac else [0] * 6
    parts[0] ^= 2
    left, right = parts[:3], parts[3:]
    return f"fe80::{left[0]:02x}{left[1]:02x}:{left[2]:02x}ff:fe{right[0]:02x}:{right[1]:02x}{right[2]:02x}"


def _uptime(guest: Guest) -> bytes:
    return f"{uptime(guest):.2f} {uptime(guest):.2f}\n".encode()


def _meminfo(guest: Guest) -> bytes:
    total = guest.memory * 1024 * 97 // 100
    left = total * (100 - guest.condition.memory_percent) // 100
    rows = {"MemTotal": total, "MemFree": left * 3 // 4, "MemAvailable": left, "Buffers": total // 50,
            "Cached": left // 5, "SwapTotal": 0, "SwapFree": 0}  # fmt: skip
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items()).encode()
