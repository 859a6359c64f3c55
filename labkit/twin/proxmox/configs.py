"""The configuration of VMs: what is taken over at once, what waits for the next start, disks, cloud-init."""

from __future__ import annotations

import re
from typing import Any

from labkit.lab.pveformat import parse_bytes, parse_props, render_props
from labkit.twin.proxmox import cloudinit
from labkit.twin.proxmox.calls import Call
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.errors import PveError, TaskError, parameter_error
from labkit.twin.proxmox.inventory import DISK, Vm
from labkit.twin.proxmox.privileges import Need, config_needs
from labkit.twin.proxmox.tasks import Task

_CONTROL = ("digest", "delete", "revert", "skiplock", "force", "background_delay", "node", "vmid")
_ALWAYS_LIVE = frozenset({"cpulimit", "cpuunits", "balloon", "shares"})
_DEFAULT_HOTPLUG = "network,disk,usb"
_MODELS = frozenset({"virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"})


class Configs:
    """The calls below `config`, `pending`, `resize` and `cloudinit`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def get(self, call: Call) -> dict[str, Any]:
        """Answer the configuration in force."""
        return self._core.vm(call).shown()

    async def pending(self, call: Call) -> list[dict[str, Any]]:
        """Answer what waits for the next start, without what was taken over already."""
        vm = self._core.vm(call)
        rows: list[dict[str, Any]] = await self._core.pve.ask("GET", self._core.path(vm, "/pending"))
        for row in rows:
            if row["key"] in vm.live:
                row["value"] = vm.live[row["key"]]
                if row.get("pending") == row["value"]:
                    del row["pending"]
        return [{**row, "value": "**********"} if row["key"] == "cipassword" else row for row in rows]

    async def put(self, call: Call) -> None:
        """Change the configuration now."""
        vm = self._core.vm(call)
        self._check(call, vm)
        await self._change(vm, call.params)

    async def post(self, call: Call) -> str:
        """Change the configuration in a task."""
        vm = self._core.vm(call)
        self._check(call, vm)

        async def work(_task: Task) -> None:
            await self._change(vm, call.params)

        return self._core.tasks.start(call.node, "qmconfig", vm.vmid, call.caller.user, work)

    async def resize(self, call: Call) -> str:
        """Grow a disk in a task."""
        vm = self._core.vm(call)
        call.allow("disk", "size", "digest", "skiplock")
        disk, size = call.text("disk"), call.text("size")
        if not DISK.match(disk):
            raise parameter_error(disk=f"value '{disk}' does not have a value in the enumeration")
        if not re.fullmatch(r"\+?\d+(\.\d+)?[KMGT]?", size):
            raise parameter_error(size="value does not match the regex pattern")

        async def work(_task: Task) -> None:
            await self._core.world.clock.sleep(self._core.world.pace.resize)
            vm.need_unlocked()
            await self._grow(vm, disk, size)

        return self._core.tasks.start(call.node, "resize", vm.vmid, call.caller.user, work)

    async def cloud_init(self, call: Call) -> list[dict[str, Any]]:
        """Answer the settings of cloud-init, with what waits."""
        return [row for row in await self.pending(call) if cloudinit.is_setting(row["key"])]

    async def regenerate(self, call: Call) -> None:
        """Write the cloud-init drive anew."""
        self._core.vm(call).need_unlocked()

    async def dump(self, call: Call) -> str:
        """Answer what cloud-init will read: type user, network or meta."""
        vm, kind = self._core.vm(call), call.text("type")
        if kind not in cloudinit.KINDS:
            raise parameter_error(type=f"value '{kind}' does not have a value in the enumeration 'user, network, meta'")
        return cloudinit.dump(kind, vm.settings)

    def _check(self, call: Call, vm: Vm) -> None:
        values = {key: str(value) for key, value in call.params.items() if key not in _CONTROL}
        values |= dict.fromkeys(_split(call.text("delete")), "")
        for key, value in values.items():
            need = config_needs(key, value)
            if need is None and not call.caller.root:
                raise PveError(403, f"only root can set '{key}' config")
            needs = [] if need is None else [need]
            if key.startswith("net") and (bridge := parse_props(value).get("bridge")):
                needs.append(Need(f"/sdn/zones/localnetwork/{bridge}", ("SDN.Use",)))
            call.caller.check(needs, {"vmid": vm.vmid})
        if call.text("digest") not in {"", vm.digest()}:
            raise PveError(500, "checksum mismatch (file change by other user?)")
        vm.need_unlocked()

    async def _change(self, vm: Vm, params: dict[str, Any]) -> None:
        values = {key: value for key, value in params.items() if key not in {"digest", "node", "vmid"}}
        for key in [key for key in values if re.fullmatch(r"net\d+", key)]:
            values[key] = self._with_mac(vm, key, str(values[key]))
        if "tags" in values:
            values["tags"] = ";".join(sorted({tag.lower() for tag in _split(str(values["tags"]))}))
        lock = await self._core.lock(vm.vmid, self._core.world.pace.lock_wait)
        try:
            await self._core.pve.ask("PUT", self._core.path(vm, "/config"), values)
            if vm.running:
                live = {key: str(value) for key, value in values.items() if _is_live(vm, key)}
                vm.live.update(live)
            await self._core.inventory.refresh(vm)
        finally:
            lock.release()

    def _with_mac(self, vm: Vm, key: str, value: str) -> str:
        """Write a network card as Proxmox does: the model with its MAC first, the rest in order."""
        props = parse_props(value)
        model = props.pop("model", "") or props.pop("", "") or next((name for name in props if name in _MODELS), "")
        if not model:
            return value
        mac = props.pop(model, "") or props.pop("macaddr", "") or self._core.world.seed.mac(vm.vmid, vm.name, key)
        return render_props({model: mac, **dict(sorted(props.items()))})

    async def _grow(self, vm: Vm, disk: str, size: str) -> None:
        props = parse_props(vm.settings.get(disk, ""))
        if not props:
            raise TaskError(f"disk '{disk}' does not exist")
        now, amount = parse_bytes(props.get("size", "0")) or 0, parse_bytes(size.lstrip("+")) or 0
        wanted = now + amount if size.startswith("+") else amount
        if wanted < now:
            raise TaskError("shrinking disks is not supported")
        value = render_props({**props, "size": _size_text(wanted)})
        await self._core.pve.ask("PUT", self._core.path(vm, "/config"), {disk: value})
        if vm.running:
            vm.live[disk] = value
        await self._core.inventory.refresh(vm)


def _is_live(vm: Vm, key: str) -> bool:
    """Tell whether a running VM takes a key over at once: by Proxmox's own list and the VM's `hotplug`."""
    hotplug = vm.settings.get("hotplug", "1")
    features = set(_split(_DEFAULT_HOTPLUG if hotplug == "1" else hotplug))
    if re.fullmatch(r"net\d+", key):
        return "network" in features
    if DISK.match(key):
        return "disk" in features and not key.startswith(("ide", "sata", "efidisk", "tpmstate"))
    if key == "memory":
        return "memory" in features and vm.settings.get("numa") == "1"
    if key == "vcpus":
        return "cpu" in features
    return key in _ALWAYS_LIVE


def _size_text(size: int) -> str:
    for unit, factor in (("T", 1024**4), ("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"[\s,;]+", text) if part]
