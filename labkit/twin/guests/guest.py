"""One VM from the inside: its facts, files, units and users, how it boots and how it goes down.

Other parts add to a guest: a unit to `units`, a file to `files`, a computed file to `files.virtual`, something to
do at every boot to `on_boot`, before an orderly shutdown to `on_shutdown`, at any power loss to `closers`.
State lives as long as the VM: it survives a reboot and a stop, and goes when the VM is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from labkit.lab.pveformat import boot_disk, parse_memory, parse_props
from labkit.twin.guests import system
from labkit.twin.guests.changes import unwatched, watched
from labkit.twin.guests.commands.registry import Command, Stdin
from labkit.twin.guests.condition import Condition
from labkit.twin.guests.files import Files
from labkit.twin.guests.result import Result
from labkit.twin.guests.units import Unit, UnitError, Units
from labkit.twin.proxmox.cloudinit import authorized_keys, instance_id
from labkit.twin.world import World

Hook = Callable[["Guest"], Awaitable[None]]
Phase = Literal["off", "booting", "up"]
_log = logging.getLogger(__name__)


@dataclass
class CloudInit:
    """How cloud-init stands: `not started`, `running`, `done` or `error`."""

    status: str = "not started"
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    errors: tuple[str, ...] = ()

    def begin(self) -> None:
        """Start anew at a boot."""
        self.status, self.errors = "running", ()
        self.finished.clear()

    def end(self, *errors: str) -> None:
        """Record the end, with what went wrong."""
        self.status, self.errors = "error" if errors else "done", errors
        self.finished.set()


class Guest:
    """A VM with Ubuntu in it.

    Attributes that others read: `name` (of the VM), `hostname`, `address`, `cores`, `memory` and `disk` (MiB),
    `users` (name to public keys), `packages`, `modules`, `sysctl`, `listening` (port to address), `commands`
    (those of this guest only), `condition`, `phase`, `booted` (time), `boots` (how often).
    """

    def __init__(self, world: World, vmid: int, name: str, folder: Path, *, number: int = 1) -> None:
        self.world = world
        self.vmid = vmid
        self.name = name
        self.folder = folder
        self.host_key_seed = world.seed.bytes("ssh host key", vmid, name, number)
        self.files = Files(folder / "root")
        self.files.is_full = lambda: world.faults.has("disk-full", name)
        self.units = Units(self.now)
        self.cloud_init = CloudInit()
        self.phase: Phase = "off"
        self.settings: dict[str, str] = {}
        self.hostname = "ubuntu"
        self.address = ""
        self.users: dict[str, list[str]] = {}
        self.packages = dict(system.PACKAGES)
        self.modules = set(system.MODULES)
        self.sysctl: dict[str, str] = {}
        self.listening: dict[int, str] = {}
        self.virtual: set[str] = set()
        """Addresses that it has beside its own, for a while."""
        self.commands: dict[str, Command] = {}
        self.condition = Condition()
        self.booted = 0.0
        self.boots = 0
        self.on_boot: list[Hook] = []
        self.on_shutdown: list[Hook] = []
        self.closers: list[Hook] = []
        self.on_reboot: Callable[[Guest], None] = lambda _guest: None
        self.on_power_off: Callable[[Guest], None] = lambda _guest: None
        self._instance = ""
        self._jobs: set[asyncio.Task[Any]] = set()
        system.furnish(self)

    @property
    def agent_configured(self) -> bool:
        """Whether the VM had the agent's device when it was switched on."""
        props = parse_props(self.settings.get("agent", "0"))
        return props.get("enabled", props.get("", "0")) in {"1", "on", "yes", "true"}

    @property
    def answers(self) -> bool:
        """Whether the guest agent answers."""
        return self.phase == "up" and self.agent_configured

    @property
    def cores(self) -> int:
        """The number of processors."""
        return int(self.settings.get("cores", "1")) * int(self.settings.get("sockets", "1"))

    @property
    def memory(self) -> int:
        """The memory in MiB."""
        return parse_memory(self.settings.get("memory", "512")) or 512

    @property
    def disk(self) -> int:
        """The size of the disk in MiB."""
        found = boot_disk(self.settings)
        return found[1] if found else 0

    @property
    def prefix(self) -> int:
        """The length of the network's prefix."""
        return int(parse_props(self.settings.get("ipconfig0", "")).get("ip", "").partition("/")[2] or 24)

    @property
    def mac(self) -> str:
        """The MAC address of the first card, in lower case."""
        return next(iter(parse_props(self.settings.get("net0", "")).values()), "").lower()

    @property
    def clock_offset(self) -> float:
        """By how many seconds the clock is wrong."""
        return sum(float(given[1]) for given in self.world.faults.arguments("clock-off") if given[0] == self.name)

    def now(self) -> float:
        """Return the time by this guest's clock."""
        return self.world.clock.now() + self.clock_offset

    def interfaces(self) -> list[dict[str, Any]]:
        """Return the network cards as the guest agent shows them."""
        return system.interfaces(self)

    def os_info(self) -> dict[str, str]:
        """Return the operating system as the guest agent shows it."""
        return dict(system.OS_INFO)

    async def execute(
        self,
        command: Sequence[str] | str,
        *,
        user: str,
        stdin: bytes | Stdin = b"",
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command (words) or a line of shell as a user, and count it when it changed something."""
        from labkit.twin.guests import shell  # noqa: PLC0415  # commands know guests

        with watched() as note:
            if isinstance(command, str):
                result = await shell.run_line(self, command, user=user, stdin=stdin, env=env or {})
            else:
                result = await shell.run_words(self, list(command), user=user, stdin=stdin, env=env or {})
        if note.changed:
            self.world.counters.write("guests")
        return result

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start something that ends at the latest when the guest goes down."""
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def power_on(self, settings: Mapping[str, str], *, at_once: bool = False) -> None:
        """Boot with a configuration; `at_once` for a machine that has been up for long."""
        self.settings = dict(settings)
        self.phase = "booting"
        with unwatched():
            self.spawn(self._boot(at_once=at_once))

    async def power_off(self, *, orderly: bool = True) -> None:
        """Go down: stop what runs; files stay."""
        if self.phase == "off":
            return
        if orderly and self.phase == "up":
            await self._run_hooks(self.on_shutdown)
        self.phase = "off"
        await self._run_hooks(self.closers)
        current = asyncio.current_task()
        for job in [job for job in self._jobs if job is not current]:
            job.cancel()
        self.units.lose_power()
        self.listening.clear()
        self.cloud_init = CloudInit()

    async def _boot(self, *, at_once: bool) -> None:
        pace, clock = self.world.pace, self.world.clock
        self.cloud_init.begin()
        if not at_once:
            await clock.sleep(pace.boot)
        first = self._apply_cloud_init()
        self.boots += 1
        self.booted = clock.now()
        self.phase = "up"
        system.come_up(self)
        await self._run_hooks(self.on_boot)
        for unit in self.units.all():
            if unit.enabled and unit.start is not None:
                self.spawn(self._start_at_boot(unit))  # it may take its time, or never come up
            elif unit.enabled:
                await self._start_at_boot(unit)
        if not at_once:
            await clock.sleep(pace.cloud_init if first else pace.cloud_init_again)
        self._finish_cloud_init()

    async def _start_at_boot(self, unit: Unit) -> None:
        try:
            await self.units.start(unit)
        except UnitError as exc:
            _log.info("%s: %s did not start: %s", self.name, unit.name, exc)

    async def _run_hooks(self, hooks: Sequence[Hook]) -> None:
        for hook in list(hooks):
            await hook(self)

    def _apply_cloud_init(self) -> bool:
        """Do what cloud-init does early: network, and for a new instance host name, user and keys."""
        self.address = self._choose_address()
        instance = instance_id(self.settings)
        if instance == self._instance:
            return False
        self._instance = instance
        self.hostname = self.settings.get("name", self.name)
        if user := self.settings.get("ciuser"):
            self.users[user] = authorized_keys(self.settings)
            self.files.locate(f"/home/{user}").mkdir(parents=True, exist_ok=True)
        system.write_identity(self, instance)
        return True

    def _choose_address(self) -> str:
        given = parse_props(self.settings.get("ipconfig0", "")).get("ip", "").partition("/")[0]
        network = self.world.lab.network.cidr
        if self.world.faults.has("wrong-address", self.name) or given == "dhcp":
            taken = {machine.address for machine in self.world.lab.machines}
            free = (network.broadcast_address - 1 - (self.vmid % 20 + n) % 40 for n in range(40))
            return str(next((address for address in free if address not in taken), network.broadcast_address - 1))
        return given

    def _finish_cloud_init(self) -> None:
        if self.world.faults.has("cloud-init-error", self.name):
            text = "('scripts_user', RuntimeError('Runparts: 1 failures (part-001) in 1 attempted commands'))"
            self.cloud_init.end(text)
        else:
            self.cloud_init.end()
        system.write_boot_finished(self)
