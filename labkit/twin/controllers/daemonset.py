"""DaemonSets: one pod on every node that should have one."""

from __future__ import annotations

from labkit.twin.kube.door import Event, Object

from .fit import first_untolerated, matches_node
from .framework import Controller
from .history import HASH, ensure_revision, forget_revisions
from .objects import (
    controller_pods,
    is_active,
    is_deleting,
    is_finished,
    is_ready,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_key,
    owner_of,
    pod_from,
    share,
    spec_of,
    status_of,
    without_zeros,
)

TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
COUNTS = (
    "currentNumberScheduled",
    "desiredNumberScheduled",
    "numberMisscheduled",
    "numberReady",
)


class DaemonSets(Controller):
    """Keep one pod per fitting node, and roll them over within maxUnavailable."""

    name = "daemonset-controller"
    watches = ("daemonsets.apps", "pods", "nodes")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a pod to its DaemonSet and a node to all of them."""
        if event.resource == "daemonsets.apps":
            return [(namespace_of(event.object), name_of(event.object))]
        if event.resource == "pods":
            return owner_key(event.object, "DaemonSet")
        return [(namespace_of(d), name_of(d)) for d in self.api.list("daemonsets.apps")]

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Bring one DaemonSet to its pods."""
        namespace, name = key
        owner = self.api.get("daemonsets.apps", name, namespace)
        if owner is None or is_deleting(owner):
            return None
        current = labels_of(ensure_revision(self.api, owner))[HASH]
        nodes = self.api.list("nodes")
        self._place(owner, nodes, current)
        self._roll(owner, nodes, current)
        pods = self._pods(owner)
        used = {f"{name}-{short}" for short in [current, *(labels_of(p).get(HASH, "") for p in pods)]}
        forget_revisions(self.api, owner, used)
        return self._write_status(owner, nodes, pods, current)

    def _pods(self, owner: Object) -> list[Object]:
        labels = spec_of(owner)["selector"].get("matchLabels")
        return controller_pods(self.api.list("pods", namespace_of(owner), labels), owner)

    def _place(self, owner: Object, nodes: list[Object], current: str) -> None:
        """Make the pods that are missing; remove those that ended, are one too many or sit wrong."""
        by_node = pods_by_node(self._pods(owner))
        for node in nodes:
            wanted, may_stay = should_run(owner, node)
            mine = [p for p in by_node.get(name_of(node), []) if not is_deleting(p)]
            failed = [p for p in mine if is_finished(p)]
            for pod in failed:
                text = f"Found failed daemon pod {namespace_of(pod)}/{name_of(pod)} on node {name_of(node)}"
                self.events.warning(owner, "FailedDaemonPod", f"{text}, will try to kill it")
            alive = [p for p in mine if not is_finished(p)]
            self._remove(owner, failed + (alive[1:] if may_stay else alive))
            if wanted and not by_node.get(name_of(node)):
                self._create(owner, name_of(node), current)

    def _roll(self, owner: Object, nodes: list[Object], current: str) -> None:
        """Remove pods of older templates: those not available at once, others within maxUnavailable."""
        strategy = spec_of(owner).get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        wanted = [n for n in nodes if should_run(owner, n)[0]]
        rolling = strategy.get("rollingUpdate") or {}
        limit = max(1, share(rolling.get("maxUnavailable", 1), len(wanted), up=True))
        by_node = pods_by_node(self._pods(owner))
        pods = [p for n in wanted for p in by_node.get(name_of(n), []) if is_active(p)]
        free = limit - (len(wanted) - sum(self._is_available(owner, p) for p in pods))
        for pod in pods:
            if labels_of(pod).get(HASH) == current:
                continue
            if not self._is_available(owner, pod):
                self._remove(owner, [pod])
            elif free > 0:
                free -= 1
                self._remove(owner, [pod])

    def _is_available(self, owner: Object, pod: Object) -> bool:
        return self.available_in(pod, spec_of(owner).get("minReadySeconds", 0)) == 0

    def _create(self, owner: Object, node: str, current: str) -> None:
        pod = pod_from(spec_of(owner)["template"], owner, generateName=f"{name_of(owner)}-", labels={HASH: current})
        pin_to_node(pod, node)
        made = self.api.create("pods", pod)
        self.events.normal(owner, "SuccessfulCreate", f"Created pod: {name_of(made)}")

    def _remove(self, owner: Object, pods: list[Object]) -> None:
        for pod in pods:
            self.api.delete("pods", name_of(pod), namespace_of(pod))
            self.events.normal(owner, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    def _write_status(self, owner: Object, nodes: list[Object], pods: list[Object], current: str) -> float | None:
        minimum = spec_of(owner).get("minReadySeconds", 0)
        by_node = pods_by_node([p for p in pods if not is_deleting(p)])
        wanted = [n for n in nodes if should_run(owner, n)[0]]
        first = [by_node[name_of(n)][0] for n in wanted if by_node.get(name_of(n))]
        available = sum(self.available_in(p, minimum) == 0 for p in first)
        names = {name_of(n) for n in wanted}
        status = without_zeros(
            {
                "currentNumberScheduled": len(first),
                "desiredNumberScheduled": len(wanted),
                "numberMisscheduled": sum(bool(n) and n not in names for n in by_node),
                "numberReady": sum(is_ready(p) for p in first),
                "updatedNumberScheduled": sum(labels_of(p).get(HASH) == current for p in first),
                "numberAvailable": available,
                "numberUnavailable": len(wanted) - available,
                "observedGeneration": meta(owner).get("generation", 1),
            },
            keep=COUNTS,
        )
        if status != status_of(owner):
            self.api.update_status("daemonsets.apps", {**owner, "status": status})
        waits = [w for p in first if (w := self.available_in(p, minimum))]
        return min(waits) if waits else None


def pods_by_node(pods: list[Object]) -> dict[str, list[Object]]:
    """Group daemon pods by the node that they are for, the ones that run already first."""
    found: dict[str, list[Object]] = {}
    for pod in sorted(pods, key=lambda p: (not is_ready(p), name_of(p))):
        found.setdefault(target_node(pod), []).append(pod)
    return found


def target_node(pod: Object) -> str:
    """Return the node that a daemon pod is bound or pinned to."""
    if spec_of(pod).get("nodeName"):
        return str(spec_of(pod)["nodeName"])
    affinity = (spec_of(pod).get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    fields = [f for t in terms or [] for f in t.get("matchFields") or [] if f["key"] == "metadata.name"]
    return str(fields[0]["values"][0]) if fields else ""


def pin_to_node(pod: Object, node: str) -> None:
    """Pin a new pod to a node by its name and give it the tolerations that every daemon pod has."""
    spec = pod["spec"]
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [{**t, "matchFields": [field]} for t in terms]
    spec["tolerations"] = [*(spec.get("tolerations") or []), *daemon_tolerations(spec)]


def daemon_tolerations(spec: Object) -> list[dict[str, str]]:
    """Return the tolerations that the controller adds to a daemon pod."""
    pairs = list(TOLERATED)
    if spec.get("hostNetwork"):
        pairs.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    return [{"key": k, "operator": "Exists", "effect": e} for k, e in pairs]


def should_run(owner: Object, node: Object) -> tuple[bool, bool]:
    """Tell whether a daemon pod should run on a node, and whether one that is there may stay."""
    spec = spec_of(spec_of(owner)["template"])
    pod = {**spec, "tolerations": [*(spec.get("tolerations") or []), *daemon_tolerations(spec)]}
    if not matches_node(pod, node) or is_deleting(node):
        return False, False
    if first_untolerated(pod, node, ("NoExecute",)):
        return False, False
    return first_untolerated(pod, node, ("NoSchedule", "NoExecute")) is None, True


def is_daemon(pod: Object) -> bool:
    """Tell whether a DaemonSet controls the pod."""
    return (owner_of(pod) or {}).get("kind") == "DaemonSet"
