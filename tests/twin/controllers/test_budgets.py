"""PodDisruptionBudgets."""

import asyncio

import pytest

from labkit.twin.kube.door import ApiError
from labkit.twin.kube.eviction import evict

BUDGETS = "poddisruptionbudgets.policy"


def budget(**spec):
    return {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "desired", "allowed"),
    [
        ({"minAvailable": 2}, 2, 2),
        ({"minAvailable": 4}, 4, 0),
        ({"minAvailable": "50%"}, 2, 2),
        ({"maxUnavailable": 1}, 3, 1),
        ({"maxUnavailable": "30%"}, 2, 2),
        ({"maxUnavailable": 0}, 4, 0),
    ],
)
def test_what_a_budget_allows(running, workload, spec, desired, allowed):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 4))
            cluster.api.create(BUDGETS, budget(**spec))
            await cluster.until(lambda: cluster.status(BUDGETS, "b").get("currentHealthy") == 4)
            status = cluster.status(BUDGETS, "b")
            counts = (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"])
            assert counts == (4, desired, allowed)
            reason = cluster.condition({"status": status}, "DisruptionAllowed", "reason")
            assert reason == ("SufficientPods" if allowed else "InsufficientPods")

    asyncio.run(go())


def test_evictions_spend_the_budget_until_new_pods_are_ready(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            cluster.api.create(BUDGETS, budget(minAvailable=1))
            await cluster.until(lambda: cluster.status(BUDGETS, "b").get("disruptionsAllowed") == 1)
            first, second = [p["metadata"]["name"] for p in cluster.pods()]
            evict(cluster.api.core, "default", first, {})
            with pytest.raises(ApiError, match="disruption budget"):
                evict(cluster.api.core, "default", second, {})
            await cluster.until(lambda: cluster.status(BUDGETS, "b").get("disruptionsAllowed") == 1)
            evict(cluster.api.core, "default", second, {})
            await cluster.until(lambda: not {first, second} & {p["metadata"]["name"] for p in cluster.ready()})

    asyncio.run(go())


def test_a_pod_without_controller_has_no_scale(running):
    async def go():
        async with running(1) as cluster:
            metadata = {"name": "bare", "namespace": "default", "labels": {"app": "web"}}
            spec = {"containers": [{"name": "c", "image": "registry.example/c:1"}]}
            cluster.api.create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
            cluster.api.create(BUDGETS, budget(maxUnavailable=1))
            await cluster.until(
                lambda: cluster.condition(cluster.get(BUDGETS, "b"), "DisruptionAllowed", "reason") == "SyncFailed"
            )
            text = cluster.condition(cluster.get(BUDGETS, "b"), "DisruptionAllowed", "message")
            assert text == 'found no controllers for pod "bare"'

    asyncio.run(go())
