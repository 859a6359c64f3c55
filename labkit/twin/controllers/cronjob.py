"""CronJobs: a Job at each moment of the schedule."""

from __future__ import annotations

import json
from typing import Any

from labkit.cron import parse_cron
from labkit.twin.kube.door import ApiError, Event, Object

from .events import reference
from .framework import Controller
from .job import is_over
from .objects import (
    annotations_of,
    is_deleting,
    is_true,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_key,
    owner_of,
    owner_reference,
    spec_of,
    stamp,
    status_of,
    uid_of,
    unstamp,
)

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class CronJobs(Controller):
    """Start Jobs on time, keep a few finished ones, respect concurrencyPolicy and suspend."""

    name = "cronjob-controller"
    watches = ("cronjobs.batch", "jobs.batch")

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a Job to its CronJob."""
        if event.resource == "jobs.batch":
            return owner_key(event.object, "CronJob")
        return [(namespace_of(event.object), name_of(event.object))]

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Start the Job that is due and return when the next one will be."""
        namespace, name = key
        cron = self.api.get("cronjobs.batch", name, namespace)
        if cron is None or is_deleting(cron):
            return None
        jobs = self._jobs(cron)
        self._trim(cron, jobs)
        status = self._status(cron, jobs)
        wait = None if spec_of(cron).get("suspend") else self._start_due(cron, jobs, status)
        if status != status_of(cron):
            self.api.update_status("cronjobs.batch", {**cron, "status": status})
        return wait

    def _jobs(self, cron: Object) -> list[Object]:
        found = self.api.list("jobs.batch", namespace_of(cron))
        return [j for j in found if (owner_of(j) or {}).get("uid") == uid_of(cron)]

    def _status(self, cron: Object, jobs: list[Object]) -> dict[str, Any]:
        status = dict(status_of(cron))
        status["active"] = [reference(j) for j in jobs if not is_over(j)]
        ends = [status_of(j)["completionTime"] for j in jobs if is_true(j, "Complete")]
        if ends:
            status["lastSuccessfulTime"] = max([*ends, status.get("lastSuccessfulTime", "")])
        return {k: v for k, v in status.items() if v}

    def _start_due(self, cron: Object, jobs: list[Object], status: dict[str, Any]) -> float | None:
        try:
            schedule = parse_cron(spec_of(cron)["schedule"], spec_of(cron).get("timeZone") or "")
        except (ValueError, KeyError) as error:
            self.events.warning(cron, "UnparseableSchedule", f"unparseable schedule: {error}")
            return None
        now = self.clock.now()
        last = unstamp(status.get("lastScheduleTime") or meta(cron)["creationTimestamp"])
        due = None
        for _ in range(100):
            following = schedule.after(last if due is None else due)
            if following is None or following > now:
                break
            due = following
        else:
            due = max(due or 0.0, now - 60)
        if due is not None and not self._is_too_late(cron, due):
            self._start(cron, jobs, due, status)
        following = schedule.after(now)
        return None if following is None else (following - now) / self.clock.scale

    def _is_too_late(self, cron: Object, due: float) -> bool:
        limit = spec_of(cron).get("startingDeadlineSeconds")
        return limit is not None and self.clock.now() > due + int(limit) * self.clock.scale

    def _start(self, cron: Object, jobs: list[Object], due: float, status: dict[str, Any]) -> None:
        running, policy = [j for j in jobs if not is_over(j)], spec_of(cron).get("concurrencyPolicy")
        if running and policy == "Forbid":
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.events.normal(cron, "JobAlreadyActive", text)
            return
        if policy == "Replace":
            for job in running:
                self.api.delete("jobs.batch", name_of(job), namespace_of(job))
        status["lastScheduleTime"] = stamp(due)
        try:
            made = self.api.create("jobs.batch", job_from(cron, due))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            return
        kept = [] if policy == "Replace" else status.get("active", [])
        status["active"] = [*kept, reference(made)]
        self.events.normal(cron, "SuccessfulCreate", f"Created job {name_of(made)}")

    def _trim(self, cron: Object, jobs: list[Object]) -> None:
        """Delete the oldest finished Jobs beyond the two history limits."""
        good, bad = [j for j in jobs if is_true(j, "Complete")], [j for j in jobs if is_true(j, "Failed")]
        limits = (("successfulJobsHistoryLimit", 3, good), ("failedJobsHistoryLimit", 1, bad))
        for field, default, found in limits:
            excess = len(found) - int(spec_of(cron).get(field, default))
            for job in sorted(found, key=lambda j: str(status_of(j).get("startTime")))[: max(0, excess)]:
                self.api.delete("jobs.batch", name_of(job), namespace_of(job))
                jobs.remove(job)


def job_from(cron: Object, due: float) -> Object:
    """Build the Job of one moment; its name tells the moment, so that there is only one."""
    template = json.loads(json.dumps(spec_of(cron)["jobTemplate"]))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{name_of(cron)}-{int(due // 60)}",
            "namespace": namespace_of(cron),
            "labels": labels_of(template),
            "annotations": {**annotations_of(template), SCHEDULED_AT: stamp(due)},
            "ownerReferences": [owner_reference(cron)],
        },
        "spec": spec_of(template),
    }
