"""One thing that is wrong with a guest gives one finding; a guest that is right gives none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.guests import check_guests, guests_are_fit
from labkit.facts.guests import Airgap, AirgapProblem, Guest, GuestFacts, VipManifest
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubernetes import NodeRow
from labkit.lab import Lab, load_lab
from labkit.plan import Severity

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 8, 10, tzinfo=UTC)
GIB = 1024**3
WORKER = "k3s-worker-01"
NONE = K3sFacts(read_at=NOW)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


def facts(lab: Lab, **changes: Any) -> GuestFacts:
    guests = [
        Guest(name=m.name, address=str(m.address), reachable=True, host_key="ok", arch="x86_64", clock_offset=5.0,
              memory=4 * GIB, disk_free=20 * GIB, modules=("iscsi_tcp",), ports=(22,),
              packages={"open-iscsi": "2", "nfs-common": "2"}, addresses=(str(m.address),))
        for m in lab.machines
    ]  # fmt: skip
    return GuestFacts(
        guests=tuple(g.model_copy(update=changes) if g.name == WORKER else g for g in guests), read_at=NOW
    )


def test_fit_guests_have_no_findings(lab: Lab) -> None:
    check = guests_are_fit(lab)
    assert check({"guests": facts(lab), "k3s": NONE}) == ()
    assert check.reads == ("guests", "k3s")


@pytest.mark.parametrize(
    ("changes", "expected", "severity"),
    [
        ({"reachable": False, "problem": "no route"}, "guest.reachable", Severity.ERROR),
        ({"reachable": False, "host_key": "wrong"}, "guest.host-key", Severity.ERROR),
        ({"arch": "armv7l"}, "guest.arch", Severity.ERROR),
        ({"clock_offset": 8.0}, "guest.clock", Severity.ERROR),
        ({"clock_offset": 2.0}, "guest.clock", Severity.ERROR),
        ({"memory": GIB // 4}, "guest.memory", Severity.ERROR),
        ({"disk_free": GIB}, "guest.disk", Severity.ERROR),
        ({"disk_free": GIB, "version": "v1.33.4+k3s1"}, "guest.disk", Severity.WARNING),
        ({"packages": {}}, "guest.packages", Severity.INFO),
        ({"packages": None}, "guest.packages", Severity.WARNING),
        ({"ports": (22, 10250)}, "guest.ports", Severity.ERROR),
        ({"addresses": ("192.168.5.77",)}, "guest.address", Severity.ERROR),
        ({"addresses": ("192.168.5.30", "192.168.5.55")}, "guest.address-clash", Severity.ERROR),
        ({"cluster_ca": "ab"}, "guest.leftovers", Severity.ERROR),
    ],
)
def test_each_thing_that_is_wrong(lab: Lab, changes: dict[str, Any], expected: str, severity: Severity) -> None:
    found = list(check_guests(lab, facts(lab, **changes), NONE))
    assert [(finding.id, finding.severity) for finding in found] == [(expected, severity)]
    assert WORKER in found[0].subject


@pytest.mark.parametrize("changes", [{"ports": (22, 10250), "version": "v1.33.4+k3s1"}, {"clock_offset": 6.5},
                                     {"clock_offset": 7.5, "clock_error": 1.0}, {"arch": "aarch64"}])  # fmt: skip
def test_what_is_fine(lab: Lab, changes: dict[str, Any]) -> None:
    assert list(check_guests(lab, facts(lab, **changes), NONE)) == []


def test_an_old_agent_is_known_by_the_ca(lab: Lab) -> None:
    up = K3sFacts(up=True, server="k3s-master-01", ca="ab", read_at=NOW)
    member = {"cluster_ca": "ab", "version": "v1.33.4+k3s1"}
    assert list(check_guests(lab, facts(lab, **member), up)) == []
    assert [f.id for f in check_guests(lab, facts(lab, cluster_ca="cd"), up)] == ["guest.leftovers"]


def test_a_ready_node_that_ssh_cannot_reach_is_a_warning(lab: Lab) -> None:
    up = K3sFacts(up=True, nodes=(NodeRow(name=WORKER, ready=True),), read_at=NOW)
    found = list(check_guests(lab, facts(lab, reachable=False), up))
    assert [finding.severity for finding in found] == [Severity.WARNING]


def test_a_server_wants_two_gib(lab: Lab) -> None:
    guests = tuple(g.model_copy(update={"memory": GIB}) if g.name == "k3s-master-04" else g for g in facts(lab).guests)
    found = list(check_guests(lab, GuestFacts(guests=guests, read_at=NOW), NONE))
    assert [(f.id, f.severity) for f in found] == [("guest.memory", Severity.WARNING)]


def test_the_virtual_address(lab: Lab) -> None:
    network = lab.network.model_copy(update={"vip": lab.servers[0].address + 20})
    other = lab.model_copy(update={"network": network})
    assert list(check_guests(other, facts(lab), NONE)) == []
    taken = K3sFacts(up=False, vip=True, read_at=NOW)
    assert [f.severity for f in check_guests(other, facts(lab), taken)] == [Severity.ERROR]
    silent = K3sFacts(up=True, vip=False, read_at=NOW)
    assert [f.remedy for f in check_guests(other, facts(lab), silent)] == ["bootstrap-k3s deploys kube-vip"]
    deployed = facts(lab, kube_vip=VipManifest(address=str(network.vip)))
    (finding,) = check_guests(other, deployed, silent)
    assert (finding.severity, "logs daemonset/kube-vip" in finding.remedy) == (Severity.WARNING, True)
    elsewhere = other.model_copy(update={"k3s": lab.k3s.model_copy(update={"kube_vip": "none"})})
    (finding,) = check_guests(elsewhere, facts(lab), silent)
    assert "what serves it" in finding.remedy
    assert [f.id for f in check_guests(lab, deployed, K3sFacts(up=True, read_at=NOW))] == ["k3s.vip"]
    stopped = facts(lab, server_db=True)
    assert not [f for f in check_guests(other, stopped, taken) if f.id == "k3s.vip"]


def test_files_of_another_version_are_not_carried(lab: Lab) -> None:
    seen = facts(lab).model_copy(update={"airgap": Airgap(folder="/srv/k3s", versions=("v1.32.9+k3s1",))})
    assert [f.got for f in check_guests(lab, seen, NONE)] == ["v1.32.9+k3s1"]
    right = Airgap(folder="/srv/k3s", versions=(lab.k3s.version,))
    assert list(check_guests(lab, seen.model_copy(update={"airgap": right}), NONE)) == []


def test_damaged_files_matter_while_something_is_to_be_installed(lab: Lab) -> None:
    problem = AirgapProblem(file="/srv/k3s/k3s", expected="the SHA-256 a", got="b")
    damaged = Airgap(folder="/srv/k3s", problems=(problem,))
    seen = facts(lab).model_copy(update={"airgap": damaged})
    assert [f.subject for f in check_guests(lab, seen, NONE)] == ["file /srv/k3s/k3s"]
    guests = tuple(guest.model_copy(update={"version": lab.k3s.version}) for guest in seen.guests)
    installed = check_guests(lab, seen.model_copy(update={"guests": guests}), NONE)
    assert "k3s.airgap" not in {finding.id for finding in installed}


def test_a_lost_quorum_is_told_before_all_else(lab: Lab) -> None:
    servers = [server.name for server in lab.servers]
    guests = tuple(
        guest.model_copy(update={"server_db": True, "cluster_ca": "c", "version": lab.k3s.version,
                                 "units": {"k3s": "active"}, "reachable": guest.name == servers[-1]})
        if guest.name in servers else guest
        for guest in facts(lab).guests
    )  # fmt: skip
    seen = list(check_guests(lab, GuestFacts(guests=guests, read_at=NOW), NONE))
    assert (seen[0].id, "nothing new is founded" in seen[0].remedy) == ("k3s.silent", True)
    assert {finding.subject for finding in seen[1:]} == {f"guest {name}" for name in servers[:-1]}
