"""What the health reports of some weeks have left behind: scores, how full things were, how fast routes answered.

They stand in labkit's own file, so that a report on a lab that has run for a while has something to compare with.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labkit.facts.history import Sample
from labkit.health import HealthFinding, HealthReport, light, score
from labkit.history import FILE, History
from labkit.lab.models import Lab
from labkit.plan import Severity
from labkit.twin.controllers.objects import name_of, namespace_of, spec_of
from labkit.twin.flux.claims import all_objects
from labkit.twin.kube.door import Object
from labkit.twin.world import World

_DAYS = 40
_BAD_DAYS = (17, 16)
"""How many days ago something was wrong that is mended since."""
_TIME = timedelta(hours=6, minutes=30)
_GROWTH = 0.0008
"""The share of a storage that is filled in a day."""
_HOST = re.compile(r"\bHost\(\s*[`\"']([a-z0-9.-]+)[`\"']\s*\)", re.IGNORECASE)
Room = Mapping[str, tuple[int, int]]
"""Used and total bytes of storages, by the names that reports give them."""


def leave_reports(world: World, tree: Path, room: Room) -> None:
    """Write one report for each of the last forty days into the history of a twin.

    Args:
        world: the twin.
        tree: the repository's files: they say which routes there are, and what runs only once.
        room: how full the storages are now.
    """
    lab, state = world.lab, world.options.state / "labkit"
    state.mkdir(mode=0o700, exist_ok=True)
    objects = list(all_objects(tree, lab.git.path.removeprefix("./").strip("/")))
    chance = random.Random(world.seed.hex("reports"))  # noqa: S311  # a past that looks like one, no secret
    usual = {host: chance.uniform(150, 450) for host in sorted(_routes(objects))}
    history, lasting = History(state / FILE, lab.name, "twin"), tuple(_lasting(lab, objects))
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _TIME
    for back in range(_DAYS, 0, -1):
        moment = today - timedelta(days=back) + timedelta(seconds=chance.randrange(30))
        found = lasting + ((_trouble(moment),) if back in _BAD_DAYS else ())
        report = HealthReport(lab=lab.name, on="twin", made_at=moment, sentence="", light=light(found),
                              score=score(found), findings=found)  # fmt: skip
        history.add(report, _samples(room, usual, back, chance))


def _samples(room: Room, usual: Mapping[str, float], back: int, chance: random.Random) -> Iterator[Sample]:
    for name, (used, total) in room.items():
        grown = min(_GROWTH * total, used / (2 * _DAYS))
        yield Sample(series="used", subject=name, value=round(used - grown * (back + chance.uniform(-0.2, 0.2))))
        yield Sample(series="total", subject=name, value=float(total))
    for host, milliseconds in usual.items():
        yield Sample(series="response", subject=host, value=round(milliseconds * chance.lognormvariate(0, 0.25), 1))


def _trouble(moment: datetime) -> HealthFinding:
    return HealthFinding(id="longhorn.volume", area="longhorn", severity=Severity.ERROR, subject="volume of that day",
                         expected="all its replicas", got="degraded", since=moment)  # fmt: skip


def _lasting(lab: Lab, objects: list[Object]) -> Iterator[HealthFinding]:
    """Yield what reports on this lab find every day: hosts that hold too many servers, and what runs only once."""
    servers = [machine.host for machine in lab.servers]
    since = datetime.now(UTC) - timedelta(days=_DAYS)
    for host in lab.hosts:
        if len(servers) > 2 and len(servers) - servers.count(host) < len(servers) // 2 + 1:
            yield HealthFinding(id="kubernetes.quorum", area="kubernetes", severity=Severity.WARNING,
                                subject=f"host {host}", expected="", got="", since=since)  # fmt: skip
    single = [] if "coredns" in lab.k3s.disable else ["kube-system/coredns"]
    single += [
        f"{namespace_of(one)}/authelia" for one in objects
        if one["kind"] == "Deployment" and name_of(one) == "authelia" and spec_of(one).get("replicas", 1) == 1
    ]  # fmt: skip
    for name in single if len(lab.vms) > 1 else ():
        yield HealthFinding(id="kubernetes.single-replica", area="kubernetes", severity=Severity.INFO,
                            subject=f"Deployment {name}", expected="", got="", since=since)  # fmt: skip


def _routes(objects: list[Object]) -> set[str]:
    routes = [route for one in objects if one["kind"] == "IngressRoute" for route in spec_of(one).get("routes") or ()]
    return {host.lower() for route in routes for host in _HOST.findall(str(route.get("match") or ""))}
