"""Changes of live nodes: labels and taints, drain for a maintenance, the way back, removal."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any

from labkit.errors import LabError, StepFailed
from labkit.facts.kubernetes import DOWN, MAINTAINED
from labkit.lab import Lab, Machine
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.drain import cordon, drain, node_path, uncordon
from labkit.systems.k3s.join import delete_node
from labkit.systems.k3s.read import show_taint
from labkit.systems.k3s.waiting import find_node, unhealthy, wait_for_health, wait_for_node
from labkit.systems.kubernetes import Cluster

MAINTAIN = "maintain-host"


def label(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Set labels and taints of a live node."""
    cluster = open_cluster(lab, access)
    step.say(f"sets {', '.join(sorted(change.after))}")
    labels = {key: value for key, value in change.after.items() if key != "taints"}
    body: dict[str, Any] = {"metadata": {"labels": labels}} if labels else {}
    if "taints" in change.after:
        body["spec"] = {"taints": _taints(cluster, change)}
    cluster.patch(node_path(change.target), body)
    return f"{', '.join(sorted(change.after))} set"


def _taints(cluster: Cluster, change: Change) -> list[dict[str, Any]]:
    """The wanted taints as objects; one that is there keeps what Kubernetes noted on it."""
    now = {show_taint(taint): taint for taint in (cluster.get(node_path(change.target))["spec"].get("taints") or ())}
    wanted = change.after["taints"]
    texts = [str(text) for text in wanted] if isinstance(wanted, list) else []
    return [now.get(text, _parse_taint(text)) for text in texts]


def _parse_taint(text: str) -> dict[str, str]:
    head, _, effect = text.rpartition(":")
    key, _, value = head.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def drain_node(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Cordon and drain a node for the maintenance of its host."""
    cluster = open_cluster(lab, access)
    cordon(cluster, change.target, MAINTAIN)
    moved = drain(access, cluster, change.target, step)
    return f"{change.target} is cordoned, {moved} pods moved"


def return_node(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Wait until a node is ready and let pods come to it again."""
    machine = resolve_machine(lab, change.target)
    with ssh.connect(lab, access, machine) as shell:
        wait_for_node(lab, access, machine, step, shell=shell, began=shell.read_clock())
    marks: dict[str, str | None] = {}
    if "maintained" in change.after:
        marks = {DOWN: None, MAINTAINED: datetime.now(UTC).isoformat(timespec="seconds")}
    free = uncordon(open_cluster(lab, access), change.target, marks=marks)
    if not marks:  # an upgrade goes on with the next node: all must be well before
        wait_for_health(lab, access, step, dns="coredns" not in lab.k3s.disable)
    return f"{change.target} takes pods again" if free else f"{change.target} is ready; a person's cordon stays"


def mark_down(lab: Lab, access: Access, name: str, host: str) -> None:
    """Note on a node that its machine is out for the maintenance of a host."""
    cluster = open_cluster(lab, access)
    if find_node(cluster, name) is not None:
        cluster.patch(node_path(name), {"metadata": {"annotations": {DOWN: host}}})


def remove_node(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Drain a node, delete it with its etcd member, and remove k3s from its machine when that still answers.

    Raises:
        StepFailed: the node is in the lab again, or other members are not well.
    """
    name = change.target
    if name in lab.vms:
        raise StepFailed(f"node {name}: expected one that is not in the lab, got one that is; nothing was removed")
    cluster = open_cluster(lab, access)
    node = find_node(cluster, name)
    if node is None:
        return "gone already"
    if node.server and (trouble := unhealthy(cluster, but=name)):
        raise StepFailed(f"node {name}: expected a healthy cluster before a server leaves it, got {trouble}",
                         next_step="mend that first, then run again")  # fmt: skip
    cordon(cluster, name, "bootstrap-k3s")
    if node.ready:
        drain(access, cluster, name, step)
    step.say("deletes the node" + (" and its etcd member" if node.server else ""))
    # The API of a leaving server goes away: ask another one.
    others = [str(server.address) for server in lab.servers if str(server.address) != node.address]
    survivors = Cluster(access, others, cluster.credentials)
    delete_node(access, survivors, name)
    cleaned = _uninstall(lab, access, name, node.address, step, server=node.server)
    delete_node(access, survivors, name)  # an agent that was restarted meanwhile registers again
    return f"node {name} is gone; {cleaned}"


def _uninstall(lab: Lab, access: Access, name: str, address: str, step: Step, *, server: bool) -> str:
    """Remove k3s and its data, so that the machine is as new if it ever comes back."""
    script = "/usr/local/bin/k3s-uninstall.sh" if server else "/usr/local/bin/k3s-agent-uninstall.sh"
    try:
        with ssh.connect(lab, access, _machine(lab, name, address)) as shell:
            step.say("removes k3s from it")
            shell.run((script,), sudo=True, timeout=300.0)
    except LabError as exc:
        return f"k3s is still on its machine ({exc.message.splitlines()[0]}): run {script} there, or delete the VM"
    return "k3s was removed from its machine; delete the VM with provision-vms"


def _machine(lab: Lab, name: str, address: str) -> Machine:
    """A machine that is no longer in the lab."""
    return lab.machines[0].model_copy(update={"name": name, "address": ipaddress.IPv4Address(address)})
