"""Does the control plane survive the loss of any one Proxmox host? Pure arithmetic on etcd members by host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labkit.lab.models import Lab
from labkit.plan import Finding, Severity

EVEN = "quorum.even"
HOST = "quorum.host"
_WORDS = ("none", "one", "two", "three")


def quorum(members: int) -> int:
    """Return how many of so many etcd members must be up: more than half."""
    return members // 2 + 1


def hosts_that_take_quorum(voters_by_host: Mapping[str, int]) -> tuple[str, ...]:
    """Return the hosts whose loss leaves fewer members than the quorum, in the order given."""
    total = sum(voters_by_host.values())
    return tuple(host for host, held in voters_by_host.items() if held and total - held < quorum(total))


@dataclass(frozen=True)
class Layout:
    """Servers by host in which no host takes the quorum, and the steps that lead there."""

    servers: Mapping[str, int]
    moves: tuple[tuple[str, str], ...] = ()
    """Each server that moves, with the host that it moves to."""
    drops: tuple[str, ...] = ()
    """Servers that go."""
    adds: tuple[str, ...] = ()
    """Hosts that get one server more."""

    @property
    def steps(self) -> int:
        """How many servers are moved, dropped or added."""
        return len(self.moves) + len(self.drops) + len(self.adds)

    def __str__(self) -> str:
        used = {host: count for host, count in self.servers.items() if count}
        total = sum(used.values())
        each = "one per host" if set(used.values()) == {1} else _listed(f"{n} on {host}" for host, n in used.items())
        steps = [*(f"move {name} to {host}" for name, host in self.moves)]
        steps += [*(f"drop {name}" for name in self.drops), *(f"add one on {host}" for host in self.adds)]
        return f"{total} servers, {each}: {_listed(steps)}"


def nearest_layout(servers_by_host: Mapping[str, Sequence[str]]) -> Layout | None:
    """Find the layout with the fewest steps in which no host takes the quorum.

    Of equally near ones an odd number of servers wins, then the fewest added, then the fewest dropped.

    Args:
        servers_by_host: the names of the servers on every host, hosts without any included.

    Returns:
        The layout, or None with fewer than three hosts: there is none then.
    """
    hosts = list(servers_by_host)
    if len(hosts) < 3:
        return None
    held = {host: len(names) for host, names in servers_by_host.items()}
    now = sum(held.values())
    # One server on each of three hosts is never further than now + 3 steps, so a larger total is never nearer.
    targets = [target for total in range(3, 2 * now + 4) if (target := _target(held, total)) is not None]
    best = min(targets, key=lambda target: _rank(held, target))
    return _steps_to(servers_by_host, best)


def warn_quorum(lab: Lab) -> tuple[Finding, ...]:
    """Warn about an even number of etcd members, and about each host whose loss takes the quorum."""
    names: dict[str, list[str]] = {host: [] for host in lab.hosts}
    for machine in lab.servers:
        names[machine.host].append(machine.name)
    held = {host: len(servers) for host, servers in names.items()}
    total = sum(held.values())
    risky = hosts_that_take_quorum(held)
    remedy = _remedy(names) if risky else ""
    findings = [
        Finding(
            id=HOST,
            severity=Severity.WARNING,
            subject=host,
            expected=f"{quorum(total)} of {total} etcd members left after the loss of this host",
            got=f"{total - held[host]} left: {_listed(names[host])} would be lost with it",
            remedy=remedy,
        )
        for host in risky
    ]
    if total % 2 == 0:
        findings.insert(0, _even(total, remedy or "drop one server, or add one"))
    return tuple(findings)


def _even(total: int, remedy: str) -> Finding:
    spare = total - quorum(total)
    return Finding(
        id=EVEN,
        severity=Severity.WARNING,
        subject="control plane",
        expected="an odd number of etcd members",
        got=f"{total}, which survive the loss of {_WORDS[spare] if spare < 4 else spare}, as {total - 1} would",
        remedy=remedy,
    )


def _remedy(names: Mapping[str, Sequence[str]]) -> str:
    layout = nearest_layout(names)
    if layout is not None:
        return f"the nearest layout without such a host has {layout}"
    hosts = "one host survives its loss" if len(names) == 1 else "two hosts survives the loss of either"
    need = "a third failure domain is" if len(names) == 2 else "two more failure domains are"
    return f"no layout on {hosts}: {need} needed, for example a small machine with one server"


def _most(total: int) -> int:
    """How many of so many servers one host may hold at most."""
    return total - quorum(total)


def _target(held: Mapping[str, int], total: int) -> dict[str, int] | None:
    """Come as near as possible to what is held with a given total; None when it does not fit on the hosts."""
    most = _most(total)
    if most * len(held) < total:
        return None
    target = {host: min(count, most) for host, count in held.items()}
    order = list(held)
    while sum(target.values()) > total:
        host = max(order, key=lambda host: (target[host], order.index(host)))
        target[host] -= 1
    while sum(target.values()) < total:
        host = min(order, key=lambda host: (target[host], order.index(host)))
        target[host] += 1
    return target


def _rank(held: Mapping[str, int], target: Mapping[str, int]) -> tuple[int, int, int, int]:
    less = sum(max(0, held[host] - target[host]) for host in held)
    more = sum(max(0, target[host] - held[host]) for host in held)
    return max(less, more), 1 - sum(target.values()) % 2, max(0, more - less), max(0, less - more)


def _steps_to(names: Mapping[str, Sequence[str]], target: Mapping[str, int]) -> Layout:
    """Name the servers: the later ones of a host go first, so that the first server stays where it is."""
    free = [name for host, servers in names.items() for name in servers[target[host] :]]
    wanted = [host for host, servers in names.items() for _ in range(target[host] - len(servers))]
    moves = tuple(zip(free, wanted, strict=False))
    return Layout(dict(target), moves, tuple(free[len(moves) :]), tuple(wanted[len(moves) :]))


def _listed(words: Iterable[str]) -> str:
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
