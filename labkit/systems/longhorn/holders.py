"""The workloads that mount claims: read, scaled down while a claim is switched, and up again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from labkit.errors import StepFailed, SystemDown
from labkit.facts.restore import HELD, Holder, HolderFacts
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.flux.parse import pod_problem
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.waiting import ask_patiently
from labkit.systems.kubernetes import Cluster
from labkit.systems.objects import list_objects

Item = Mapping[str, Any]
_ROOTS = {"Deployment": "/apis/apps/v1", "StatefulSet": "/apis/apps/v1", "DaemonSet": "/apis/apps/v1",
          "CronJob": "/apis/batch/v1"}  # fmt: skip
_PLURALS = {kind: f"{kind.lower()}s" for kind in _ROOTS}
_FLUX = "kustomize.toolkit.fluxcd.io"
_HELM = "meta.helm.sh/release-"
_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_MOST_SPACES = 8
"""Beyond so many namespaces one list of all pods is less to ask."""
_DOWN_SECONDS = 600.0
_UP_SECONDS = 900.0
_OWNED = ("ReplicaSet", "StatefulSet", "DaemonSet")


def read_holders(lab: Lab, access: Access) -> HolderFacts:
    """Return the workloads that mount claims; none where no cluster answers."""
    try:
        cluster = open_cluster(lab, access)
    except SystemDown:
        return HolderFacts(read_at=datetime.now(UTC))
    return HolderFacts(holders=tuple(find_holders(cluster)), read_at=datetime.now(UTC))


def find_holders(cluster: Cluster) -> Iterator[Holder]:
    """Yield the same of a cluster that is open already."""
    with ThreadPoolExecutor(max_workers=len(_ROOTS) + 1) as pool:
        pods = pool.submit(_pods_with_claims, cluster)
        lists = {kind: pool.submit(_all, cluster, kind) for kind in _ROOTS}
        alive = pods.result()
        for kind, future in lists.items():
            for item in future.result():
                mine = [pod for pod in alive if belongs(pod, item, kind)]
                if (holder := _holder(kind, item, mine)).claims:
                    yield holder
        yield from _of_nobody(alive)


def _pods_with_claims(cluster: Cluster) -> list[dict[str, Any]]:
    """The pods that have not ended, of those namespaces only that have a claim."""
    claims = list_objects(cluster, "/api/v1/persistentvolumeclaims")
    spaces = sorted({str(one["metadata"]["namespace"]) for one in claims})
    few = len(spaces) <= _MOST_SPACES
    paths = [f"/api/v1/namespaces/{space}/pods" for space in spaces] if few else ["/api/v1/pods"]
    return [pod for path in paths for pod in cluster.items(path, fieldSelector=_ALIVE)]


def _all(cluster: Cluster, kind: str) -> list[dict[str, Any]]:
    return list(list_objects(cluster, f"{_ROOTS[kind]}/{_PLURALS[kind]}"))


def _holder(kind: str, item: Item, pods: Iterable[Item]) -> Holder:
    metadata, spec = item["metadata"], item.get("spec") or {}
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    template = (spec.get("jobTemplate") or {}).get("spec") if kind == "CronJob" else spec
    pod = ((template or {}).get("template") or {}).get("spec") or {}
    running = list(pods)
    claims = {*_claims(pod), *(name for one in running for name in _claims(one.get("spec") or {})),
              *(_templated(item) if kind == "StatefulSet" else ())}  # fmt: skip
    owner, release = labels.get(f"{_FLUX}/name"), notes.get(f"{_HELM}name")
    return Holder(
        kind=kind,
        namespace=str(metadata["namespace"]),
        name=str(metadata["name"]),
        replicas=_replicas(kind, spec, item.get("status") or {}),
        running=len(running),
        ready=sum(map(_is_ready, running)),
        claims=tuple(sorted(claims)),
        held=str(notes.get(HELD) or ""),
        kustomization=f"{labels.get(f'{_FLUX}/namespace')}/{owner}" if owner else "",
        release=f"{notes.get(f'{_HELM}namespace')}/{release}" if release else "",
    )


def _replicas(kind: str, spec: Item, status: Item) -> int:
    if kind == "CronJob":
        return 0 if spec.get("suspend") else 1
    if kind == "DaemonSet":
        return int(status.get("desiredNumberScheduled") or 0)
    return 1 if spec.get("replicas") is None else int(spec["replicas"])


def _claims(pod: Item) -> Iterator[str]:
    for volume in pod.get("volumes") or ():
        if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            yield str(name)


def _templated(item: Item) -> Iterator[str]:
    """The claims of a StatefulSet, also while it is scaled down."""
    spec, name = item.get("spec") or {}, item["metadata"]["name"]
    held = (item["metadata"].get("annotations") or {}).get(HELD, "")
    count = max(_replicas("StatefulSet", spec, {}), int(held) if str(held).isdecimal() else 0)
    first = int((spec.get("ordinals") or {}).get("start") or 0)
    for template in spec.get("volumeClaimTemplates") or ():
        for ordinal in range(first, first + count):
            yield f"{template['metadata']['name']}-{name}-{ordinal}"


def _of_nobody(pods: Iterable[Item]) -> Iterator[Holder]:
    """Yield pods of Jobs and pods that no controller made: nothing scales them down."""
    for pod in pods:
        owners = {str(one.get("kind")) for one in pod["metadata"].get("ownerReferences") or ()}
        claims = tuple(sorted(set(_claims(pod.get("spec") or {}))))
        if claims and not owners & set(_OWNED) and not _is_cron(pod):
            kind = "Job" if "Job" in owners else "Pod"
            name = next((str(one["name"]) for one in pod["metadata"].get("ownerReferences") or ()),
                        str(pod["metadata"]["name"]))  # fmt: skip
            yield Holder(kind=kind, namespace=str(pod["metadata"]["namespace"]), name=name, replicas=1, running=1,
                         ready=int(_is_ready(pod)), claims=claims)  # fmt: skip


def _is_cron(pod: Item) -> bool:
    """Whether a pod is of a Job that a CronJob made: those are named `<cronjob>-<minutes>`."""
    owner = next((one for one in pod["metadata"].get("ownerReferences") or () if one.get("kind") == "Job"), None)
    return owner is not None and str(owner["name"]).rpartition("-")[2].isdecimal()


def belongs(pod: Item, item: Item, kind: str) -> bool:
    """Tell whether a pod is of a workload: by its selector, or by the name of a CronJob's Job."""
    if pod["metadata"].get("namespace") != item["metadata"].get("namespace"):
        return False
    if kind == "CronJob":
        owners = [str(o["name"]) for o in pod["metadata"].get("ownerReferences") or () if o.get("kind") == "Job"]
        return any(name.rpartition("-")[0] == item["metadata"]["name"] and _is_cron(pod) for name in owners)
    selector = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    labels = pod["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _is_ready(pod: Item) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _is_alive(pod: Item) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def apply_down(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Scale a workload down and wait until its pods are gone; an annotation remembers how many there were.

    Raises:
        StepFailed: nothing scales it, or its pods stay.
    """
    cluster = open_cluster(lab, access)
    kind, space, name = change.target.split("/")
    path = _path(kind, space, name)
    item = cluster.get(path)
    if HELD not in (item["metadata"].get("annotations") or {}):
        had = str(_replicas(kind, item.get("spec") or {}, {}))
        less = {"suspend": True} if kind == "CronJob" else {"replicas": 0}
        item = cluster.patch(path, {"metadata": {"annotations": {HELD: had}}, "spec": less})
    told = [""]

    def probe() -> bool | None:
        left = ask_patiently(lambda: _pods(cluster, space, item, kind))
        if left is None:
            return None
        text = f"waits for {', '.join(left)} to end"
        if left and text != told[0]:
            told[0] = text
            step.say(text)
        return None if left else True

    access.wait(probe, what=f"{kind} {space}/{name} scaled down", deadline=_DOWN_SECONDS, every=1.0,
                last=lambda: told[0], causes="look at its pods: kubectl describe pod; a finalizer or a silent node "
                "keeps a pod")  # fmt: skip
    return f"no pod of {name} runs"


def _pods(cluster: Cluster, space: str, item: Item, kind: str) -> list[str]:
    found = cluster.items(f"/api/v1/namespaces/{space}/pods")
    return [str(pod["metadata"]["name"]) for pod in found if _is_alive(pod) and belongs(pod, item, kind)]


def _path(kind: str, space: str, name: str) -> str:
    if kind not in ("Deployment", "StatefulSet", "CronJob"):
        raise StepFailed(f"{kind} {space}/{name}: expected a workload that can be scaled down, got one that cannot",
                         next_step="end it yourself, then run again")  # fmt: skip
    return f"{_ROOTS[kind]}/namespaces/{space}/{_PLURALS[kind]}/{name}"


def apply_up(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Give a workload back as many replicas as it had, and wait until they are ready.

    Raises:
        StepFailed: they do not come; says why the pod does not run.
    """
    cluster = open_cluster(lab, access)
    kind, space, name = change.target.split("/")
    path = _path(kind, space, name)
    notes = cluster.get(path)["metadata"].get("annotations") or {}
    wanted = int(notes[HELD]) if str(notes.get(HELD, "")).isdecimal() else int(str(change.after["replicas"]))
    more = {"suspend": not wanted} if kind == "CronJob" else {"replicas": wanted}
    cluster.patch(path, {"metadata": {"annotations": {HELD: None}}, "spec": more})
    if kind == "CronJob":
        return f"{name} runs by its schedule again"
    told = [""]

    def probe() -> bool | None:
        seen = ask_patiently(lambda: _standing(cluster, path, kind))
        if seen is None:
            return None
        ready, problem = seen
        text = f"{ready} of {wanted} ready{f': {problem}' if problem else ''}"
        if ready < wanted and text != told[0]:
            told[0] = text
            step.say(text)
        return True if ready >= wanted else None

    access.wait(probe, what=f"{kind} {space}/{name}", deadline=_UP_SECONDS, every=1.0, last=lambda: told[0],
                causes="look at its pods: kubectl describe pod")  # fmt: skip
    return f"{wanted} of {wanted} ready"


def _standing(cluster: Cluster, path: str, kind: str) -> tuple[int, str]:
    """Return how many pods are ready, of the current form, and why others are not."""
    item = cluster.get(path)
    status, space = item.get("status") or {}, item["metadata"]["namespace"]
    current = int(status.get("observedGeneration") or 0) >= int(item["metadata"].get("generation") or 0)
    ready = int(status.get("readyReplicas") or 0) if current else 0
    pods = [pod for pod in cluster.items(f"/api/v1/namespaces/{space}/pods") if belongs(pod, item, kind)]
    return ready, next(filter(None, map(pod_problem, pods)), "")
