"""The virtual address in the plan: deployed, awaited, used, and left alone when it is someone else's."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.facts.guests import VipManifest
from labkit.facts.k3s import KubeconfigSeen
from labkit.lab import Lab
from labkit.plan import Plan, Risk
from labkit.rules.k3s import plan_k3s
from labkit.rules.k3s_vip import wanted_manifest

VIP = "192.168.5.40"
WORKER = "k3s-worker-01"


@pytest.fixture
def vip_lab(lab: Lab) -> Lab:
    network = lab.network.model_copy(update={"vip": lab.servers[0].address + 20})
    assert str(network.vip) == VIP
    return lab.model_copy(update={"network": network})


def with_cards(seen: Any, *names: str) -> Any:
    for server, name in zip(seen.lab.servers, [*names, *["eth0"] * 9], strict=False):
        seen.guest(server.name, interfaces={str(server.address): name})
    return seen


def serve(lab: Lab, built: Any) -> Any:
    """The whole cluster with its virtual address, as it should be."""
    with_cards(built)
    wanted = wanted_manifest(lab, built.facts()["guests"])
    names = {server.name for server in lab.servers}
    for name in names:
        config = {**built.guests[name].config, "tls-san": [VIP, *(str(server.address) for server in lab.servers)]}
        built.guest(name, kube_vip=wanted, config=config)
    return built.cluster(vip=True, kubeconfig=KubeconfigSeen(state="current", server=f"https://{VIP}:6443"))


def by_kind(plan: Plan, kind: str) -> list[Any]:
    return [change for change in plan.changes if change.kind == kind]


def test_already_right(vip_lab: Lab, built: Any) -> None:
    assert len(plan_k3s(vip_lab, serve(vip_lab, built).facts())) == 0


def test_a_new_cluster_gets_it_before_k3s_starts(vip_lab: Lab, seen: Any) -> None:
    plan = plan_k3s(vip_lab, with_cards(seen).facts())
    written = by_kind(plan, "kube-vip")
    assert {change.target for change in written} == {server.name for server in vip_lab.servers}
    assert {change.after["interface"] for change in written} == {"eth0"}
    starts = {change.target: change for change in by_kind(plan, "server")}
    assert all(change.id in starts[change.target].needs and not change.needs for change in written)
    (wait,) = by_kind(plan, "vip")
    assert set(wait.needs) >= {change.id for change in starts.values()}
    agent = next(change for change in by_kind(plan, "agent"))
    assert wait.id in agent.needs
    assert agent.after["joins"] == f"https://{VIP}:6443"
    (kubeconfig,) = by_kind(plan, "kubeconfig")
    assert wait.id in kubeconfig.needs
    assert kubeconfig.after["server"] == f"https://{VIP}:6443"


@pytest.mark.parametrize(("names", "expected"), [(("eth0", "ens18"), ""), (("ens18",) * 4, "ens18"), ((), "eth0")])
def test_the_interface_is_named_when_all_servers_call_it_alike(
    vip_lab: Lab, seen: Any, names: tuple[str, ...], expected: str
) -> None:
    assert wanted_manifest(vip_lab, with_cards(seen, *names).facts()["guests"]).interface == expected


def test_the_lab_file_has_the_last_word_on_the_interface(vip_lab: Lab, seen: Any) -> None:
    network = vip_lab.network.model_copy(update={"vip_interface": "bond0"})
    other = vip_lab.model_copy(update={"network": network})
    assert wanted_manifest(other, with_cards(seen).facts()["guests"]).interface == "bond0"


def test_a_cluster_that_runs_gets_it_after_its_certificates(vip_lab: Lab, built: Any) -> None:
    with_cards(built).cluster(kubeconfig=KubeconfigSeen(state="current", server="https://192.168.5.20:6443"))
    plan = plan_k3s(vip_lab, built.facts())
    configs = {change.id for change in by_kind(plan, "k3s-config")}
    assert len(configs) == len(vip_lab.servers)
    for written in by_kind(plan, "kube-vip"):
        assert configs <= set(written.needs)
        assert written.risk is Risk.SAFE
    (kubeconfig,) = by_kind(plan, "kubeconfig")
    assert kubeconfig.before == {"server": "https://192.168.5.20:6443"}


def test_another_version_is_rolled_out(vip_lab: Lab, built: Any) -> None:
    serve(vip_lab, built)
    newer = vip_lab.model_copy(update={"k3s": vip_lab.k3s.model_copy(update={"kube_vip": "v0.9.2"})})
    plan = plan_k3s(newer, built.facts())
    assert [(c.kind, c.risk, c.after["version"]) for c in plan.changes] == [
        ("kube-vip", Risk.DISRUPTIVE, "v0.9.2") for _ in vip_lab.servers
    ]


def test_a_server_that_comes_later_gets_it_too(vip_lab: Lab, built: Any) -> None:
    last = serve(vip_lab, built).lab.servers[-1].name
    built.renew(last).without(last)
    plan = plan_k3s(vip_lab, built.facts())
    assert [change.target for change in by_kind(plan, "kube-vip")] == [last]
    assert by_kind(plan, "vip") == []


def test_an_address_that_fell_silent_is_waited_for(vip_lab: Lab, built: Any) -> None:
    plan = plan_k3s(vip_lab, serve(vip_lab, built).cluster(vip=False).facts())
    assert [change.id for change in plan.changes] == [f"vip/{VIP}/act", "cluster/homelab/act"]


@pytest.mark.parametrize("lab_says", ["none", "v0.8.9"])
def test_what_someone_else_serves_is_left_alone(vip_lab: Lab, built: Any, lab_says: str) -> None:
    serve(vip_lab, built)
    for server in vip_lab.servers:
        built.guest(server.name, kube_vip=None)
    other = vip_lab.model_copy(update={"k3s": vip_lab.k3s.model_copy(update={"kube_vip": lab_says})})
    assert len(plan_k3s(other, built.facts())) == 0


def test_a_manifest_that_nobody_wants_is_told(lab: Lab, built: Any) -> None:
    built.guest(lab.servers[0].name, kube_vip=VipManifest(address=VIP))
    plan = plan_k3s(lab, built.facts())
    assert len(plan) == 0
    (finding,) = [finding for finding in plan.findings if finding.id == "k3s.vip"]
    assert "kubectl -n kube-system delete daemonset kube-vip" in finding.remedy


def test_one_agent_only_does_not_wait_for_what_is_not_deployed(vip_lab: Lab, built: Any) -> None:
    built.renew(WORKER).without(WORKER)
    plan = plan_k3s(vip_lab, built.facts(), only=(WORKER,))
    assert by_kind(plan, "vip") == by_kind(plan, "kube-vip") == []
    assert by_kind(plan, "agent")[0].after["joins"] == "https://192.168.5.20:6443"
