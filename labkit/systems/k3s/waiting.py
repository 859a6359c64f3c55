"""Wait for nodes and for the health of the cluster; when it does not come, say why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from labkit.errors import LabError, StepFailed, SystemDown
from labkit.facts.diagnosis import lasting_cause
from labkit.facts.kubernetes import NodeRow
from labkit.lab import Lab, Machine
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.diagnose import diagnose, read_log, unit_name
from labkit.systems.k3s.read import parse_node, read_volumes
from labkit.systems.kubernetes import Cluster, KubeError
from labkit.systems.ssh import Shell

T = TypeVar("T")

READY_DEADLINE = 600.0
"""Lab seconds until a started machine is a ready node: images are pulled over the owner's line."""
HEALTH_DEADLINE = 1800.0
"""Lab seconds until the cluster is healthy after a node was out: Longhorn rebuilds replicas."""
_LOOK_AT_LOG = 30.0
_EVERY = 1.0


def find_node(cluster: Cluster, name: str) -> NodeRow | None:
    """Return a node as it is now, or None."""
    item = cluster.find(f"/api/v1/nodes/{name}")
    return None if item is None else parse_node(item)


def ask_patiently(ask: Callable[[], T]) -> T | None:
    """Return the answer of a cluster whose servers may be restarting, or None."""
    try:
        return ask()
    except SystemDown:
        return None
    except KubeError as exc:
        if exc.status >= 500 or exc.status in (401, 429):
            return None
        raise


class NodeView:
    """The nodes as they were a moment ago: many who wait for theirs share one question."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._at: dict[Path, float] = {}
        self._nodes: dict[Path, dict[str, NodeRow]] = {}

    def find(self, lab: Lab, access: Access, name: str) -> NodeRow | None:
        """Return a node, read within the last lab second; None when there is none of that name."""
        place = access.state
        with self._guard:
            if place not in self._at or access.clock.monotonic() - self._at[place] > _EVERY:
                items = open_cluster(lab, access).items("/api/v1/nodes")
                self._nodes[place] = {node.name: node for node in map(parse_node, items)}
                self._at[place] = access.clock.monotonic()
            return self._nodes[place].get(name)


_view = NodeView()


def wait_for_node(
    lab: Lab,
    access: Access,
    machine: Machine,
    step: Step,
    *,
    version: str = "",
    shell: Shell | None = None,
    began: float = 0.0,
    target: str | None = None,
    find: Callable[[], NodeRow | None] | None = None,
) -> NodeRow:
    """Wait until a machine is a ready node, on a server also until its etcd member votes.

    Args:
        lab: what is wanted.
        access: how the guests and the API are reached.
        machine: which machine.
        step: where progress is told.
        version: the version that it must have; any when empty.
        shell: a login on it: its unit must be active, for a node stays Ready for a while after its machine has gone;
            and its log is looked at: what no waiting mends ends the waiting.
        began: when its unit was started, by the guest's clock.
        target: the URL that it joins, for the diagnosis.
        find: how the node is read; from the lab's cluster when None.

    Raises:
        StepFailed: it did not become ready; names the causes.
    """
    seen = [""]
    looked = [access.clock.monotonic()]
    ask = find or (lambda: _view.find(lab, access, machine.name))

    def probe() -> NodeRow | None:
        node = ask_patiently(ask)
        text = _lacks(node, machine, version) or _runs(shell, machine)
        if text and text != seen[0]:
            step.say(f"waits: {text}")
        seen[0] = text
        if shell is not None and text and access.clock.monotonic() - looked[0] > _LOOK_AT_LOG:
            looked[0] = access.clock.monotonic()
            _give_up_early(shell, machine, began)
        return None if text else node

    try:
        return access.wait(
            probe, what=f"{machine.name}: ready node", deadline=READY_DEADLINE, every=_EVERY, last=lambda: seen[0]
        )
    except StepFailed as exc:
        raise StepFailed(
            f"{exc.message}\n{diagnose(lab, access, machine, target=target)}",
            next_step="mend the cause, then run again: it goes on",
        ) from exc


def _lacks(node: NodeRow | None, machine: Machine, version: str) -> str:
    """What is missing until a node is as it should be; empty when nothing is."""
    if node is None:
        return "no node of that name"
    if version and node.version != version:
        return f"the node has {node.version}"
    if not node.ready:
        return f"the node is not ready: {node.problem}"
    if machine.role == "server" and node.voter is False:
        return "its etcd member does not vote yet"
    return ""


def _runs(shell: Shell | None, machine: Machine) -> str:
    """Say when the unit on a machine is not active; nothing when it cannot be asked."""
    if shell is None:
        return ""
    try:
        state = shell.run(("systemctl", "is-active", unit_name(machine)), check=False).text.strip()
    except LabError:
        return ""
    return "" if state == "active" else f"its unit is {state or 'not there'}"


def _give_up_early(shell: Shell, machine: Machine, began: float) -> None:
    """Raise when the log says, again and again, what no waiting will mend."""
    try:
        state = shell.run(("systemctl", "is-active", unit_name(machine)), check=False).text.strip()
        cause = None if state == "active" else lasting_cause(read_log(shell, machine, since=began))
    except LabError:
        return
    if cause is not None:
        raise StepFailed(f"{machine.name}: expected it to join, got an error that stays")


def wait_for_health(lab: Lab, access: Access, step: Step, *, dns: bool = False) -> None:
    """Wait until the API, all nodes, all etcd members and all volumes are well again.

    Args:
        lab: what is wanted.
        access: how the API is reached.
        step: where progress is told.
        dns: whether CoreDNS must run as well.
    """
    seen = ["no answer yet"]

    def probe() -> bool | None:
        text = ask_patiently(lambda: unhealthy(open_cluster(lab, access), dns=dns))
        text = "the API does not answer" if text is None else text
        if text != seen[0]:
            seen[0] = text
            step.say(f"waits for the cluster: {text}" if text else "the cluster is healthy")
        return None if text else True

    access.wait(probe, what="healthy cluster", deadline=HEALTH_DEADLINE, every=3.0, last=lambda: seen[0],
                causes="mend what is named, then run again: it goes on with the next node")  # fmt: skip


def unhealthy(cluster: Cluster, *, but: str = "", dns: bool = False) -> str:
    """Return what is not well in a cluster; empty when all is."""
    if failed := cluster.unhealthy():
        return f"/readyz: {', '.join(failed)}"
    nodes = [parse_node(item) for item in cluster.items("/api/v1/nodes")]
    if away := [node.name for node in nodes if not node.ready and node.name != but]:
        return f"not ready: {', '.join(away)}"
    if learners := [node.name for node in nodes if node.server and node.voter is False and node.name != but]:
        return f"etcd members that do not vote: {', '.join(learners)}"
    if degraded := [volume.name for volume in read_volumes(cluster) or () if volume.degraded]:
        return f"volumes being rebuilt: {', '.join(degraded)}"
    if dns and not _dns_runs(cluster):
        return "CoreDNS does not run"
    return ""


def _dns_runs(cluster: Cluster) -> bool:
    deployment = cluster.find("/apis/apps/v1/namespaces/kube-system/deployments/coredns") or {}
    return int((deployment.get("status") or {}).get("availableReplicas") or 0) > 0
