"""Where pods go, and what is said when they can go nowhere."""

import asyncio

import pytest


def pod(name, **spec):
    container = {"name": "main", "image": "registry.example/app:1", **spec.pop("container", {})}
    labels = spec.pop("labels", {})
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [container], **spec},
    }  # fmt: skip


def requests(**amounts):
    return {"container": {"resources": {"requests": amounts}}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity"),
        (requests(cpu="64"), "0/1 nodes are available: 1 Insufficient cpu."),
        (requests(memory="64Gi"), "0/1 nodes are available: 1 Insufficient memory."),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "nosuch"}}]},
         '0/1 nodes are available: persistentvolumeclaim "nosuch" not found.'),
    ],
)  # fmt: skip
def test_an_unschedulable_pod_says_why(running, spec, message):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("pods", pod("p", **spec))
            found = await cluster.until(lambda: cluster.condition(cluster.get("pods", "p"), "PodScheduled", "message"))
            assert found.startswith(message)
            assert cluster.condition(cluster.get("pods", "p"), "PodScheduled", "reason") == "Unschedulable"
            assert cluster.events("FailedScheduling") == [found]

    asyncio.run(go())


def test_without_nodes_nothing_is_available(running):
    async def go():
        async with running(0, living=True) as cluster:
            cluster.api.create("pods", pod("p"))
            found = await cluster.until(lambda: cluster.condition(cluster.get("pods", "p"), "PodScheduled", "message"))
            assert found == "no nodes available to schedule pods"
            cluster.add_node("n1", 21)
            await cluster.until(cluster.ready)

    asyncio.run(go())


def test_cordon_and_uncordon(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.patch("nodes", "n1", {"spec": {"unschedulable": True}})
            await cluster.until(lambda: cluster.get("nodes", "n1", "")["spec"].get("taints"))
            cluster.api.create("pods", pod("p"))
            found = await cluster.until(lambda: cluster.condition(cluster.get("pods", "p"), "PodScheduled", "message"))
            assert "1 node(s) were unschedulable" in found
            cluster.api.patch("nodes", "n1", {"spec": {"unschedulable": None}})
            await cluster.until(cluster.ready)
            assert not cluster.get("nodes", "n1", "")["spec"].get("taints")

    asyncio.run(go())


def test_taints_are_tolerated_or_not(running):
    async def go():
        async with running(0, living=True) as cluster:
            cluster.add_node("n1", 21, taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
            tolerations = [{"key": "gpu", "operator": "Equal", "value": "yes"}]
            cluster.api.create("pods", pod("may", tolerations=tolerations))
            cluster.api.create("pods", pod("may-not"))
            await cluster.until(lambda: [p["metadata"]["name"] for p in cluster.ready()] == ["may"])
            message = cluster.condition(cluster.get("pods", "may-not"), "PodScheduled", "message")
            assert "1 node(s) had untolerated taint {gpu: yes}" in message

    asyncio.run(go())


def test_anti_affinity_and_spread_keep_pods_apart(running):
    async def go():
        async with running(0, living=True) as cluster:
            for index, zone in enumerate(["a", "a", "b"]):
                cluster.add_node(f"n{index + 1}", 21 + index, labels={"topology.kubernetes.io/zone": zone})
            mine = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "topology.kubernetes.io/zone"}
            affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [mine]}}
            for name in ("p1", "p2", "p3"):
                cluster.api.create("pods", pod(name, labels={"app": "x"}, affinity=affinity))
            await cluster.until(lambda: len(cluster.ready(app="x")) == 2)
            text = "3 node(s) didn't match pod anti-affinity rules"
            await cluster.until(lambda: any(text in e for e in cluster.events("FailedScheduling")))
            spread = [{**mine, "labelSelector": {"matchLabels": {"app": "y"}}, "maxSkew": 1,
                       "whenUnsatisfiable": "DoNotSchedule"}]  # fmt: skip
            for name in ("q1", "q2", "q3", "q4"):
                cluster.api.create("pods", pod(name, labels={"app": "y"}, topologySpreadConstraints=spread))
            await cluster.until(lambda: len(cluster.ready(app="y")) == 4)
            assert sum(p["spec"]["nodeName"] == "n3" for p in cluster.pods(app="y")) == 2

    asyncio.run(go())


def test_full_nodes_and_host_ports_are_avoided(running):
    async def go():
        async with running(2) as cluster:
            ports = {"container": {"ports": [{"containerPort": 80, "hostPort": 80}]}}
            for name in ("p1", "p2", "p3"):
                cluster.api.create("pods", pod(name, **ports))
            await cluster.until(lambda: len(cluster.ready()) == 2)
            text = "2 node(s) didn't have free ports"
            await cluster.until(lambda: any(text in e for e in cluster.events("FailedScheduling")))
            cluster.api.delete("pods", cluster.ready()[0]["metadata"]["name"], "default")
            await cluster.until(lambda: len(cluster.ready()) == 2 and len(cluster.pods()) == 2)

    asyncio.run(go())


def test_replicas_are_spread_over_zones_though_nobody_asks_for_it(running, workload):
    async def go():
        async with running(0, living=True) as cluster:
            for index, zone in enumerate(["a", "a", "a", "b"]):
                cluster.add_node(f"n{index + 1}", 21 + index, labels={"topology.kubernetes.io/zone": zone})
            last = ("nodes", "n4", "")
            await cluster.until(lambda: not cluster.get(*last)["spec"].get("taints"))
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: len(cluster.ready()) == 2)
            assert "n4" in {one["spec"]["nodeName"] for one in cluster.ready()}

    asyncio.run(go())
