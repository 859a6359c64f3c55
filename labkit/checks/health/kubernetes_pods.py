"""Health checks of pods and what keeps them: crashes, waits, restarts, missing and single replicas. Pure.

Pods come and go, so findings name what they belong to; and of one trouble only the deepest cause is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.kubernetes import READS, host_of, seen
from labkit.checks.health.words import ago, count, listed, span
from labkit.facts.kubehealth import PodHealth, Workload
from labkit.facts.podstates import PodState, state_of
from labkit.plan import Severity

_SSO = frozenset({"authelia", "authentik", "goauthentik", "keycloak", "pocket-id", "oauth2-proxy", "zitadel", "kanidm",
                  "dex", "tinyauth"})  # fmt: skip
_JOBS = ("Job ", "CronJob ")
_WAITS = (PodState.PENDING, PodState.STARTING, PodState.UNREADY)


def _stuck(scene: Scene) -> timedelta:
    return timedelta(minutes=scene.lab.health.limits.kubernetes.stuck_minutes)


def _age(pod: PodHealth, now: datetime) -> timedelta:
    """How long a pod has been as it is; how old it is when that is not known."""
    since = pod.since or pod.created
    return now - since if since is not None else timedelta.max


def _in(scene: Scene, *states: PodState) -> Iterator[PodHealth]:
    """Yield the pods in a state; those that wait only when they have waited for long.

    Pods of a node that is down are left out where that explains them.
    """
    facts, stuck = seen(scene), _stuck(scene)
    for pod in facts.pods:
        state = state_of(pod)
        explained = pod.node in facts.down and state not in (PodState.CRASHES, PodState.IMAGE)
        if state in states and not explained and (state not in _WAITS or _age(pod, scene.now) > stuck):
            yield pod


def _grouped(pods: Iterator[PodHealth]) -> Iterator[tuple[str, list[PodHealth]]]:
    """Yield what the pods belong to, with the pods."""
    groups: dict[str, list[PodHealth]] = {}
    for pod in pods:
        groups.setdefault(pod.subject, []).append(pod)
    yield from groups.items()


def _got(pods: list[PodHealth], say: Callable[[PodHealth], str]) -> str:
    """Say what is with the first of several pods, and how many there are."""
    more = f" (and {count(len(pods) - 1, 'pod')} more)" if len(pods) > 1 else ""
    why = f": {pods[0].message}" if pods[0].message else ""
    return f"{say(pods[0])}{more}{why}"


def _describe(pod: PodHealth) -> str:
    return f"kubectl -n {pod.namespace} describe pod {pod.name}"


@health("kubernetes.pod-crash", Area.KUBERNETES, "no pod crashes", Severity.ERROR, reads=READS)
def pod_crash(scene: Scene) -> Iterator[Found]:
    """Find pods whose containers end with an error or cannot be started; jobs that fail are told as such."""
    crashing = (pod for pod in _in(scene, PodState.CRASHES)
                if not pod.subject.startswith(_JOBS) or pod.status.endswith("BackOff"))  # fmt: skip
    for subject, pods in _grouped(crashing):
        pod = pods[0]
        log = "" if pod.status.startswith("CreateContainer") else f"`kubectl -n {pod.namespace} logs {pod.name} -p`, "
        yield Found(subject, "containers that run", _got(pods, lambda one: one.status), f"{log}`{_describe(pod)}`")


@health("kubernetes.pod-image", Area.KUBERNETES, "every image can be pulled", Severity.ERROR, reads=READS)
def pod_image(scene: Scene) -> Iterator[Found]:
    """Find pods whose image is not to be had: a wrong tag, a registry that is away, a missing secret."""
    for subject, pods in _grouped(_in(scene, PodState.IMAGE)):
        yield Found(
            subject,
            "an image that can be pulled",
            _got(pods, lambda one: one.status),
            f"look at the image's name and tag in Git, and at its registry; `{_describe(pods[0])}`",
        )


@health("kubernetes.pod-pending", Area.KUBERNETES, "every pod finds a node", Severity.ERROR, reads=READS)
def pod_pending(scene: Scene) -> Iterator[Found]:
    """Find pods that no node takes."""
    for subject, pods in _grouped(_in(scene, PodState.PENDING)):
        yield Found(subject, "a node that takes its pod",
                    _got(pods, lambda one: f"{one.status} for {span(_age(one, scene.now))}"),
                    f"`{_describe(pods[0])}`: give the nodes more room, or ask for less")  # fmt: skip


@health("kubernetes.pod-starting", Area.KUBERNETES, "every pod gets its containers", Severity.ERROR, reads=READS)
def pod_starting(scene: Scene) -> Iterator[Found]:
    """Find pods that a node has and does not start: mostly a volume that cannot be attached."""
    for subject, pods in _grouped(_in(scene, PodState.STARTING)):
        yield Found(subject, f"containers within {span(_stuck(scene))}",
                    _got(pods, lambda one: f"{one.status} for {span(_age(one, scene.now))}"),
                    f"`{_describe(pods[0])}`: its events name the volume, secret or init container")  # fmt: skip


@health("kubernetes.pod-unready", Area.KUBERNETES, "every pod that runs is ready", Severity.ERROR, reads=READS)
def pod_unready(scene: Scene) -> Iterator[Found]:
    """Find pods that run and fail their readiness probe for long: nobody reaches them."""
    for subject, pods in _grouped(_in(scene, PodState.UNREADY)):
        yield Found(subject, "pods that are ready",
                    _got(pods, lambda one: f"{one.ready} of {one.total} containers for {span(_age(one, scene.now))}"),
                    f"`{_describe(pods[0])}`: its readiness probe fails")  # fmt: skip


@health("kubernetes.pod-terminating", Area.KUBERNETES, "no pod hangs at its end", Severity.WARNING, reads=READS)
def pod_terminating(scene: Scene) -> Iterator[Found]:
    """Find pods that should have been gone long ago: their volumes are held, and nothing takes their place."""
    hanging = (pod for pod in _in(scene, PodState.ENDING)
               if pod.deleting is not None and scene.now - pod.deleting > _stuck(scene))  # fmt: skip
    for subject, pods in _grouped(hanging):
        pod = pods[0]
        yield Found(subject, "pods that end when they are deleted",
                    _got(pods, lambda one: f"Terminating for {span(scene.now - (one.deleting or scene.now))}"),
                    f"look at its node {pod.node}; then `kubectl -n {pod.namespace} delete pod {pod.name} "
                    "--force`")  # fmt: skip


@health("kubernetes.pod-restarts", Area.KUBERNETES, "no pod restarts often", Severity.WARNING, reads=READS)
def pod_restarts(scene: Scene) -> Iterator[Found]:
    """Find pods whose containers were started again and again, the last time not long ago."""
    limits = scene.lab.health.limits.kubernetes
    window = timedelta(hours=limits.restart_hours)

    def often(pod: PodHealth) -> bool:
        recent = pod.restarted is not None and scene.now - pod.restarted <= window
        return recent and pod.restarts >= limits.restarts and state_of(pod) is not PodState.CRASHES

    restarting = sorted(filter(often, seen(scene).pods), key=lambda pod: -pod.restarts)
    for subject, pods in _grouped(iter(restarting)):
        pod = pods[0]
        yield Found(subject, f"fewer than {limits.restarts} restarts, or none within {limits.restart_hours} hours",
                    _got(pods, lambda one: f"{one.restarts} restarts, the last "
                         f"{ago(one.restarted or scene.now, scene.now)}"),
                    f"`kubectl -n {pod.namespace} logs {pod.name} -p`; OOMKilled in `{_describe(pod)}` means that it "
                    "needs more memory")  # fmt: skip


@health("kubernetes.pod-evicted", Area.KUBERNETES, "no pods are left that a node gave up", Severity.INFO, reads=READS)
def pod_evicted(scene: Scene) -> Iterator[Found]:
    """Find what is left of pods that were evicted or lost their node: a sign of a node without room."""
    for subject, pods in _grouped(_in(scene, PodState.LEFT)):
        nodes = listed(dict.fromkeys(pod.node for pod in pods if pod.node)) or "no node"
        why = f": {pods[0].message}" if pods[0].message else ""
        yield Found(subject, "no pods that were given up", f"{len(pods)} {pods[0].status} on {nodes}{why}",
                    f"look at the room of {nodes}; then `kubectl -n {pods[0].namespace} delete pods --field-selector "
                    "status.phase=Failed`")  # fmt: skip


@health("kubernetes.replicas", Area.KUBERNETES, "nothing is short of replicas", Severity.ERROR, reads=READS)
def replicas(scene: Scene) -> Iterator[Found]:
    """Find what is short of replicas for long, unless a finding about its pods says why."""
    facts = seen(scene)
    told = {pod.subject for pod in _in(scene, PodState.CRASHES, PodState.IMAGE, *_WAITS)}
    for workload in facts.workloads:
        missing = workload.wanted - workload.ready
        if workload.kind == "DaemonSet":  # it cannot be on a node that is down
            missing -= sum(pod.node in facts.down for pod in facts.pods_of(workload.subject) if pod.ready < pod.total)
        if missing <= 0 or workload.subject in told or _short_for(scene, workload) <= _stuck(scene):
            continue
        why = f": {workload.message}" if workload.message else ""
        plural = workload.kind.lower()
        yield Found(workload.subject, count(workload.wanted, "ready replica"), f"{workload.ready}{why}",
                    f"`kubectl -n {workload.namespace} describe {plural} {workload.name}`, and its pods",
                    Severity.WARNING if workload.ready else None)  # fmt: skip


def _short_for(scene: Scene, workload: Workload) -> timedelta:
    """How long a workload has been short: as it says, else as long as its youngest pod that is not ready."""
    if workload.since is not None:
        return scene.now - workload.since
    waiting = [_age(pod, scene.now) for pod in seen(scene).pods_of(workload.subject)
               if pod.ready < pod.total or pod.deleting is not None]  # fmt: skip
    return min(waiting) if waiting else scene.now - (workload.created or scene.now)


def _pillars(scene: Scene) -> Iterator[tuple[str, Workload]]:
    """Yield what everything else depends on, and its role: DNS, ingress, single sign-on."""
    facts, told = seen(scene), set()
    for service in facts.services:
        role = ""
        if (service.namespace, service.name) == ("kube-system", "kube-dns"):
            role = "DNS"
        elif str(scene.lab.ingress) in service.addresses:
            role = "ingress"
        for subject in service.owners if role else ():
            workload = facts.workload(subject)
            if workload is not None and subject not in told:
                told.add(subject)
                yield role, workload
    for workload in facts.workloads:
        if workload.subject not in told and any(_is_sso(image) for image in workload.images):
            yield "single sign-on", workload


def _is_sso(image: str) -> bool:
    words = image.partition("@")[0].split("/")
    names = {word.partition(":")[0] for word in words}
    return not names.isdisjoint(_SSO)


_ALONE = ("for two it needs its database and its sessions (Redis) outside; else accept it under health.ignore in the "
          "lab file")  # fmt: skip


@health("kubernetes.single-replica", Area.KUBERNETES, "SSO, DNS and ingress have more than one replica", Severity.INFO,
        reads=READS)  # fmt: skip
def single_replica(scene: Scene) -> Iterator[Found]:
    """Find single replicas of what everything depends on: their node's restart is an outage of all."""
    if len(scene.lab.vms) < 2:
        return
    for role, workload in _pillars(scene):
        if workload.kind != "DaemonSet" and workload.wanted == 1:
            scale = f"`kubectl -n {workload.namespace} scale {workload.kind.lower()} {workload.name} --replicas=2`"
            remedy = {"DNS": scale, "single sign-on": _ALONE}.get(role, "set its replicas to 2 in Git")
            yield Found(workload.subject, f"two replicas or more of {role}", "one", remedy)


@health(
    "kubernetes.spread",
    Area.KUBERNETES,
    "SSO, DNS and ingress are on more than one host",
    Severity.WARNING,
    reads=READS,
)
def spread(scene: Scene) -> Iterator[Found]:
    """Find several replicas of one pillar on one physical host: they are lost together."""
    facts = seen(scene)
    if len(scene.lab.hosts) < 2:
        return
    for role, workload in _pillars(scene):
        nodes = [pod.node for pod in facts.pods_of(workload.subject) if pod.node and state_of(pod) is PodState.FINE]
        hosts = {host_of(scene, node) for node in nodes}
        if len(nodes) > 1 and len(hosts) == 1:
            yield Found(workload.subject, f"replicas of {role} on two Proxmox hosts or more",
                        f"all {len(nodes)} on {hosts.pop()} ({listed(sorted(set(nodes)))})",
                        "spread them in Git: topologySpreadConstraints with topologyKey topology.kubernetes.io/zone; "
                        f"for now: `kubectl -n {workload.namespace} rollout restart {workload.kind.lower()} "
                        f"{workload.name}`")  # fmt: skip
