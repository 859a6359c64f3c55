"""What all parts of one twin share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labkit.lab.models import Lab
from labkit.twin.certificates import Authority
from labkit.twin.clock import TwinClock
from labkit.twin.counters import Counters
from labkit.twin.endpoints import Endpoints
from labkit.twin.faults import Faults
from labkit.twin.options import Options, Pace
from labkit.twin.secrets import make_secrets, ssh_public_key
from labkit.twin.seed import Seed
from labkit.twin.state import CONNECT
from labkit.twin.targets import Targets


@dataclass
class World:
    """The lab, the time, the chance, the faults, the counts and the addresses of one twin.

    `trust` maps `host:port` to the CA that signs its certificate; parts add to it before the twin is ready.
    """

    options: Options
    lab: Lab
    seed: Seed
    clock: TwinClock
    authority: Authority
    endpoints: Endpoints
    secrets: dict[str, str]
    targets: Targets
    faults: Faults
    counters: Counters = field(default_factory=Counters)
    trust: dict[str, Path] = field(default_factory=dict)

    @property
    def pace(self) -> Pace:
        """How long things take."""
        return self.options.pace

    @property
    def ssh_public_key(self) -> str:
        """The public half of the key that labkit logs in with."""
        return ssh_public_key(self.secrets[self.lab.guests.ssh_key])


def make_world(options: Options, lab: Lab) -> World:
    """Prepare what the parts share; nothing runs yet."""
    seed, targets = Seed(options.seed, lab.name), Targets(lab)
    world = World(
        options=options,
        lab=lab,
        seed=seed,
        clock=TwinClock(options.scale),
        authority=Authority(options.state, lab.name),
        endpoints=Endpoints(options.state / CONNECT),
        secrets=make_secrets(lab, seed, options.age_key),
        targets=targets,
        faults=Faults(targets.check),
    )
    for text in options.faults:
        world.faults.set(text)
    return world
