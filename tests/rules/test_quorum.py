from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.lab import Lab, load_lab
from labkit.lab.loader import parse_lab
from labkit.plan import Severity
from labkit.rules.quorum import EVEN, HOST, hosts_that_take_quorum, nearest_layout, quorum, warn_quorum

ROOT = Path(__file__).parents[2]
MINIMAL = (ROOT / "tests/data/lab/minimal.yaml").read_text()
LETTERS = "abcdefghij"


def by_host(*counts: int) -> dict[str, int]:
    return dict(zip(LETTERS, counts, strict=False))


def named(*counts: int) -> dict[str, list[str]]:
    """Servers a1, a2 on host a, b1 on host b, ..."""
    return {host: [f"{host}{n + 1}" for n in range(count)] for host, count in by_host(*counts).items()}


def lab_of(*counts: int) -> Lab:
    """A lab with so many servers on each host, the hosts interleaved, and one agent."""
    text = MINIMAL.replace("  hades: {}\n  atlas: {}\n", "".join(f"  {host}: {{}}\n" for host in by_host(*counts)))
    rows = [(name, host) for host, names in named(*counts).items() for name in names]
    rows.sort(key=lambda row: row[0][1:])
    vms = [
        f"  {name}: {{role: server, host: {host}, address: 192.168.5.{100 + n}}}\n"
        for n, (name, host) in enumerate(rows)
    ]
    head, _, rest = text.partition("vms:\n")
    return parse_lab(head + "vms:\n" + "".join(vms) + "guests:" + rest.partition("guests:")[2])


