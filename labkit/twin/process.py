"""One twin from its start to its end, as one process with fakepve beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from labkit.lab.loader import load_lab
from labkit.twin.options import Options
from labkit.twin.parent import watch_parent
from labkit.twin.proxmox.daemon import Daemon
from labkit.twin.scenarios import fakepve_guests, make_vms
from labkit.twin.state import CONNECT, SECRETS, TWIN, write_json
from labkit.twin.world import World, make_world

if TYPE_CHECKING:
    from labkit.twin.disaster import Disaster
    from labkit.twin.flux.system import GitOps
    from labkit.twin.k3s.system import K3s

_SSH = "labkit.twin.guests.ssh"
"""Slow to import, and not needed before the first guest boots."""
_log = logging.getLogger(__name__)


def run(options: Options) -> None:
    """Run a twin until it is told to end; raise LabError when it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    (options.state / TWIN).unlink(missing_ok=True)
    asyncio.run(_run(options))
    if options.temporary:  # whoever started it may be gone, and there are keys in it
        shutil.rmtree(options.state, ignore_errors=True)


async def _run(options: Options) -> None:
    world = make_world(options, load_lab(options.lab_file))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if options.parent is not None:
        watch_parent(options.parent, stopped.set)
    await _live(world, stopped)


async def _live(world: World, stopped: asyncio.Event) -> None:
    state, vms = world.options.state, make_vms(world)
    daemon = Daemon(state, world.authority, fakepve_guests(vms))
    # fakepve comes up while the rest is imported.
    from labkit.twin.conditions import condition_actions  # noqa: PLC0415
    from labkit.twin.control import Control  # noqa: PLC0415
    from labkit.twin.disaster import Disaster  # noqa: PLC0415
    from labkit.twin.flux.system import GitOps  # noqa: PLC0415
    from labkit.twin.guests import Guests  # noqa: PLC0415
    from labkit.twin.inbox import Inbox  # noqa: PLC0415
    from labkit.twin.k3s.loss import Loss  # noqa: PLC0415
    from labkit.twin.k3s.system import K3s  # noqa: PLC0415
    from labkit.twin.k3s.userfiles import furnish_airgap  # noqa: PLC0415
    from labkit.twin.longhorn.wiring import Storage  # noqa: PLC0415
    from labkit.twin.nas.system import Nas  # noqa: PLC0415
    from labkit.twin.person import Person  # noqa: PLC0415
    from labkit.twin.proxmox.fakepve import FakePve  # noqa: PLC0415
    from labkit.twin.proxmox.system import Proxmox  # noqa: PLC0415

    if any(vm.running for vm in vms):
        import_module(_SSH)
    guests = Guests(world)
    proxmox = Proxmox(world, FakePve(daemon), guests, vms)
    k3s = K3s(world, guests)
    gitops = GitOps(world, k3s, repository=world.options.repo or None, branch=world.options.repo_branch)
    nas, inbox = Nas(world), Inbox(world)
    person = Person(proxmox)
    storage = Storage(world, k3s, nas.exports)
    disaster = Disaster(world, person, k3s, gitops, storage)
    person.actions |= storage.actions | disaster.actions | Loss(k3s).actions | condition_actions(guests, k3s, nas)
    ailments = Ailments(world, person.actions, k3s, gitops)
    person.actions |= ailments.actions
    running = Running(world, person, k3s, gitops, storage, ailments)
    control = Control(world, person, stopped)
    world.endpoints.reserve(*(f"{machine.address}:22" for machine in world.lab.machines))
    k3s.reserve()
    gitops.reserve()
    furnish_airgap(world)
    await inbox.start()
    write_json(state / SECRETS, world.secrets)
    try:
        await proxmox.start()
        await nas.start()
        await gitops.start()
        await _set_the_scene(world.options.scenario, k3s, gitops, disaster, running)
        await ailments.follow()
        _tell(world, await control.start(), {"exports": nas.exports.view(), "unreadable": gitops.unreadable})
        await asyncio.gather(stopped.wait(), asyncio.to_thread(import_module, _SSH))
    finally:
        (state / TWIN).unlink(missing_ok=True)
        for part in (control, inbox, guests, k3s, gitops, nas, proxmox):
            await part.stop()


async def _set_the_scene(scenario: str, k3s: K3s, gitops: GitOps, disaster: Disaster, running: Running) -> None:
    if scenario == "disaster":
        await disaster.begin()
    if scenario in {"running", "ailing"}:
        await running.begin(ailing=scenario == "ailing")
    if scenario in {"k3s", "k3s-behind", "flux"}:
        from labkit.twin.k3s.scenario import build, minor_before  # noqa: PLC0415

        version = k3s.world.lab.k3s.version
        await build(k3s, minor_before(version) if scenario == "k3s-behind" else version)
    if scenario == "quorum-lost":
        from labkit.twin.k3s.loss import Loss  # noqa: PLC0415

        await Loss(k3s).begin()
    if scenario == "flux" and k3s.cluster is not None:
        _log.info("the cluster is up")
        await gitops.bring_up(k3s.cluster.api)


def _tell(world: World, control: str, more: dict[str, Any]) -> None:
    """Write the file by which others find the twin: it is ready."""
    options = world.options
    write_json(options.state / TWIN, {
        "pid": os.getpid(), "lab": world.lab.name, "lab_file": str(options.lab_file),
        "scenario": options.scenario, "scale": options.scale, "seed": options.seed, "control": control,
        "connect_file": str(options.state / CONNECT), "secrets_file": str(options.state / SECRETS),
        "trust": {name: {"ca": str(ca)} for name, ca in world.trust.items()},
        "started": time.time(), **more,
    })  # fmt: skip
    _log.info("ready: %s, scenario %s, scale %g", world.lab.name, options.scenario, options.scale)
