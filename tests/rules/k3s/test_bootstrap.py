"""The plan of the cluster: what is right already, each way to found and to join, each blocker."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.facts.guests import TokenForm, TokenState
from labkit.facts.k3s import KubeconfigSeen
from labkit.facts.kubernetes import NodeRow
from labkit.lab import Lab
from labkit.plan import Plan, Risk
from labkit.rules.k3s import plan_k3s

FIRST, SECOND, WORKER = "k3s-master-01", "k3s-master-02", "k3s-worker-01"


def ids(plan: Plan) -> list[str]:
    """The changes, without those that only fetch k3s beside others."""
    return [change.id for change in plan.changes if set(change.after) != {"k3s"}]


def needs(plan: Plan, ident: str) -> tuple[str, ...]:
    """What a change waits for, beside what its own machine needs first."""
    return tuple(need for need in change(plan, ident).needs if not need.startswith("guest/"))


def blockers(plan: Plan) -> set[str]:
    return {finding.id for finding in plan.blockers}


def change(plan: Plan, ident: str) -> Any:
    return next(change for change in plan.changes if change.id == ident)


def test_a_cluster_as_it_should_be_needs_nothing(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.facts())
    assert ids(plan) == []
    assert not plan.blockers


def test_new_machines_become_one_cluster_in_order(lab: Lab, seen: Any) -> None:
    plan = plan_k3s(lab, seen.facts())
    assert not plan.blockers
    servers = [f"server/{machine.name}/create" for machine in lab.servers]
    agents = [f"agent/{m.name}/create" for m in lab.machines if m.role == "agent"]
    assert ids(plan) == [*servers, *agents, "cluster/homelab/act", "kubeconfig/homelab/create"]
    assert change(plan, servers[0]).after["joins"] == "a new cluster"
    for before, later in itertools.pairwise(servers):
        assert needs(plan, later) == (before,)
        assert change(plan, later).after["joins"] == "https://192.168.5.20:6443"
    for agent in agents:
        assert set(needs(plan, agent)) == {servers[0], servers[-1], *servers[1:-1]}
        assert change(plan, agent).lane == ""
    assert needs(plan, "kubeconfig/homelab/create") == (servers[0],)
    assert plan.risk is Risk.SAFE


def test_what_longhorn_needs_comes_before_k3s(lab: Lab, seen: Any) -> None:
    seen.guest(WORKER, packages={"open-iscsi": "2.1"}, modules=())
    plan = plan_k3s(lab, seen.facts())
    prepared = change(plan, f"guest/{WORKER}/update")
    assert (prepared.after["packages"], prepared.after["modules"]) == (["nfs-common"], ["iscsi_tcp"])
    assert prepared.id in change(plan, f"agent/{WORKER}/create").needs


def test_a_module_that_was_not_loaded_is_loaded_on_a_member(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.guest(WORKER, modules=()).facts())
    assert ids(plan) == [f"guest/{WORKER}/update"]
    assert plan.risk is Risk.SAFE


def test_airgap_installs_no_package(lab: Lab, seen: Any) -> None:
    airgap = lab.model_copy(update={"k3s": lab.k3s.model_copy(update={"install": "airgap", "airgap_dir": "/a"})})
    plan = plan_k3s(airgap, seen.guest(WORKER, packages={}, modules=()).facts())
    assert not [ident for ident in ids(plan) if ident.startswith("guest/")]
    assert "guest.packages" in {finding.id for finding in plan.findings}


@pytest.mark.parametrize("name", [SECOND, WORKER])
def test_a_machine_that_is_missing_joins_what_is_up(lab: Lab, built: Any, name: str) -> None:
    role = "agent" if "worker" in name else "server"
    plan = plan_k3s(lab, built.without(name).renew(name).facts())
    assert ids(plan) == [f"{role}/{name}/create", "cluster/homelab/act"]
    assert change(plan, f"{role}/{name}/create").after["joins"] == "https://192.168.5.20:6443"


def test_when_the_first_server_is_gone_another_is_the_seed(lab: Lab, built: Any) -> None:
    built.renew(FIRST).node(FIRST, ready=False).cluster(server=SECOND)
    plan = plan_k3s(lab, built.facts())
    assert ids(plan) == [f"server/{FIRST}/create", "cluster/homelab/act"]
    joined = change(plan, f"server/{FIRST}/create")
    assert joined.after["joins"] == "https://192.168.5.21:6443"
    assert joined.before == {"node": "of the machine that was there before"}


def test_joiners_take_the_version_of_the_servers(lab: Lab, built: Any) -> None:
    for machine in lab.servers:
        built.node(machine.name, version="v1.32.9+k3s1")
    plan = plan_k3s(lab, built.without(WORKER).renew(WORKER).facts())
    assert change(plan, f"agent/{WORKER}/create").after["version"] == "v1.32.9+k3s1"
    assert "k3s.version" in {finding.id for finding in plan.findings}


def test_no_cluster_is_founded_while_a_server_is_silent(lab: Lab, seen: Any) -> None:
    plan = plan_k3s(lab, seen.away("k3s-master-03").facts())
    assert ids(plan) == []
    assert "k3s.founding" in blockers(plan)


def test_no_cluster_is_founded_while_servers_have_data(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.down().facts())
    assert ids(plan) == []
    assert blockers(plan) == {"k3s.silent"}
    assert "nothing new is founded" in str(plan.blockers[0])


def test_a_stopped_cluster_is_started_as_a_whole(lab: Lab, built: Any) -> None:
    for machine in lab.servers:
        built.guest(machine.name, units={"k3s": "failed", "k3s-agent": "inactive"})
    plan = plan_k3s(lab, built.down().facts())
    starts = [change(plan, f"server/{machine.name}/act") for machine in lab.servers]
    assert all(start.lane == "" and start.needs == () for start in starts)
    assert not [ident for ident in ids(plan) if ident.startswith("server/") and ident.endswith("create")]


def test_a_founding_that_was_interrupted_goes_on(lab: Lab, built: Any) -> None:
    for machine in lab.machines:
        if machine.name != FIRST:
            built.renew(machine.name)
    built.down().guest(FIRST, units={"k3s": "activating"})
    plan = plan_k3s(lab, built.facts())
    assert not plan.blockers
    assert ids(plan)[:2] == [f"server/{FIRST}/act", f"server/{SECOND}/create"]
    assert needs(plan, f"server/{SECOND}/create") == (f"server/{FIRST}/act",)


def test_a_server_that_had_joined_and_is_left_alone_waits_for_a_quorum_that_is_gone(lab: Lab, built: Any) -> None:
    for machine in lab.machines:
        if machine.name != SECOND:
            built.renew(machine.name)
    plan = plan_k3s(lab, built.down().facts())
    assert ids(plan) == []
    assert blockers(plan) == {"k3s.silent"}
    assert "run restore-etcd" in str(plan.blockers[0])


def test_old_data_is_not_started_beside_a_restored_etcd(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.guest(SECOND, restoring=True).facts())
    assert blockers(plan) == {"k3s.restoring"}


def test_data_of_two_clusters_is_for_a_person(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.down().guest(SECOND, cluster_ca="fedcba").facts())
    assert ids(plan) == []
    assert "k3s.two-clusters" in blockers(plan)


@pytest.mark.parametrize(("unit", "note"), [("failed", "k3s is started"), ("activating", "left unfinished")])
def test_a_member_that_is_not_ready_is_finished(lab: Lab, built: Any, unit: str, note: str) -> None:
    built.guest(WORKER, units={"k3s": "inactive", "k3s-agent": unit}).node(WORKER, ready=False)
    plan = plan_k3s(lab, built.facts())
    assert ids(plan) == [f"agent/{WORKER}/act", "cluster/homelab/act"]
    assert note in change(plan, f"agent/{WORKER}/act").note


def test_leftovers_of_another_cluster_block(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.without(WORKER).guest(WORKER, cluster_ca="fedcba").facts())
    assert blockers(plan) == {"guest.leftovers"}


def test_an_agent_with_leftovers_blocks_a_new_cluster(lab: Lab, seen: Any) -> None:
    plan = plan_k3s(lab, seen.guest(WORKER, cluster_ca="fedcba").facts())
    assert blockers(plan) == {"guest.leftovers"}


def test_a_setting_that_differs_restarts_one_after_the_other(lab: Lab, built: Any) -> None:
    other = lab.model_copy(update={"k3s": lab.k3s.model_copy(update={"snapshot_retention": 7})})
    plan = plan_k3s(other, built.facts())
    assert ids(plan) == [f"k3s-config/{machine.name}/update" for machine in lab.servers]
    first = plan.changes[0]
    assert (first.before, first.after) == ({"etcd-snapshot-retention": 20}, {"etcd-snapshot-retention": 7})
    assert {(c.risk, c.lane) for c in plan.changes} == {(Risk.DISRUPTIVE, "node-out")}


def test_labels_and_taints_go_to_the_live_node_without_restart(lab: Lab, built: Any) -> None:
    vm = lab.vms[WORKER].model_copy(update={"labels": {"disk": "ssd"}, "taints": ("gpu=yes:NoSchedule",)})
    other = lab.model_copy(update={"vms": {**lab.vms, WORKER: vm}})
    plan = plan_k3s(other, built.facts())
    assert ids(plan) == [f"k3s-config/{WORKER}/update", f"node/{WORKER}/update"]
    assert plan.risk is Risk.SAFE
    assert plan.changes[1].after == {"disk": "ssd", "taints": ["gpu=yes:NoSchedule"]}
    assert plan.changes[1].before == {"disk": None, "taints": []}


def test_a_label_that_labkit_set_and_is_no_longer_wanted_goes(lab: Lab, built: Any) -> None:
    zone = "topology.kubernetes.io/zone=hades"
    config = {**built.guests[WORKER].config, "node-label": [zone, "disk=ssd"]}
    labels = {**built.nodes[WORKER].labels, "disk": "ssd", "somebodys": "own"}
    plan = plan_k3s(lab, built.guest(WORKER, config=config).node(WORKER, labels=labels).facts())
    assert change(plan, f"node/{WORKER}/update").after == {"disk": None}


def test_a_missing_zone_is_set(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.node(WORKER, labels={}).facts())
    assert ids(plan) == [f"node/{WORKER}/update"]
    assert plan.changes[0].after == {"topology.kubernetes.io/zone": "hades"}


def test_how_a_member_once_joined_does_not_matter(lab: Lab, built: Any) -> None:
    config = {**built.guests[WORKER].config, "server": "https://192.168.5.22:6443"}
    assert ids(plan_k3s(lab, built.guest(WORKER, config=config).facts())) == []


def test_an_agent_that_would_not_find_home_is_set_right(lab: Lab, built: Any) -> None:
    config = {**built.guests[WORKER].config, "server": "https://192.168.5.99:6443"}
    plan = plan_k3s(lab, built.guest(WORKER, config=config).facts())
    assert plan.changes[0].after == {"server": "https://192.168.5.20:6443"}
    assert plan.risk is Risk.SAFE


def test_a_setting_for_life_is_not_changed(lab: Lab, built: Any) -> None:
    config = {"cluster-cidr": "10.52.0.0/16"}
    other = lab.model_copy(update={"k3s": lab.k3s.model_copy(update={"config": config})})
    assert "k3s.founding-setting" in blockers(plan_k3s(other, built.facts()))


def test_a_token_that_differs_shows_as_words_only(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.guest(WORKER, config_token=TokenState.OTHER).facts())
    assert plan.changes[0].after == {"token": "the lab's"}
    assert plan.changes[0].before == {"token": "other"}


def test_data_made_with_another_token_blocks(lab: Lab, built: Any) -> None:
    assert blockers(plan_k3s(lab, built.guest(FIRST, server_token=TokenState.OTHER).facts())) == {"guest.token"}


def test_a_missing_token_is_made_for_a_new_cluster_and_fetched_for_an_old_one(lab: Lab, seen: Any, built: Any) -> None:
    filed = lab.model_copy(update={"k3s": lab.k3s.model_copy(update={"token": "file:token"})})
    for facts, expected in ((seen, "a new one"), (built, "the cluster's")):
        facts.guest_facts = {"token": TokenForm.MISSING}
        plan = plan_k3s(filed, facts.facts())
        assert plan.changes[0].id == "token/file:token/create"
        assert plan.changes[0].after == {"token": expected}
    joins = change(plan_k3s(filed, seen.facts()), f"server/{FIRST}/create")
    assert "token/file:token/create" in joins.needs


def test_a_token_that_cannot_be_stored_is_for_a_person(lab: Lab, seen: Any) -> None:
    seen.guest_facts = {"token": TokenForm.MISSING}
    assert "k3s.token" in blockers(plan_k3s(lab, seen.facts()))


@pytest.mark.parametrize("form", [TokenForm.FULL, TokenForm.ODD])
def test_a_token_of_another_form_blocks(lab: Lab, seen: Any, form: TokenForm) -> None:
    seen.guest_facts = {"token": form}
    assert blockers(plan_k3s(lab, seen.facts())) == {"k3s.token"}


def test_a_stale_kubeconfig_is_renewed(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.cluster(kubeconfig=KubeconfigSeen(state="stale")).facts())
    assert ids(plan) == ["kubeconfig/homelab/update"]
    assert plan.risk is Risk.SAFE


def test_a_virtual_address_is_used_when_it_answers(lab: Lab, built: Any) -> None:
    network = lab.network.model_copy(update={"vip": lab.servers[0].address + 20})
    k3s = lab.k3s.model_copy(update={"kube_vip": "none"})
    other = lab.model_copy(update={"network": network, "k3s": k3s})
    built.without(WORKER).renew(WORKER).cluster(kubeconfig=KubeconfigSeen(state="missing"))
    for vip, host in ((False, "192.168.5.20"), (True, "192.168.5.40")):
        plan = plan_k3s(other, built.cluster(vip=vip).facts())
        assert change(plan, f"agent/{WORKER}/create").after["joins"] == f"https://{host}:6443"
        assert change(plan, "kubeconfig/homelab/create").after["server"] == f"https://{host}:6443"


STRAY = NodeRow(name="k3s-worker-09", ready=True, version="v1.33.4+k3s1", address="192.168.5.39")


def test_a_node_outside_the_lab_stays_until_it_is_named(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.extra(STRAY).facts())
    assert ids(plan) == []
    assert "k3s.orphan" in {finding.id for finding in plan.findings}
    named = plan_k3s(lab, built.facts(), destroy=(STRAY.name,))
    assert ids(named) == [f"node/{STRAY.name}/delete"]
    assert (named.risk, named.changes[0].lane) == (Risk.DESTRUCTIVE, "node-out")


def test_a_server_leaves_only_a_healthy_etcd(lab: Lab, built: Any) -> None:
    stray = STRAY.model_copy(update={"server": True, "voter": True})
    built.extra(stray).node(SECOND, ready=False)
    assert "k3s.destroy" in blockers(plan_k3s(lab, built.facts(), destroy=(stray.name,)))


def test_names_are_checked(lab: Lab, seen: Any) -> None:
    with pytest.raises(InputError, match=r"2 mistakes"):
        plan_k3s(lab, seen.facts(), destroy=(WORKER,), only=("k3s-worker-99",))


def test_only_what_was_asked_for(lab: Lab, built: Any) -> None:
    built.without(WORKER, "k3s-worker-02").renew(WORKER).renew("k3s-worker-02").away("k3s-worker-03")
    plan = plan_k3s(lab, built.facts(), only=(WORKER,))
    assert ids(plan) == [f"agent/{WORKER}/create", "cluster/homelab/act"]
    assert not plan.blockers


def test_a_silent_member_that_is_ready_is_a_warning_only(lab: Lab, built: Any) -> None:
    plan = plan_k3s(lab, built.away(WORKER).facts())
    assert not plan.blockers
    assert ids(plan) == []
    assert [finding.id for finding in plan.findings if finding.subject == f"guest {WORKER}"] == ["guest.reachable"]


def test_the_digest_does_not_depend_on_the_order_of_answers(lab: Lab, seen: Any) -> None:
    one = plan_k3s(lab, seen.facts())
    seen.guests = dict(reversed(seen.guests.items()))
    assert plan_k3s(lab, seen.facts()).digest == one.digest


def test_k3s_is_fetched_before_a_machine_has_its_turn(lab: Lab, seen: Any) -> None:
    plan = plan_k3s(lab, seen.guest(SECOND, version="v1.33.4+k3s1").facts())
    fetched = [c for c in plan.changes if c.after.get("k3s") == "v1.33.4+k3s1"]
    assert {c.target for c in fetched} == set(lab.vms) - {SECOND}
    servers = {c.id for c in fetched if c.target in {machine.name for machine in lab.servers}}
    for prepared in fetched:
        agent = prepared.id not in servers
        join = change(plan, f"{'agent' if agent else 'server'}/{prepared.target}/create")
        assert prepared.id in join.needs
        assert set(prepared.needs) == (servers if agent else set())
        assert bool(prepared.lane) is agent


def test_nothing_is_fetched_early_without_a_way_out(lab: Lab, seen: Any) -> None:
    airgap = lab.model_copy(update={"k3s": lab.k3s.model_copy(update={"install": "airgap", "airgap_dir": "/a"})})
    assert not [c for c in plan_k3s(airgap, seen.facts()).changes if "k3s" in c.after]


def test_a_machine_made_anew_stays_so_when_k3s_was_fetched_already(lab: Lab, built: Any) -> None:
    built.renew(WORKER).node(WORKER, ready=False).guest(WORKER, version="v1.33.4+k3s1")
    joined = change(plan_k3s(lab, built.facts()), f"agent/{WORKER}/create")
    assert joined.before == {"node": "of the machine that was there before"}