@pytest.mark.parametrize(("members", "needed"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_quorum(members: int, needed: int) -> None:
    assert quorum(members) == needed


# servers by host | hosts that take the quorum | the nearest layout, or None
TABLE: list[tuple[tuple[int, ...], str, str | None]] = [
    ((1, 0, 0), "a", "3 servers, one per host: add one on b and add one on c"),
    ((1, 1, 0), "ab", "3 servers, one per host: add one on c"),
    ((2, 0, 0), "a", "3 servers, one per host: move a2 to b and add one on c"),
    ((3, 0, 0), "a", "3 servers, one per host: move a2 to b and move a3 to c"),
    ((2, 1, 0), "a", "3 servers, one per host: move a2 to c"),
    ((1, 1, 1), "", None),
    ((2, 1, 1), "a", "3 servers, one per host: drop a2"),  # the seed's
    ((1, 2, 1), "b", "3 servers, one per host: drop b2"),
    ((2, 2, 0), "ab", "5 servers, 2 on a, 2 on b and 1 on c: add one on c"),
    ((3, 1, 1), "a", "5 servers, 2 on a, 2 on b and 1 on c: move a3 to b"),
    ((3, 2, 0), "a", "5 servers, 2 on a, 2 on b and 1 on c: move a3 to c"),
    ((2, 2, 1), "", None),
    ((5, 0, 0), "a", "5 servers, 2 on a, 2 on b and 1 on c: move a3 to b, move a4 to b and move a5 to c"),
    ((3, 2, 2), "", None),
    ((1, 1, 1, 1), "", None),
    ((2, 1, 1, 0), "a", "3 servers, one per host: drop a2"),
    ((1, 1, 1, 1, 1), "", None),
    ((3, 1, 0, 1), "a", "5 servers, 2 on a, 1 on b, 1 on c and 1 on d: move a3 to c"),
    ((1,), "a", None),
    ((3,), "a", None),
    ((1, 1), "ab", None),
    ((2, 1), "a", None),
    ((3, 2), "a", None),
    ((0, 3), "b", None),
]


@pytest.mark.parametrize(("counts", "risky", "nearest"), TABLE, ids=str)
def test_layouts(counts: tuple[int, ...], risky: str, nearest: str | None) -> None:
    assert hosts_that_take_quorum(by_host(*counts)) == tuple(risky)
    layout = nearest_layout(named(*counts))
    if nearest is not None:
        assert str(layout) == nearest
    elif len(counts) < 3:
        assert layout is None
    else:
        assert layout is not None
        assert layout.steps == 0


def test_no_members_no_host_takes_them() -> None:
    assert hosts_that_take_quorum({}) == ()
    assert hosts_that_take_quorum({"a": 0}) == ()


def test_the_lab_of_the_repository() -> None:
    even, host = warn_quorum(load_lab(ROOT / "parameters/lab.yaml"))
    remedy = "the nearest layout without such a host has 3 servers, one per host: drop k3s-master-02"
    assert (even.id, even.severity, even.subject) == (EVEN, Severity.WARNING, "control plane")
    assert even.expected == "an odd number of etcd members"
    assert even.got == "4, which survive the loss of one, as 3 would"
    assert (host.id, host.severity, host.subject) == (HOST, Severity.WARNING, "hades")
    assert host.expected == "3 of 4 etcd members left after the loss of this host"
    assert host.got == "2 left: k3s-master-01 and k3s-master-02 would be lost with it"
    assert even.remedy == host.remedy == remedy


def test_a_sound_layout_has_no_finding() -> None:
    assert warn_quorum(lab_of(1, 1, 1)) == ()
    assert warn_quorum(lab_of(2, 2, 1)) == ()


def test_an_even_number_that_survives_is_still_worth_a_warning() -> None:
    (even,) = warn_quorum(lab_of(1, 1, 1, 1))
    assert (even.id, even.remedy) == (EVEN, "drop one server, or add one")


def test_one_and_two_hosts_need_more_failure_domains() -> None:
    (one,) = warn_quorum(lab_of(1))
    assert "no layout on one host survives its loss: two more failure domains are needed" in one.remedy
    even, first, second = warn_quorum(lab_of(1, 1))
    assert [even.id, first.subject, second.subject] == [EVEN, "a", "b"]
    assert even.got == "2, which survive the loss of none, as 1 would"
    assert "no layout on two hosts survives the loss of either: a third failure domain is needed" in first.remedy
    assert first.remedy == second.remedy


# Brute force: every way of dropping, moving and adding, fewest first.


def neighbours(counts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for host in range(len(counts)):
        yield (*counts[:host], counts[host] + 1, *counts[host + 1 :])
        if counts[host]:
            less = (*counts[:host], counts[host] - 1, *counts[host + 1 :])
            yield less
            for other in range(len(counts)):
                yield (*less[:other], less[other] + 1, *less[other + 1 :])


def fewest_steps(counts: tuple[int, ...], limit: int) -> int | None:
    seen = {counts}
    for steps in range(limit + 1):
        if any(sum(layout) and not hosts_that_take_quorum(by_host(*layout)) for layout in seen):
            return steps
        seen |= {near for layout in seen for near in neighbours(layout)}
    return None


def applied(counts: tuple[int, ...], layout: object) -> Mapping[str, int]:
    names = named(*counts)
    home = {name: host for host, servers in names.items() for name in servers}
    home |= dict(layout.moves)  # type: ignore[attr-defined]
    for name in layout.drops:  # type: ignore[attr-defined]
        del home[name]
    homes = [*home.values(), *layout.adds]  # type: ignore[attr-defined]
    return {host: homes.count(host) for host in names}


SMALL = [counts for hosts in (3, 4) for counts in itertools.product(range(4), repeat=hosts) if sum(counts) <= 6]


@pytest.mark.parametrize("hosts", [3, 4])
def test_the_suggestion_is_sound_and_none_is_nearer(hosts: int) -> None:
    for counts in (counts for counts in SMALL if len(counts) == hosts):
        layout = nearest_layout(named(*counts))
        assert layout is not None
        assert applied(counts, layout) == layout.servers
        assert hosts_that_take_quorum(layout.servers) == ()
        assert layout.steps == fewest_steps(counts, 6), counts


@pytest.mark.parametrize("counts", [(1,), (4,), (1, 1), (3, 2), (4, 4)])
def test_two_hosts_have_no_such_layout(counts: tuple[int, ...]) -> None:
    assert nearest_layout(named(*counts)) is None
    assert fewest_steps(counts, 4) is None


@given(st.lists(st.integers(0, 9), min_size=3, max_size=9))
def test_any_layout_can_be_mended(counts: list[int]) -> None:
    layout = nearest_layout(named(*counts))
    assert layout is not None
    assert hosts_that_take_quorum(layout.servers) == ()
    assert applied(tuple(counts), layout) == layout.servers
    if not hosts_that_take_quorum(by_host(*counts)) and sum(counts) >= 3:
        assert layout.steps == 0
