"""Jobs: pods that run to their end, counted exactly, tried again with back-off."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import ApiError, Event, Object

from .framework import Controller
from .objects import (
    annotations_of,
    condition,
    controller_pods,
    finalizers_of,
    is_active,
    is_deleting,
    is_finished,
    is_ready,
    is_true,
    labels_of,
    name_of,
    namespace_of,
    owner_key,
    pod_from,
    spec_of,
    status_of,
    uid_of,
    with_condition,
    without_zeros,
)

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
BACKOFF, LONGEST_BACKOFF = 10.0, 600.0


class Jobs(Controller):
    """Run a Job's pods until enough have succeeded or too many have failed."""

    name = "job-controller"
    watches = ("jobs.batch", "pods")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a pod to its Job."""
        if event.resource == "pods":
            return owner_key(event.object, "Job")
        return [(namespace_of(event.object), name_of(event.object))]

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Count what ended, decide whether the Job has, and start what is missing."""
        namespace, name = key
        job = self.api.get("jobs.batch", name, namespace)
        if job is None:
            self._release_orphans(namespace, name)
            return None
        if is_over(job):
            self._release(self._pods(job))
            return self._expire(job)
        status = self._count(job)
        verdict = self._verdict(job, status)
        if verdict is not None:
            self._stop(job)
            self._write(job, {**status, "conditions": verdict})
            self._release(self._pods(job))
            return None
        wait = self._fill(job, status)
        self._write(job, status)
        self._release([p for p in self._pods(job) if is_finished(p) or is_deleting(p)])
        return self._next(job, status, wait)

    def _pods(self, job: Object) -> list[Object]:
        return controller_pods(self.api.list("pods", namespace_of(job)), job)

    def _release_orphans(self, namespace: str, name: str) -> None:
        """Take the tracking finalizer from pods whose Job is gone, or they would stay for ever."""
        pods = self.api.list("pods", namespace)
        self._release([p for p in pods if owner_key(p, "Job") == [(namespace, name)]])

    def _release(self, pods: list[Object]) -> None:
        for pod in pods:
            if TRACKING in finalizers_of(pod):
                left = [f for f in finalizers_of(pod) if f != TRACKING]
                self.api.patch("pods", name_of(pod), {"metadata": {"finalizers": left}}, namespace_of(pod))

    def _count(self, job: Object) -> dict[str, Any]:
        """Return the status with the pods counted that ended since the last time."""
        old, pods = status_of(job), self._pods(job)
        fresh = [p for p in pods if TRACKING in finalizers_of(p) and (is_finished(p) or is_deleting(p))]
        good = [p for p in fresh if status_of(p).get("phase") == "Succeeded"]
        active = [p for p in pods if is_active(p)]
        status = {
            **old,
            "startTime": old.get("startTime") or (None if spec_of(job).get("suspend") else self.now()),
            "succeeded": int(old.get("succeeded", 0)) + len(good),
            "failed": int(old.get("failed", 0)) + len(fresh) - len(good),
            "active": len(active),
            "ready": sum(is_ready(p) for p in active),
            "terminating": sum(is_deleting(p) and not is_finished(p) for p in pods),
        }
        if is_indexed(job):
            known = parse_indexes(old.get("completedIndexes", ""))
            status["completedIndexes"] = write_indexes(known | {index_of(p) for p in good})
            status["succeeded"] = len(known | {index_of(p) for p in good})
        return status

    def _verdict(self, job: Object, status: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Return the conditions of a Job that has ended; None while it goes on."""
        failure = self._failure(job, status)
        if failure is not None:
            reason, message = failure
            self.events.warning(job, reason, message)
            return self._ended(job, ("FailureTarget", "Failed"), reason, message)
        if not self._is_complete(job, status):
            return None
        status["completionTime"] = self.now()
        self.events.normal(job, "Completed", "Job completed")
        text = "Reached expected number of succeeded pods"
        return self._ended(job, ("SuccessCriteriaMet", "Complete"), "CompletionsReached", text)

    def _failure(self, job: Object, status: dict[str, Any]) -> tuple[str, str] | None:
        limit, deadline = int(spec_of(job).get("backoffLimit", 6)), spec_of(job).get("activeDeadlineSeconds")
        if status["failed"] > limit:
            return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if deadline is not None and self._active_for(job, status) >= int(deadline):
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        return None

    def _active_for(self, job: Object, status: dict[str, Any]) -> float:
        started = status.get("startTime")
        return self.ages.of((uid_of(job), "start"), started, date=started) if started else 0.0

    def _is_complete(self, job: Object, status: dict[str, Any]) -> bool:
        completions = spec_of(job).get("completions")
        if completions is None:
            return bool(status["succeeded"] > 0 and status["active"] == 0)
        return bool(status["succeeded"] >= int(completions))

    def _ended(self, job: Object, kinds: tuple[str, str], reason: str, text: str) -> list[dict[str, Any]]:
        found, now = status_of(job).get("conditions") or [], self.now()
        for kind in kinds:
            found = with_condition(found, kind, "True", now, reason=reason, message=text, lastProbeTime=now)
        return found

    def _stop(self, job: Object) -> None:
        for pod in self._pods(job):
            if is_active(pod):
                self.api.delete("pods", name_of(pod), namespace_of(pod))

    def _fill(self, job: Object, status: dict[str, Any]) -> float | None:
        """Start missing pods, or remove those of a suspended Job; return how long back-off still holds."""
        if spec_of(job).get("suspend"):
            self._stop(job)
            return None
        missing = self._missing(job, status)
        if not missing:
            return None
        wait = self._backoff(job, status)
        if wait > 0:
            return wait
        for index in missing:
            self._create(job, index)
        status["active"] = int(status["active"]) + len(missing)
        return None

    def _missing(self, job: Object, status: dict[str, Any]) -> list[int]:
        """Return the completion indexes (0 for a Job without them) of the pods to start."""
        spec = spec_of(job)
        parallel, completions = int(spec.get("parallelism", 1)), spec.get("completions")
        if completions is None:
            return [] if status["succeeded"] else [0] * max(0, parallel - int(status["active"]))
        left = max(0, min(parallel, int(completions) - int(status["succeeded"])) - int(status["active"]))
        if not is_indexed(job):
            return [0] * left
        taken = {index_of(p) for p in self._pods(job) if is_active(p)}
        taken |= parse_indexes(status.get("completedIndexes", ""))
        return [i for i in range(int(completions)) if i not in taken][:left]

    def _backoff(self, job: Object, status: dict[str, Any]) -> float:
        failed = int(status["failed"])
        if not failed:
            return 0.0
        pause = min(LONGEST_BACKOFF, BACKOFF * 2 ** min(failed - 1, 10))
        return float(pause - self.ages.of((uid_of(job), "failed"), failed))

    def _create(self, job: Object, index: int) -> None:
        extra: dict[str, Any] = {"generateName": f"{name_of(job)}-", "finalizers": [TRACKING]}
        if is_indexed(job):
            extra["annotations"] = {INDEX: str(index)}
            extra["labels"] = {INDEX: str(index)}
            extra["generateName"] = f"{name_of(job)}-{index}-"
        try:
            made = self.api.create("pods", pod_from(spec_of(job)["template"], job, **extra))
        except ApiError as error:
            self.events.warning(job, "FailedCreate", f"Error creating: {error}")
            raise
        self.events.normal(job, "SuccessfulCreate", f"Created pod: {name_of(made)}")

    def _write(self, job: Object, status: dict[str, Any]) -> None:
        pods = self._pods(job)
        active = [p for p in pods if is_active(p)]
        status = {**status, "active": len(active), "ready": sum(is_ready(p) for p in active)}
        status["terminating"] = sum(is_deleting(p) and not is_finished(p) for p in pods)
        status["uncountedTerminatedPods"] = {}
        kept = without_zeros(status, keep=("ready", "terminating", "uncountedTerminatedPods"))
        if kept != status_of(job):
            self.api.update_status("jobs.batch", {**job, "status": kept})

    def _expire(self, job: Object) -> float | None:
        """Delete a Job that ended ttlSecondsAfterFinished ago, or say when that will be."""
        ttl = spec_of(job).get("ttlSecondsAfterFinished")
        if ttl is None or is_deleting(job):
            return None
        ended = condition(job, "Complete") or condition(job, "Failed") or {}
        left = int(ttl) - self.ages.of((uid_of(job), "over"), True, date=ended.get("lastTransitionTime"))
        if left > 0:
            return left
        self.api.delete("jobs.batch", name_of(job), namespace_of(job))
        return None

    def _next(self, job: Object, status: dict[str, Any], wait: float | None) -> float | None:
        deadline = spec_of(job).get("activeDeadlineSeconds")
        if deadline is None or spec_of(job).get("suspend"):
            return wait
        left = max(0.0, int(deadline) - self._active_for(job, status))
        return left if wait is None else min(left, wait)


def is_over(job: Object) -> bool:
    """Tell whether a Job is complete or has failed."""
    return is_true(job, "Complete") or is_true(job, "Failed")


def is_indexed(job: Object) -> bool:
    """Tell whether each completion has its own index."""
    return bool(spec_of(job).get("completionMode") == "Indexed")


def index_of(pod: Object) -> int:
    """Return the completion index of a pod."""
    return int(annotations_of(pod).get(INDEX) or labels_of(pod).get(INDEX) or 0)


def parse_indexes(text: str) -> set[int]:
    """Read completed indexes such as `0,2-4`."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def write_indexes(indexes: set[int]) -> str:
    """Write completed indexes with their runs joined."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
