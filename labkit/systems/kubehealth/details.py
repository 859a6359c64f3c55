"""More about what looks wrong, and only about that: why, and since when. The number of questions is limited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel

from labkit.facts.kubehealth import ClaimRow, JobRow, PodHealth, Workload
from labkit.facts.podstates import PodState, state_of
from labkit.systems.kubehealth.values import condition, moment
from labkit.systems.kubernetes import Cluster, KubeError

MOST = 24
"""So many objects of a kind are looked at; where more is wrong, the first ones tell enough."""
YOUNG = timedelta(minutes=5)
_ALWAYS = (PodState.CRASHES, PodState.IMAGE, PodState.LEFT)
_IN_TIME = (PodState.PENDING, PodState.STARTING, PodState.UNREADY)
_PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
Row = TypeVar("Row", bound=BaseModel)
Item = Mapping[str, Any]


@dataclass(frozen=True)
class Closer:
    """Looks closer at rows that look wrong.

    Attributes:
        cluster: the API.
        pool: asks side by side.
        now: what was just made may take its time.
    """

    cluster: Cluster
    pool: ThreadPoolExecutor
    now: datetime

    def pods(self, rows: Iterable[PodHealth]) -> tuple[PodHealth, ...]:
        """Say of pods why they are not as they should be, and since when."""
        return self._look(rows, lambda pod: pod_is_wrong(pod, self.now), pod_path, pod_details)

    def workloads(self, rows: Iterable[Workload]) -> tuple[Workload, ...]:
        """Say of workloads why they are short, and since when."""

        def short(one: Workload) -> bool:
            return one.ready < one.wanted and not self._is_young(one.created)

        return self._look(rows, short, workload_path, workload_details)

    def jobs(self, rows: Iterable[JobRow]) -> tuple[JobRow, ...]:
        """Say of jobs why they failed, and when."""
        return self._look(rows, lambda job: job.status == "Failed", job_path, job_details)

    def claims(self, rows: Iterable[ClaimRow]) -> tuple[ClaimRow, ...]:
        """Say of claims why they wait."""

        def waits(one: ClaimRow) -> bool:
            return one.status == "Pending" and not self._is_young(one.created)

        return self._look(rows, waits, claim_path, claim_details)

    def _is_young(self, created: datetime | None) -> bool:
        return created is not None and self.now - created < YOUNG

    def _look(
        self,
        rows: Iterable[Row],
        wrong: Callable[[Row], bool],
        path: Callable[[Row], str],
        more: Callable[[Item], dict[str, Any]],
    ) -> tuple[Row, ...]:
        every = list(rows)
        chosen = [place for place, row in enumerate(every) if wrong(row)][:MOST]
        answers = self.pool.map(lambda place: _find(self.cluster, path(every[place])), chosen)
        for place, answer in zip(chosen, answers, strict=True):
            if answer is not None:
                every[place] = every[place].model_copy(update=more(answer))
        return tuple(every)


def _find(cluster: Cluster, path: str) -> Any:
    try:
        return cluster.find(path)
    except KubeError:
        return None


def pod_is_wrong(pod: PodHealth, now: datetime) -> bool:
    """Whether more is wanted of a pod; one that was just made may take its time."""
    state = state_of(pod)
    young = pod.created is not None and now - pod.created < YOUNG
    return state in _ALWAYS or (state in _IN_TIME and not young)


def pod_path(pod: PodHealth) -> str:
    """Where a pod is."""
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"


def pod_details(item: Item) -> dict[str, Any]:
    """Why a pod is not as it should be, and since when."""
    status = item.get("status") or {}
    placed, ready = condition(item, "PodScheduled"), condition(item, "Ready")
    begun = placed if placed.get("status") == "False" else ready
    texts = [str(status.get("message") or "")]
    if placed.get("status") == "False":
        texts.append(str(placed.get("message") or ""))
    for kind in ("initContainerStatuses", "containerStatuses"):
        texts += [_said(container) for container in status.get(kind) or ()]
    message = next((text for text in texts if text), "")
    return {"message": _short(message), "since": moment(begun.get("lastTransitionTime"))}


def _said(container: Item) -> str:
    """What a container's state says: how it last ended goes before that it waits."""
    state, last = container.get("state") or {}, container.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    waiting = state.get("waiting") or {}
    name = container.get("name")
    if ended.get("exitCode"):
        why = str(ended.get("message") or "").strip().splitlines()
        reason = ended.get("reason") or "Error"
        return f"{name}: {reason}, exit code {ended['exitCode']}" + (f": {why[-1]}" if why else "")
    return str(waiting.get("message") or "")


def workload_path(workload: Workload) -> str:
    """Where a workload is."""
    return f"/apis/apps/v1/namespaces/{workload.namespace}/{_PLURALS[workload.kind]}/{workload.name}"


def workload_details(item: Item) -> dict[str, Any]:
    """Why a workload is short, and since when."""
    available, failed = condition(item, "Available"), condition(item, "ReplicaFailure")
    told = failed if failed.get("status") == "True" else available if available.get("status") == "False" else {}
    return {"message": _short(str(told.get("message") or "")), "since": moment(told.get("lastTransitionTime"))}


def job_path(job: JobRow) -> str:
    """Where a job is."""
    return f"/apis/batch/v1/namespaces/{job.namespace}/jobs/{job.name}"


def job_details(item: Item) -> dict[str, Any]:
    """Why a job failed, and when."""
    failed = condition(item, "Failed")
    return {"message": _short(str(failed.get("message") or "")), "ended": moment(failed.get("lastTransitionTime"))}


def claim_path(claim: ClaimRow) -> str:
    """Where the events of a claim are: it has no conditions of its own."""
    about = f"involvedObject.kind%3DPersistentVolumeClaim%2CinvolvedObject.name%3D{claim.name}"
    return f"/api/v1/namespaces/{claim.namespace}/events?fieldSelector={about}&limit=50"


def claim_details(answer: Item) -> dict[str, Any]:
    """What was last said about a claim."""
    events = sorted(answer.get("items") or (), key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime")))
    return {"message": _short(str(events[-1].get("message") or "")) if events else ""}


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 240 else f"{line[:237]}..."
