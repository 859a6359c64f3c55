"""RecurringJobs: a CronJob for each, and what its runs do to the volumes that it is for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import is_deleting, labels_of, name_of, owner_of, spec_of, status_of, uid_of
from labkit.twin.kube.door import ApiError, Event, Object
from labkit.twin.longhorn.api import Actions
from labkit.twin.longhorn.hub import Hub, is_attached
from labkit.twin.longhorn.names import (
    BACKUP_VOLUME_LABEL,
    BACKUPS,
    GROUP_PREFIX,
    JOB_INFO,
    JOB_PREFIX,
    JOBS,
    NAMESPACE,
    SNAPSHOTS,
    SYSTEM_BACKUPS,
    VOLUMES,
    selection_labels,
)

_CRON, _RUN = "cronjobs.batch", "jobs.batch"
_JOB_LABEL = "recurring-job.longhorn.io"
_PATIENCE = 600
BACKUP_TASKS = ("backup", "backup-force-create")


class RecurringJobs(Controller):
    """Keep the CronJobs and do what their Jobs are for; keys are (resource, name)."""

    name = "longhorn-recurring-job"
    watches = (JOBS, _CRON, _RUN)
    width = 16

    def __init__(self, hub: Hub, actions: Actions) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self.actions = actions
        self._done: set[str] = set()

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Map a CronJob to its RecurringJob; take Jobs of Longhorn's namespace only."""
        obj = event.object
        if event.resource == JOBS:
            return [(JOBS, name_of(obj))]
        if obj["metadata"].get("namespace") != NAMESPACE or event.type == "DELETED":
            return []
        return [(event.resource, name_of(obj))] if event.resource == _RUN else [(JOBS, name_of(obj))]

    async def reconcile(self, key: tuple[str, str]) -> None:
        """Keep one CronJob, or do one run."""
        resource, name = key
        if resource == JOBS:
            self._keep(name)
            return
        run = self.api.get(_RUN, name, NAMESPACE)
        cron = (owner_of(run or {}) or {}).get("name", "") or labels_of(run or {}).get(_JOB_LABEL, "")
        job = self.hub.get(JOBS, cron) if cron else None
        if run is None or job is None or uid_of(run) in self._done or is_over(run):
            return
        self._done.add(uid_of(run))
        await self.perform(job)

    def _keep(self, name: str) -> None:
        job, cron = self.hub.get(JOBS, name), self.api.get(_CRON, name, NAMESPACE)
        if job is None or is_deleting(job):
            if cron is not None and _JOB_LABEL in labels_of(cron):
                self.api.delete(_CRON, name, NAMESPACE)
            return
        if cron is None:
            self.api.create(_CRON, self._cron_job(job))
        elif spec_of(cron).get("schedule") != spec_of(job)["cron"]:
            self.api.patch(_CRON, name, {"spec": {"schedule": spec_of(job)["cron"]}}, NAMESPACE)
        if not status_of(job).get("ownerID"):
            self.hub.status(JOBS, name, {"ownerID": self.hub.free_node(), "executionCount": 0})

    def _cron_job(self, job: Object) -> Object:
        name, labels = name_of(job), {_JOB_LABEL: name_of(job), "longhorn.io/managed-by": "longhorn-manager"}
        command = ["longhorn-manager", "-d", "recurring-job", name, "--manager-url", "http://longhorn-backend:9500/v1"]
        pod = {"containers": [{"name": name, "image": self.hub.manager_image, "command": command}],
               "restartPolicy": "OnFailure", "serviceAccountName": "longhorn-service-account"}  # fmt: skip
        template = {"metadata": {"labels": labels}, "spec": {"template": {"metadata": {"labels": labels}, "spec": pod}}}
        owner = {"apiVersion": "longhorn.io/v1beta2", "kind": "RecurringJob", "name": name, "uid": uid_of(job)}
        spec = {"schedule": spec_of(job)["cron"], "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 1,
                "failedJobsHistoryLimit": 1, "jobTemplate": template}  # fmt: skip
        return {
            "apiVersion": "batch/v1", "kind": "CronJob", "spec": spec,
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": [owner]},
        }  # fmt: skip

    async def perform(self, job: Object) -> None:
        """Run a job once: for each of its volumes, as many side by side as it says."""
        name, spec = name_of(job), spec_of(job)
        if spec["task"] == "system-backup":
            chosen = {"volumeBackupPolicy": (spec.get("parameters") or {}).get("volume-backup-policy", "")}
            self.hub.create(SYSTEM_BACKUPS, f"{name}-{self.hub.chance('run', name)}", chosen)
        else:
            turns = asyncio.Semaphore(int(spec.get("concurrency") or 1))
            await asyncio.gather(*(self._turn(job, volume, turns) for volume in volumes_of(self.hub, job)))
        again = self.hub.get(JOBS, name)
        if again is not None:
            count = int(status_of(again).get("executionCount") or 0) + 1
            self.hub.status(JOBS, name, {"executionCount": count})

    async def _turn(self, job: Object, volume: Object, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                await self._do(job, volume)
            except ApiError as exc:
                self.log.warning("%s of %s: %s", name_of(job), name_of(volume), exc)

    async def _do(self, job: Object, volume: Object) -> None:
        task, name = spec_of(job)["task"], name_of(volume)
        if not is_attached(volume) and not self.hub.settings.on("allow-recurring-job-while-volume-detached"):
            return
        if task == "filesystem-trim" or not task.startswith(("snapshot", "backup")):
            return
        mine = self._snapshots(name, job)
        if task.startswith("snapshot-") and task != "snapshot-force-create":
            self._trim_snapshots(mine, int(spec_of(job).get("retain") or 0) if task == "snapshot-delete" else 0)
            return
        labels = {**(spec_of(job).get("labels") or {}), "RecurringJob": name_of(job)}
        snapshot = f"{name_of(job)[:8]}-{self.hub.seed.uuid('snapshot', name, self.hub.chance('job snapshot', name))}"
        self.actions.snapshot(name, snapshot, labels)
        await self._until_snapshot(snapshot)
        if task in BACKUP_TASKS:
            info = json.dumps(job_info(self.hub, volume), separators=(",", ":"))
            backup = self.actions.backup(name, snapshot, {**labels, JOB_INFO: info})
            await self._until_backup(backup)
            self._trim_backups(name, job)
            if self.hub.settings.on("auto-cleanup-recurring-job-backup-snapshot"):
                self._trim_snapshots(self._snapshots(name, job), 1)
        else:
            self._trim_snapshots(self._snapshots(name, job), int(spec_of(job).get("retain") or 0))

    async def _until_snapshot(self, name: str) -> None:
        for _ in range(_PATIENCE):
            found = self.hub.get(SNAPSHOTS, name)
            if found is None or status_of(found).get("readyToUse"):
                return
            await self.clock.sleep(1.0)

    async def _until_backup(self, name: str) -> None:
        for _ in range(_PATIENCE):
            found = self.hub.get(BACKUPS, name)
            if found is None or status_of(found).get("state") in ("Completed", "Error"):
                return
            await self.clock.sleep(1.0)

    def _snapshots(self, volume: str, job: Object) -> list[Object]:
        """Return a job's snapshots of a volume, oldest first."""
        here = [s for s in self.hub.list(SNAPSHOTS) if spec_of(s).get("volume") == volume]
        mine = [s for s in here if (spec_of(s).get("labels") or {}).get("RecurringJob") == name_of(job)]
        return sorted(mine, key=_version)

    def _trim_snapshots(self, snapshots: list[Object], keep: int) -> None:
        for found in snapshots[: max(0, len(snapshots) - keep)]:
            self.api.delete(SNAPSHOTS, name_of(found), NAMESPACE)

    def _trim_backups(self, volume: str, job: Object) -> None:
        """Delete a job's oldest complete backups of a volume beyond those that it retains."""
        mine = [
            b for b in self.hub.list(BACKUPS, **{BACKUP_VOLUME_LABEL: volume})
            if status_of(b).get("state") == "Completed" and not is_deleting(b)
            and (status_of(b).get("labels") or {}).get("RecurringJob") == name_of(job)
        ]  # fmt: skip
        mine.sort(key=lambda b: (status_of(b).get("snapshotCreatedAt", ""), _version(b)))
        keep = int(spec_of(job).get("retain") or 0)
        for found in mine[: max(0, len(mine) - keep)]:
            self.api.delete(BACKUPS, name_of(found), NAMESPACE)


def volumes_of(hub: Hub, job: Object) -> list[Object]:
    """Return the volumes that a job is for: by its own label, or by that of one of its groups."""
    wanted = {JOB_PREFIX + name_of(job), *(GROUP_PREFIX + group for group in spec_of(job).get("groups") or ())}
    return [
        v for v in hub.list(VOLUMES)
        if not is_deleting(v) and any(labels_of(v).get(key) == "enabled" for key in wanted)
    ]  # fmt: skip


def job_info(hub: Hub, volume: Object) -> dict[str, Any]:
    """Return what a backup says of its volume's jobs."""
    chosen = selection_labels(labels_of(volume))
    found = {}
    for job in hub.list(JOBS):
        groups = [g for g in spec_of(job).get("groups") or () if chosen.get(GROUP_PREFIX + g) == "enabled"]
        direct = chosen.get(JOB_PREFIX + name_of(job)) == "enabled"
        if groups or direct:
            found[name_of(job)] = {"jobSpec": spec_of(job), "fromGroup": groups, "fromJob": direct}
    return found


def is_over(run: Object) -> bool:
    """Tell whether a Job has ended."""
    return any(
        c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in status_of(run).get("conditions") or ()
    )


def _version(obj: Object) -> tuple[str, int]:
    meta = obj["metadata"]
    return meta["creationTimestamp"], int(meta["resourceVersion"])
