"""What can ail a lab: a name, what a report must say of it, and the steps that plant it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.lab import Lab

Given = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One action of the twin, with what it is given; `{host1}` and the like stand for names of the lab."""

    action: str
    given: Given


@dataclass(frozen=True)
class Ailment:
    """One thing that is wrong with a lab, as it comes about in real ones.

    Attributes:
        name: by which it is planted.
        finds: the check that must find it, and the subject that it must name.
        steps: what plants it.
        also: what else a report must then say, as check and subject.
        early: planted before the cluster is there: it comes with the repository.
    """

    name: str
    finds: tuple[str, str]
    steps: tuple[Step, ...]
    also: tuple[tuple[str, str], ...] = ()
    early: bool = False

    def findings(self, lab: Lab) -> set[tuple[str, str]]:
        """Return the check and subject of every finding that it makes in a lab."""
        cast = names_of(lab)
        return {(check, fill(subject, cast)) for check, subject in (self.finds, *self.also)}


def step(action: str, **given: Any) -> Step:
    """Return a step."""
    return Step(action, given)


def ailment(name: str, check: str, subject: str, *steps: Step, also: tuple[tuple[str, str], ...] = (),
            early: bool = False) -> Ailment:  # fmt: skip
    """Return an ailment."""
    return Ailment(name, (check, subject), steps, also, early)


def names_of(lab: Lab) -> dict[str, str]:
    """Return what the placeholders stand for: hosts, servers and agents by number, the domain, the storage."""
    agents = [machine for machine in lab.machines if machine.role == "agent"] or list(lab.servers)
    many = {"host": list(lab.hosts), "server": [one.name for one in lab.servers], "agent": [one.name for one in agents]}
    found = {f"{word}{n}": names[(n - 1) % len(names)] for word, names in many.items() for n in range(1, 10)}
    target = lab.nas.backup_target.partition("?")[0].partition("://")[2].partition(":")[2].strip("/")
    dataset = target.removeprefix("mnt/")
    return found | {
        "domain": lab.domain, "storage": lab.defaults.host.storage, "lab": lab.name, "dataset": dataset,
        "pool": dataset.partition("/")[0], "ingress": str(lab.ingress), "path": lab.git.path.removeprefix("./"),
        "kubeconfig": str(lab.k3s.kubeconfig),
    }  # fmt: skip


def fill(value: Any, cast: Mapping[str, str]) -> Any:
    """Return a tree with every placeholder in its texts filled in."""
    if isinstance(value, Mapping):
        return {fill(key, cast): fill(item, cast) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, cast) for item in value]
    if isinstance(value, str):
        for name, text in cast.items():
            value = value.replace(f"{{{name}}}", text)
    return value
