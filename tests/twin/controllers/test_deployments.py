"""Deployments and their ReplicaSets."""

import asyncio

import pytest

REVISION = "deployment.kubernetes.io/revision"


def image(name):
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": name}]}}}}


def replica_sets(cluster):
    return {s["metadata"]["annotations"][REVISION]: s["spec"]["replicas"] for s in cluster.api.list("replicasets.apps")}


def settled(cluster, name):
    deployment = cluster.get("deployments.apps", name)
    status = deployment.get("status", {})
    wanted = deployment["spec"]["replicas"]
    counts = [status.get(k, 0) for k in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return seen and counts == [wanted] * 4


def test_pods_become_ready_on_different_nodes(running, workload):
    async def go():
        async with running(3) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 3))
            await cluster.until(lambda: settled(cluster, "web"))
            assert {p["spec"]["nodeName"] for p in cluster.pods()} == {"n1", "n2", "n3"}
            deployment = cluster.get("deployments.apps", "web")
            assert deployment["metadata"]["annotations"][REVISION] == "1"
            assert cluster.condition(deployment, "Available", "reason") == "MinimumReplicasAvailable"
            assert cluster.condition(deployment, "Progressing", "reason") == "NewReplicaSetAvailable"
            assert cluster.events("ScalingReplicaSet")

    asyncio.run(go())


def test_without_scheduler_and_kubelet_pods_stay_pending(running, workload):
    async def go():
        async with running() as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: cluster.status("deployments.apps", "web").get("replicas") == 2)
            assert [p["status"]["phase"] for p in cluster.pods()] == ["Pending"] * 2
            status = cluster.status("deployments.apps", "web")
            assert status["observedGeneration"] == 1
            assert cluster.condition({"status": status}, "Available", "reason") == "MinimumReplicasUnavailable"

    asyncio.run(go())


@pytest.mark.parametrize(
    ("rolling", "most", "least"),
    [
        ({"maxSurge": 1, "maxUnavailable": 0}, 5, 4),
        ({"maxSurge": 0, "maxUnavailable": 1}, 4, 3),
        ({"maxSurge": "50%", "maxUnavailable": "25%"}, 6, 3),
    ],
)
def test_a_rollout_keeps_within_its_bounds(running, workload, rolling, most, least):
    async def go():
        async with running(2) as cluster:
            strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
            cluster.api.create("deployments.apps", workload("Deployment", "web", 4, strategy=strategy))
            await cluster.until(lambda: settled(cluster, "web"))
            seen = []
            cluster.api.patch("deployments.apps", "web", image("registry.example/app:2"), "default")

            def watch_counts():
                seen.append((sum(replica_sets(cluster).values()), len(cluster.ready(app="web"))))
                return settled(cluster, "web")

            await cluster.until(watch_counts)
            assert max(s[0] for s in seen) <= most
            assert min(s[1] for s in seen) >= least
            assert {p["spec"]["containers"][0]["image"] for p in cluster.ready()} == {"registry.example/app:2"}
            assert replica_sets(cluster) == {"1": 0, "2": 4}

    asyncio.run(go())


def test_restart_and_undo_number_revisions(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: settled(cluster, "web"))
            first = {p["metadata"]["name"] for p in cluster.pods()}
            note = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-23T00:00:00Z"}}}
            cluster.api.patch("deployments.apps", "web", {"spec": {"template": note}}, "default")
            await cluster.until(lambda: settled(cluster, "web"))
            await cluster.until(lambda: not first & {p["metadata"]["name"] for p in cluster.pods()})
            back = {"metadata": {"annotations": None}}
            cluster.api.patch("deployments.apps", "web", {"spec": {"template": back}}, "default")
            await cluster.until(lambda: settled(cluster, "web") and replica_sets(cluster) == {"2": 0, "3": 2})
            assert cluster.get("deployments.apps", "web")["metadata"]["annotations"][REVISION] == "3"

    asyncio.run(go())


