"""Carry out what only the rebuild of a whole lab waits for: Longhorn on a new cluster, and apps behind their routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.errors import LabError
from labkit.facts.flux import FluxFacts
from labkit.facts.longhorn import NAMESPACE
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.flux.chain import Goal, wait_for_chain
from labkit.systems.git import holds
from labkit.systems.gitread import read_git
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.waiting import ask_patiently
from labkit.systems.kept import put_back
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.paths import own
from labkit.systems.routes import wait_for_route

_SETS = ("longhorn-manager", "longhorn-csi-plugin")
_DEADLINE = 1200.0
_CAUSES = "look at its pods: kubectl -n longhorn-system get pods; every node needs open-iscsi"
_WIDTH = 8
Apply = Callable[[Lab, Access, Change, Step], str]


def apply_recovery(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make one change of `plan_rebuild` true that no other system carries out, and return what is there now.

    Raises:
        StepFailed: it did not come in time; names what is missing and the likely causes.
        SystemDown: the cluster stopped answering.
    """
    apply = _APPLY.get(change.kind)
    if apply is None:
        raise LabError(f"{change.id}: expected a change of a recovery, got one that is not known")
    return apply(lab, access, change, step)


def wait_for_longhorn(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Wait until Flux has installed Longhorn, and its manager and driver run on every node that is to have them.

    What waits for volumes meanwhile, as it must, does not end the wait; only what Longhorn itself needs counts.
    """
    cluster = open_cluster(lab, access)
    if release := str(change.after.get("release") or ""):
        git = read_git(lab, access)
        goal = Goal(git.revision, lambda: git, fits=holds(lab, access, git.head), only=(release,),
                    heeds=lambda facts: before(facts, release))  # fmt: skip
        wait_for_chain(cluster, access, step, goal)
    seen = [""]

    def probe() -> str | None:
        missing = ask_patiently(lambda: _missing(cluster))
        if missing is None:
            return None
        if missing and missing != seen[0]:
            step.say(f"waits for {missing}")
        seen[0] = missing
        return None if missing else "ready"

    limit = access.clock.real(_DEADLINE, least=60.0) / access.clock.scale
    access.wait(probe, what="Longhorn", deadline=limit, every=1.0, last=lambda: seen[0],
                causes=_CAUSES)  # fmt: skip
    return f"Longhorn runs on {len(list(cluster.items(own('nodes'))))} nodes"


def before(facts: FluxFacts, release: str) -> FluxFacts:
    """Return only a HelmRelease and what it needs to be installed; all of it while the release is not there. Pure."""
    kept: set[str] = set()
    waiting = [release]
    while waiting:
        one = facts.find(waiting.pop())
        if one is not None and one.id not in kept:
            kept.add(one.id)
            waiting += [name for name in (*one.needs, one.source, one.chart) if name]
    return facts.model_copy(update={"objects": tuple(o for o in facts.objects if o.id in kept)}) if kept else facts


def _missing(cluster: Cluster) -> str:
    """Say what of Longhorn is not there yet; "" when all is."""
    sets: dict[str, Mapping[str, Any]] = {
        str(one["metadata"]["name"]): one.get("status") or {}
        for one in cluster.items(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets")
    }
    wanted = 0
    for name in _SETS:
        status = sets.get(name) or {}
        wanted, ready = int(status.get("desiredNumberScheduled") or 0), int(status.get("numberReady") or 0)
        if not wanted or ready < wanted:
            return f"{name} on {wanted or 'all'} nodes, {ready} so far"
    nodes = [one for one in cluster.items(own("nodes")) if _is_ready(one)]
    return f"{wanted} nodes of Longhorn, {len(nodes)} ready so far" if len(nodes) < wanted else ""


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def wait_for_routes(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Wait until an app answers behind every host, side by side."""
    given = change.after.get("hosts")
    hosts = [str(host) for host in given] if isinstance(given, list) else []
    with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
        rows = list(pool.map(lambda host: wait_for_route(lab, access, step, host), hosts))
    return ", ".join(f"{row.host} {row.status}" for row in rows)


_APPLY: Mapping[str, Apply] = {"longhorn": wait_for_longhorn, "routes": wait_for_routes, "kept-secret": put_back}
