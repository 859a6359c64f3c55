"""Jobs and CronJobs."""

import asyncio

import pytest

from labkit.twin.controllers import Behaviour, Behaviours
from labkit.twin.controllers.cronjob import job_from
from labkit.twin.kube.door import ApiError


def job(name="once", pod=None, **spec):
    container = {"name": "main", "image": "registry.example/job:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container], **(pod or {})}}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }  # fmt: skip


FAILING = Behaviours(default=Behaviour(exit_code=1))


@pytest.mark.parametrize(
    ("spec", "succeeded"),
    [({}, 1), ({"completions": 4, "parallelism": 2}, 4), ({"completions": 3, "completionMode": "Indexed"}, 3)],
)
def test_a_job_completes(running, spec, succeeded):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("jobs.batch", job(**spec))
            await cluster.until(lambda: cluster.condition(cluster.get("jobs.batch", "once"), "Complete") == "True")
            status = cluster.status("jobs.batch", "once")
            assert (status["succeeded"], status.get("active", 0), status.get("failed", 0)) == (succeeded, 0, 0)
            assert status["completionTime"]
            await cluster.until(lambda: all("finalizers" not in p["metadata"] for p in cluster.pods()))
            assert {p["status"]["phase"] for p in cluster.pods()} == {"Succeeded"}

    asyncio.run(go())


def test_indexed_pods_carry_their_index(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("jobs.batch", job(completions=2, parallelism=2, completionMode="Indexed"))
            await cluster.until(lambda: cluster.status("jobs.batch", "once").get("completedIndexes") == "0,1" or
                                cluster.status("jobs.batch", "once").get("completedIndexes") == "0-1")  # fmt: skip
            labels = {p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for p in cluster.pods()}
            assert labels == {"0", "1"}

    asyncio.run(go())


def test_a_job_that_fails_too_often_is_given_up(running):
    async def go():
        async with running(1, behaviours=FAILING) as cluster:
            cluster.api.create("jobs.batch", job(backoffLimit=2))
            await cluster.until(lambda: cluster.condition(cluster.get("jobs.batch", "once"), "Failed") == "True")
            found = cluster.get("jobs.batch", "once")
            assert cluster.condition(found, "Failed", "reason") == "BackoffLimitExceeded"
            assert found["status"]["failed"] == 3
            assert len(cluster.pods()) == 3

    asyncio.run(go())


def test_a_job_beyond_its_deadline_fails_and_its_pods_go(running):
    async def go():
        async with running(1, behaviours=Behaviours(default=Behaviour(task=10_000))) as cluster:
            cluster.api.create("jobs.batch", job(activeDeadlineSeconds=30))
            await cluster.until(
                lambda: cluster.condition(cluster.get("jobs.batch", "once"), "Failed", "reason") == "DeadlineExceeded"
            )
            await cluster.until(lambda: not cluster.pods())

    asyncio.run(go())


def test_a_finished_job_goes_after_its_time(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("jobs.batch", job(ttlSecondsAfterFinished=20))
            await cluster.until(lambda: cluster.api.get("jobs.batch", "once", "default") is None)
            await cluster.until(lambda: not cluster.pods())

    asyncio.run(go())


def test_a_suspended_job_waits(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("jobs.batch", job(suspend=True))
            await cluster.settle(10)
            assert not cluster.pods()
            cluster.api.patch("jobs.batch", "once", {"spec": {"suspend": False}}, "default")
            await cluster.until(lambda: cluster.condition(cluster.get("jobs.batch", "once"), "Complete") == "True")

    asyncio.run(go())


def test_pods_of_a_deleted_job_are_let_go(running):
    async def go():
        async with running(1, behaviours=Behaviours(default=Behaviour(task=10_000))) as cluster:
            cluster.api.create("jobs.batch", job())
            await cluster.until(lambda: [p for p in cluster.pods() if p["status"]["phase"] == "Running"])
            cluster.api.delete("jobs.batch", "once", "default")
            await cluster.until(lambda: not cluster.pods())

    asyncio.run(go())


def cron(**spec):
    return {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job()["spec"]}, **spec},
    }  # fmt: skip


def test_the_job_of_a_moment_has_one_name(running):
    async def go():
        async with running(1) as cluster:
            made = cluster.api.create("cronjobs.batch", cron(suspend=True))
            first, again = job_from(made, 1_800_000_000.0), job_from(made, 1_800_000_030.0)
            assert first["metadata"]["name"] == again["metadata"]["name"] == "tick-30000000"
            assert first["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
            cluster.api.create("jobs.batch", first)
            await cluster.until(lambda: cluster.status("cronjobs.batch", "tick").get("active"))
            await cluster.until(lambda: cluster.status("cronjobs.batch", "tick").get("lastSuccessfulTime"))
            assert not cluster.status("cronjobs.batch", "tick").get("active")

    asyncio.run(go())


def test_a_missed_moment_is_made_up_for_and_old_jobs_go(running):
    async def go():
        async with running(1) as cluster:
            made = cluster.api.create("cronjobs.batch", cron(suspend=True, successfulJobsHistoryLimit=1))
            for moment in (1_800_000_000.0, 1_800_000_060.0):
                cluster.api.create("jobs.batch", job_from(made, moment))
            await cluster.until(lambda: [j["metadata"]["name"] for j in cluster.api.list("jobs.batch")] in
                                (["tick-30000000"], ["tick-30000001"]))  # fmt: skip
            missed = {"status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}}
            cluster.api.patch("cronjobs.batch", "tick", missed, "default", subresource="status")
            cluster.api.patch("cronjobs.batch", "tick", {"spec": {"suspend": False}}, "default")
            await cluster.until(
                lambda: cluster.status("cronjobs.batch", "tick")["lastScheduleTime"] != "2026-01-01T00:00:00Z"
            )

    asyncio.run(go())


def test_a_schedule_that_cannot_be_read_is_said(running):
    async def go():
        async with running() as cluster:
            try:
                cluster.api.create("cronjobs.batch", cron(schedule="61 * * * *"))
            except ApiError as error:
                refused = str(error)
                assert "spec.schedule" in refused
            else:
                await cluster.until(lambda: cluster.events("UnparseableSchedule"))

    asyncio.run(go())
