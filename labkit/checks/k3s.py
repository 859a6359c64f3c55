"""Is the cluster as the lab file says: nodes, etcd members, DNS, certificates, and a door that stays shut. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any

from labkit.checks.base import Check, error, info, warning
from labkit.facts.k3s import DoorFacts, K3sFacts
from labkit.facts.kubernetes import NodeRow
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab, Machine
from labkit.plan import Finding
from labkit.rules.quorum import hosts_that_take_quorum, quorum

REMEDY = "run bootstrap-k3s"
_SOON = timedelta(days=60)
_REFUSED = (401, 403)


def api_answers() -> Check:
    """Return the check that there is an API, and that it is well."""
    sentence = "the API answers and is well"
    return Check("k3s.api", sentence, ("k3s",), lambda facts: _check_up(facts["k3s"]))


def cluster_is_ready(lab: Lab, *, version: str = "", only: Collection[str] = ()) -> Check:
    """Return the check that every machine is a ready node with its role, version, zone and address.

    Args:
        lab: what is wanted.
        version: the version that all nodes have; not looked at when empty.
        only: look at these machines only; at all when empty.
    """
    machines = [machine for machine in lab.machines if not only or machine.name in only]

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        k3s: K3sFacts = facts["k3s"]
        yield from _check_up(k3s)
        if k3s.up:
            for machine in machines:
                yield from check_node(machine, k3s.node(machine.name), version)
            yield from check_etcd(lab, k3s)
            yield from check_dns(lab, k3s)

    sentence = f"all {len(machines)} machines are ready nodes, all etcd members vote, CoreDNS runs"
    return Check("k3s.ready", sentence, ("k3s",), find)


def _check_up(k3s: K3sFacts) -> Iterator[Finding]:
    if not k3s.up:
        yield error("k3s.api", "cluster", "an API that answers", k3s.problem or "none", REMEDY)
    elif k3s.unhealthy:
        yield error("k3s.api", "cluster", "every part of /readyz ok", ", ".join(k3s.unhealthy),
                    "look at `journalctl -u k3s` on the servers")  # fmt: skip


def check_node(machine: Machine, node: NodeRow | None, version: str = "") -> Iterator[Finding]:
    """Say what is not as it should be with one node."""
    subject = f"node {machine.name}"
    if node is None:
        yield error("k3s.node", subject, f"a {machine.role} of the cluster", "none", REMEDY)
        return
    if not node.ready:
        yield error("k3s.node-ready", subject, "a ready node", node.problem or "not ready", REMEDY)
    if node.server != (machine.role == "server"):
        yield error("k3s.role", subject, f"the role {machine.role}", "server" if node.server else "agent",
                    "remove the node (`destroy`) and let it join anew")  # fmt: skip
    if version and node.version != version:
        yield error("k3s.version", subject, version, node.version, "run upgrade-k3s")
    if node.zone != machine.host:
        yield error("k3s.zone", subject, f"the zone {machine.host}", node.zone or "none", REMEDY)
    if node.address != str(machine.address):
        yield error("k3s.address", subject, str(machine.address), node.address or "none",
                    "k3s uses another network interface: look at node-ip in its config.yaml")  # fmt: skip
    if not node.schedulable:
        who = node.cordoned_by
        yield warning("k3s.cordoned", subject, "a node that takes pods", f"cordoned by {who or 'a person'}",
                      f"run {who} again: it finishes" if who else f"kubectl uncordon {machine.name}")  # fmt: skip


def check_etcd(lab: Lab, k3s: K3sFacts) -> Iterator[Finding]:
    """Say whether the etcd members are the lab's servers, and all vote."""
    members = {node.name for node in k3s.nodes if node.server}
    wanted = {server.name for server in lab.servers}
    if stray := sorted(members - wanted):
        yield warning("k3s.members", "etcd", "the lab's servers as members", f"{', '.join(stray)} too",
                      f"run bootstrap-k3s with destroy={','.join(stray)}")  # fmt: skip
    for node in k3s.nodes:
        # A cluster of one server without etcd (sqlite) has no such condition: nothing votes there.
        if node.server and node.voter is False:
            yield error("k3s.voter", f"node {node.name}", "an etcd member that votes", "one that does not", REMEDY)
        elif node.server and node.voter is None and len(members) > 1:
            yield error("k3s.voter", f"node {node.name}", "an etcd member", "none: another kind of database",
                        "it is no member of this cluster's etcd: let it join anew")  # fmt: skip