def test_recreate_never_runs_two_templates_at_once(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "db", 2, strategy={"type": "Recreate"}))
            await cluster.until(lambda: settled(cluster, "db"))
            mixed = []
            cluster.api.patch("deployments.apps", "db", image("registry.example/app:2"), "default")

            def watch_images():
                mixed.append(len({p["spec"]["containers"][0]["image"] for p in cluster.pods()}))
                return settled(cluster, "db") and cluster.pods()

            await cluster.until(watch_images)
            assert max(mixed) == 1

    asyncio.run(go())


def test_a_paused_deployment_scales_but_does_not_roll(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 1))
            await cluster.until(lambda: settled(cluster, "web"))
            patch = {"spec": {"paused": True, "replicas": 2, **image("registry.example/app:2")["spec"]}}
            cluster.api.patch("deployments.apps", "web", patch, "default")
            await cluster.until(lambda: len(cluster.ready()) == 2)
            assert {p["spec"]["containers"][0]["image"] for p in cluster.pods()} == {"registry.example/app:1"}
            await cluster.until(
                lambda: cluster.condition(cluster.get("deployments.apps", "web"), "Progressing") == "Unknown"
            )
            cluster.api.patch("deployments.apps", "web", {"spec": {"paused": None}}, "default")
            await cluster.until(lambda: settled(cluster, "web"))
            assert {p["spec"]["containers"][0]["image"] for p in cluster.ready()} == {"registry.example/app:2"}

    asyncio.run(go())


def test_a_rollout_that_stands_still_times_out_and_keeps_the_old_pods(running, workload):
    async def go():
        async with running(1) as cluster:
            body = workload("Deployment", "web", 2, progressDeadlineSeconds=60)
            cluster.api.create("deployments.apps", body)
            await cluster.until(lambda: settled(cluster, "web"))
            cluster.kubelets.behaviours.break_image("registry.example/bad:*")
            cluster.api.patch("deployments.apps", "web", image("registry.example/bad:1"), "default")
            await cluster.until(
                lambda: cluster.condition(cluster.get("deployments.apps", "web"), "Progressing") == "False"
            )
            deployment = cluster.get("deployments.apps", "web")
            assert cluster.condition(deployment, "Progressing", "reason") == "ProgressDeadlineExceeded"
            assert cluster.condition(deployment, "Available") == "True"
            assert len(cluster.ready()) == 2

    asyncio.run(go())


def test_a_deleted_pod_is_replaced_and_an_orphan_adopted(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: settled(cluster, "web"))
            victim = cluster.pods()[0]["metadata"]["name"]
            cluster.api.delete("pods", victim, "default")
            await cluster.until(lambda: len(cluster.ready()) == 2 and not cluster.api.get("pods", victim, "default"))
            kept = cluster.pods()[0]["metadata"]["name"]
            cluster.api.patch("pods", kept, {"metadata": {"ownerReferences": None}}, "default")
            await cluster.until(lambda: cluster.get("pods", kept)["metadata"].get("ownerReferences"))
            await cluster.until(lambda: len(cluster.pods()) == 2)

    asyncio.run(go())


def test_old_replica_sets_are_forgotten_beyond_the_limit(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 1, revisionHistoryLimit=1))
            for number in range(2, 5):
                await cluster.until(lambda: settled(cluster, "web"))
                cluster.api.patch("deployments.apps", "web", image(f"registry.example/app:{number}"), "default")
            await cluster.until(lambda: settled(cluster, "web") and len(replica_sets(cluster)) == 2)

    asyncio.run(go())


def test_scaling_down_takes_pods_that_are_not_ready_first(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: settled(cluster, "web"))
            ready = {p["metadata"]["name"] for p in cluster.ready()}
            cluster.kubelets.behaviours.break_image("registry.example/app:1")
            cluster.api.patch("deployments.apps", "web", {"spec": {"replicas": 4}}, "default")
            await cluster.until(lambda: len(cluster.pods()) == 4)
            cluster.api.patch("deployments.apps", "web", {"spec": {"replicas": 2}}, "default")
            await cluster.until(lambda: len(cluster.pods()) == 2)
            assert {p["metadata"]["name"] for p in cluster.pods()} == ready

    asyncio.run(go())
