"""Read all systems side by side, once; what does not answer is told, and holds nothing up."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import LabError
from labkit.facts.survey import Reading, SurveyCost, Unread
from labkit.lab import Lab
from labkit.run import registry
from labkit.systems.access import Access

PATIENCE = 180.0
"""Real seconds until a system counts as one that does not answer; readers have shorter limits of their own."""
_PORTS = {8006: "proxmox", 6443: "kubernetes", 22: "ssh", 443: "https"}
Tell = Callable[[str, Exception], None]


@dataclass(frozen=True)
class Survey:
    """The facts of every system by name, `Unread` in place of those that were not to be had, and what it took."""

    facts: Mapping[str, Any]
    cost: SurveyCost

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The systems that could not be read."""
        return tuple(facts for facts in self.facts.values() if isinstance(facts, Unread))


def survey(
    lab: Lab,
    access: Access,
    names: Sequence[str],
    *,
    patience: float = PATIENCE,
    tell: Tell = lambda _name, _error: None,
) -> Survey:
    """Read the named systems side by side.

    Args:
        lab: the wanted state.
        access: how the systems are reached; its tally counts the requests.
        names: of the readers.
        patience: real seconds after which a system is given up; its thread ends with the process.
        tell: is called with the error of a system that could not be read.
    """
    before, began = access.tally.view(), time.monotonic()
    found = dict(_read_all(lab, access, names, patience, tell))
    seconds = time.monotonic() - began
    cost = SurveyCost(
        readings=tuple(_reading(name, *found[name]) for name in names),
        seconds=round(seconds, 3),
        requests=_by_door(lab, access.tally.view() - before),
    )
    return Survey({name: found[name][0] for name in names}, cost)


def _reading(name: str, facts: Any, seconds: float) -> Reading:
    problem = facts.reason if isinstance(facts, Unread) else ""
    return Reading(system=name, seconds=round(seconds, 3), problem=problem)


def _read_all(
    lab: Lab, access: Access, names: Sequence[str], patience: float, tell: Tell
) -> Iterator[tuple[str, tuple[Any, float]]]:
    """Yield name, facts and seconds of each system; those that took too long last."""
    answers: queue.SimpleQueue[tuple[str, Any, float]] = queue.SimpleQueue()

    def work(name: str) -> None:
        began = time.monotonic()
        facts = read_one(lab, access, name, tell)
        answers.put((name, facts, time.monotonic() - began))

    for name in names:  # daemons: one that hangs must not keep the process from its end
        threading.Thread(target=work, args=(name,), name=f"read-{name}", daemon=True).start()
    waiting, end = set(names), time.monotonic() + patience
    while waiting:
        try:
            name, facts, seconds = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        waiting.discard(name)
        yield name, (facts, seconds)
    for name in sorted(waiting):
        reason = f"no answer within {patience:g} s"
        yield name, (Unread(system=name, reason=reason, next_step="look whether it is up, then run again"), patience)


def read_one(lab: Lab, access: Access, name: str, tell: Tell = lambda _name, _error: None) -> Any:
    """Return the facts of one system, or why there are none."""
    try:
        return registry.reader(name)(lab, access)
    except LabError as exc:
        tell(name, exc)
        return Unread(system=name, reason=exc.message, next_step=exc.next_step)
    except Exception as exc:  # noqa: BLE001  # a mistake in one reader must not take the report of all others
        tell(name, exc)
        place = traceback.extract_tb(exc.__traceback__)[-1]
        reason = f"{type(exc).__name__}: {exc} ({place.name}, line {place.lineno})"
        return Unread(system=name, reason=reason, next_step="report it as a fault of labkit, with journal.jsonl")


def _by_door(lab: Lab, counts: Counter[str]) -> dict[str, int]:
    """Sum the counts of `host:port` by what answers there."""
    found: Counter[str] = Counter()
    for address, count in counts.items():
        host, _, port = address.rpartition(":")
        found[_door(lab, host, int(port))] += count
    return dict(sorted(found.items()))


def _door(lab: Lab, host: str, port: int) -> str:
    if host == lab.nas.host:
        return "nas"
    if f"@{host}" in lab.git.url or f"//{host}" in lab.git.url:
        return "git"
    return _PORTS.get(port, f"{host}:{port}")