def check_dns(lab: Lab, k3s: K3sFacts) -> Iterator[Finding]:
    """Say whether CoreDNS runs; nothing when the lab leaves it out."""
    if "coredns" in lab.k3s.disable:
        return
    pods = [pod for pod in k3s.pods if pod.namespace == "kube-system" and pod.name.startswith("coredns-")]
    running = [pod for pod in pods if pod.status == "Running" and _all_ready(pod.ready)]
    if not running:
        got = ", ".join(f"{pod.name} {pod.status}" for pod in pods) or "no pod"
        yield error(
            "k3s.dns", "CoreDNS", "a pod that runs", got, "kubectl -n kube-system describe pods -l k8s-app=kube-dns"
        )


def _all_ready(text: str) -> bool:
    ready, _, wanted = text.partition("/")
    return bool(wanted) and ready == wanted


def quorum_by_host(lab: Lab) -> Check:
    """Return the check that tells, per Proxmox host, whether etcd survives its loss; where the VMs are now."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        k3s: K3sFacts = facts["k3s"]
        proxmox: ProxmoxFacts = facts["proxmox"]
        held = dict.fromkeys(lab.hosts, 0)
        for node in k3s.voters:
            vm = proxmox.vm(node.name)
            host = vm.node if vm is not None else node.zone
            held[host] = held.get(host, 0) + 1
        total = sum(held.values())
        for host in hosts_that_take_quorum(held):
            yield warning("k3s.quorum", f"host {host}", f"{quorum(total)} of {total} etcd members left without it",
                          f"{total - held[host]}", "see the layout in preflight")  # fmt: skip
        yield from _stale_zones(k3s, proxmox)

    return Check("k3s.quorum", "etcd survives the loss of any one host", ("k3s", "proxmox"), find)


def _stale_zones(k3s: K3sFacts, proxmox: ProxmoxFacts) -> Iterator[Finding]:
    for node in k3s.nodes:
        vm = proxmox.vm(node.name)
        if vm is not None and node.zone and vm.node != node.zone:
            yield warning("k3s.zone", f"node {node.name}", f"the zone {vm.node}, where its VM is", node.zone,
                          "migrate the VM back, or change its host in the lab file and run bootstrap-k3s")  # fmt: skip


def door_is_shut(lab: Lab) -> Check:
    """Return the check that a joiner is refused with a wrong token, and only with a wrong one."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        door: DoorFacts = facts["join-door"]
        for server in lab.servers:
            wrong, right = door.wrong.get(server.name), door.right.get(server.name)
            subject = f"server {server.name}"
            if wrong not in _REFUSED:
                make = error if wrong is not None and wrong < 400 else warning
                yield make("k3s.door", subject, "a joiner with a wrong token refused (401)", _status(wrong),
                           "nobody may join without the token: look at the k3s version and its log")  # fmt: skip
            if right in _REFUSED:
                yield error("k3s.door", subject, "the token of k3s.token taken", _status(right),
                            "put the cluster's token there: without it no snapshot can be restored")  # fmt: skip

    return Check("k3s.door", "a joiner with a wrong token is refused, one with the lab's is not", ("join-door",), find)


def _status(status: int | None) -> str:
    return "no answer" if status is None else f"status {status}"


def certificates_last(lab: Lab) -> Check:
    """Return the check that neither the servers' certificates nor the local kubeconfig end soon."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        k3s: K3sFacts = facts["k3s"]
        local = k3s.kubeconfig
        if k3s.expires is not None and k3s.expires - k3s.read_at < _SOON:
            yield warning("k3s.certificate", "servers", f"certificates for {_SOON.days} days or more",
                          f"until {k3s.expires:%Y-%m-%d}", "restart k3s on the servers: it renews them")  # fmt: skip
        if k3s.up and local.state != "current":
            until = f" (ends {local.expires:%Y-%m-%d})" if local.expires else ""
            yield info("k3s.kubeconfig", lab.k3s.kubeconfig, f"the current context {lab.name}",
                       f"{local.state}{until}", REMEDY)  # fmt: skip

    return Check("k3s.certificates", "certificates and kubeconfig are current and last", ("k3s",), find)


def nodes_are_in(lab: Lab) -> Check:
    """Return the check that no runbook has left a node out: every cordon is a person's."""

    def find(facts: Mapping[str, Any]) -> Iterator[Finding]:
        k3s: K3sFacts = facts["k3s"]
        for machine in lab.machines:
            node = k3s.node(machine.name)
            if node is not None and node.cordoned_by:
                who = node.cordoned_by
                yield error("k3s.left-out", f"node {node.name}", "no node left out by a runbook",
                            f"cordoned by {who}", f"run {who} again: it finishes")  # fmt: skip

    return Check("k3s.left-out", "no runbook has left a node out", ("k3s",), find)
