"""May a node be taken out: etcd members to spare, volumes with all replicas, budgets that let pods go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from labkit.checks.base import error, info, warning
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubernetes import CORDONED_BY, NodeRow
from labkit.plan import Finding
from labkit.rules.quorum import quorum

NODE_OUT = "node-out"
"""The lane of everything that takes a node out: never two at once."""


def is_left_out(node: NodeRow, runbook: str) -> bool:
    """Whether an interrupted run of that runbook left a node cordoned."""
    return not node.schedulable and node.annotations.get(CORDONED_BY) == runbook


def check_api(k3s: K3sFacts) -> Iterator[Finding]:
    """Say when there is no healthy API to work with."""
    if not k3s.up:
        yield error("k3s.api", "cluster", "an API that answers", k3s.problem or "none", "run bootstrap-k3s")
    elif k3s.unhealthy:
        yield error("k3s.api", "cluster", "every part of /readyz ok", ", ".join(k3s.unhealthy),
                    "look at `journalctl -u k3s` on the servers")  # fmt: skip


def check_others(k3s: K3sFacts, *, left_out: Collection[str] = ()) -> Iterator[Finding]:
    """Say which nodes are out already, beside those that an interrupted run of the same runbook left so."""
    for node in k3s.nodes:
        if node.name not in left_out and not node.ready:
            yield error("k3s.node-out", f"node {node.name}", "a node that is ready before another goes out",
                        node.problem or "not ready", "mend it first, or run bootstrap-k3s")  # fmt: skip
        elif node.name not in left_out and not node.schedulable:
            who = node.cordoned_by
            remedy = f"run {who} again: it finishes" if who else "it stays as it is; uncordon it when you are done"
            got = f"cordoned by {who or 'a person'}"
            yield info("k3s.cordoned", f"node {node.name}", "a node that takes pods", got, remedy)
    for node in k3s.nodes:
        if node.server and node.ready and node.voter is False:
            yield error("k3s.voter", f"node {node.name}", "a server whose etcd member votes", "a learner",
                        "wait until it is promoted")  # fmt: skip


def check_spare(k3s: K3sFacts, out: Collection[str]) -> Iterator[Finding]:
    """Say when these servers, out at once, would take the quorum of etcd."""
    members = [node.name for node in k3s.nodes if node.server]
    gone = [name for name in members if name in out]
    left = len(members) - len(gone)
    if gone and left < quorum(len(members)):
        yield error("k3s.quorum", "etcd", f"{quorum(len(members))} of {len(members)} members left",
                    f"{left}: {', '.join(gone)} would be out",
                    "move a server to another host, or add one on a third: see the layout in preflight")  # fmt: skip


def check_volumes(k3s: K3sFacts) -> Iterator[Finding]:
    """Say which Longhorn volumes have too few replicas for any node to go out."""
    for volume in k3s.volumes or ():
        if volume.degraded:
            yield error("longhorn.degraded", f"volume {volume.name}", "all replicas healthy before a node goes out",
                        volume.robustness, "wait until Longhorn has rebuilt it")  # fmt: skip


def check_last_replicas(k3s: K3sFacts, out: Collection[str]) -> Iterator[Finding]:
    """Say which volumes would lose their last healthy replica with these nodes."""
    for volume in k3s.volumes or ():
        if volume.replicas and set(volume.replicas) <= set(out):
            yield error("longhorn.last-replica", f"volume {volume.name}", "a healthy replica on another node",
                        f"replicas on {', '.join(volume.replicas)} only",
                        "raise its number of replicas and wait, or take a backup and detach it")  # fmt: skip


def check_drain(k3s: K3sFacts, nodes: Collection[str]) -> Iterator[Finding]:
    """Say which pods would hold up a drain of these nodes, or be gone for good after it."""
    for name in nodes:
        for pod in k3s.pods_on(name):
            if not pod.owner:
                yield error("drain.bare-pod", f"pod {pod}", "a pod with a controller that makes it anew",
                            f"none, on {name}", "delete it yourself, or give it a Deployment")  # fmt: skip
            for budget in pod.budgets:
                seen = k3s.budget(pod.namespace, budget)
                if seen is not None and seen.allowed == 0:
                    yield warning("drain.budget", f"pod {pod}", f"budget {budget} to let it go from {name}",
                                  f"no disruption allowed ({seen.healthy} healthy, {seen.desired} wanted)",
                                  "the drain waits for it until its deadline, then names it")  # fmt: skip


def check_all(k3s: K3sFacts, going: Collection[str], *, left_out: Collection[str]) -> Iterator[Finding]:
    """Say everything that speaks against taking these nodes out one by one."""
    yield from check_api(k3s)
    if k3s.up and going:
        yield from check_others(k3s, left_out=left_out)
        yield from check_volumes(k3s)
        yield from check_drain(k3s, [name for name in going if name not in left_out])
