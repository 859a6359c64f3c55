"""One twin from its start to its end, as one process with fakepve beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from importlib import import_module
from typing import Any

from labkit.lab.loader import load_lab
from labkit.twin.options import Options
from labkit.twin.parent import watch_parent
from labkit.twin.proxmox.daemon import Daemon
from labkit.twin.scenarios import fakepve_guests, make_vms
from labkit.twin.state import CONNECT, SECRETS, TWIN, write_json
from labkit.twin.world import World, make_world

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
    from labkit.twin.parts import SSH, Parts  # noqa: PLC0415  # fakepve comes up while the rest is imported

    parts = Parts(world, daemon, vms, stopped)
    await parts.inbox.start()
    write_json(state / SECRETS, world.secrets)
    try:
        _tell(world, await parts.start())
        await asyncio.gather(stopped.wait(), asyncio.to_thread(import_module, SSH))
    finally:
        (state / TWIN).unlink(missing_ok=True)
        await parts.stop()


def _tell(world: World, more: dict[str, Any]) -> None:
    """Write the file by which others find the twin: it is ready."""
    options = world.options
    write_json(options.state / TWIN, {
        "pid": os.getpid(), "lab": world.lab.name, "lab_file": str(options.lab_file),
        "scenario": options.scenario, "scale": options.scale, "seed": options.seed,
        "connect_file": str(options.state / CONNECT), "secrets_file": str(options.state / SECRETS),
        "trust": {name: {"ca": str(ca)} for name, ca in world.trust.items()},
        "started": time.time(), **more,
    })  # fmt: skip
    _log.info("ready: %s, scenario %s, scale %g", world.lab.name, options.scenario, options.scale)
