"""The VMs as the proxy knows them: a mirror of fakepve's configurations, and what fakepve cannot hold itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.lab.pveformat import boot_disk, parse_bytes, parse_props
from labkit.twin.proxmox.errors import PveError, no_config

if TYPE_CHECKING:
    from labkit.twin.proxmox.fakepve import FakePve  # aiohttp is slow to import, and scenarios need Vm early

_NUMBERS = frozenset({
    "cores", "sockets", "vcpus", "onboot", "numa", "balloon", "protection", "ciupgrade", "template", "tablet",
    "kvm", "acpi", "cpuunits", "autostart",
})  # fmt: skip
DISK = re.compile(r"^(scsi|virtio|sata|ide|efidisk|tpmstate|unused)\d+$")


@dataclass
class Vm:
    """One VM or template.

    `node` is where it is, `home` where fakepve believes it to be (a VM that was moved). `config` mirrors what
    fakepve shows; `live` holds what a running VM took over at once although fakepve keeps it pending.
    """

    vmid: int
    name: str
    node: str
    home: str
    config: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    running: bool = False
    template: bool = False
    lock: str = ""
    started: float = 0.0
    pool: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """The configuration as it is in force, all values as text."""
        return {**self.config, **self.live}

    @property
    def gib(self) -> float:
        """The size of the disk that it boots from."""
        found = boot_disk(self.settings)
        return found[1] / 1024 if found else 0.0

    def shown(self) -> dict[str, Any]:
        """Return the configuration as Proxmox answers it, with its digest."""
        config: dict[str, Any] = dict(self.settings)
        if self.lock:
            config["lock"] = self.lock
        config["digest"] = self.digest()
        if "cipassword" in config:
            config["cipassword"] = "**********"
        for key in _NUMBERS & config.keys():
            if str(config[key]).lstrip("-").isdecimal():
                config[key] = int(config[key])
        if "description" in config:
            config["description"] = config["description"].rstrip("\n") + "\n"
        return config

    def digest(self) -> str:
        """Return the checksum of the configuration."""
        text = json.dumps([self.settings, self.lock], sort_keys=True)
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def disks(self) -> Iterator[tuple[str, str, int]]:
        """Yield storage, volume and size in bytes of each disk."""
        for key, value in self.settings.items():
            props = parse_props(value) if DISK.match(key) else {}
            storage, separator, _ = props.get("", "").partition(":")
            if separator:
                size = parse_bytes(props.get("size", "")) or (4 * 1024**2 if "cloudinit" in value else 0)
                yield storage, props[""], size

    def need_unlocked(self) -> None:
        """Raise the answer of Proxmox for a VM that some operation has locked."""
        if self.lock:
            raise PveError(500, f"VM is locked ({self.lock})")


class Inventory:
    """All VMs by VMID."""

    def __init__(self, pve: FakePve) -> None:
        self._pve = pve
        self._all: dict[int, Vm] = {}

    def __iter__(self) -> Iterator[Vm]:
        return iter(list(self._all.values()))

    def add(self, vm: Vm) -> Vm:
        """Take note of a VM."""
        self._all[vm.vmid] = vm
        return vm

    def remove(self, vmid: int) -> None:
        """Forget a VM."""
        self._all.pop(vmid, None)

    def get(self, vmid: int) -> Vm | None:
        """Return the VM of an id, or None."""
        return self._all.get(vmid)

    def at(self, node: str, vmid: str) -> Vm:
        """Return the VM of an id on a node; raise the answer of Proxmox when it is not there."""
        vm = self._all.get(int(vmid)) if vmid.isdecimal() else None
        if vm is None or vm.node != node:
            raise no_config(node, int(vmid) if vmid.isdecimal() else 0)
        return vm

    def named(self, name: str) -> Vm | None:
        """Return the VM of a name, or None."""
        return next((vm for vm in self if vm.name == name), None)

    def free_id(self) -> int:
        """Return the lowest VMID from 100 that nobody has."""
        return next(number for number in range(100, 1_000_000_000) if number not in self._all)

    async def refresh(self, vm: Vm) -> None:
        """Read the configuration of a VM from fakepve again."""
        config = await self._pve.ask("GET", f"/nodes/{vm.home}/qemu/{vm.vmid}/config")
        config.pop("digest", None)
        vm.config = {key: str(value) for key, value in config.items()}
        vm.name = vm.config.get("name", vm.name)
