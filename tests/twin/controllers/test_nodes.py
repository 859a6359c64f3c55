"""Nodes that live, fall silent, come back or are taken away."""

import asyncio

UNREACHABLE = "node.kubernetes.io/unreachable"


def taints(cluster, name):
    return sorted((t["key"], t["effect"]) for t in cluster.get("nodes", name, "")["spec"].get("taints") or [])


def ready(cluster, name):
    return cluster.condition(cluster.get("nodes", name, ""), "Ready")


def on(cluster, node):
    return [p for p in cluster.pods() if p["spec"].get("nodeName") == node]


def test_a_node_registers_as_a_k3s_node_does(running):
    async def go():
        async with running(0, living=True) as cluster:
            cluster.add_node(
                "m1", 20, roles=["control-plane", "etcd"], labels={"topology.kubernetes.io/zone": "hades"},
                conditions=[("EtcdIsVoter", "True", "MemberNotLearner", "Node is a voting member of the etcd cluster")],
            )  # fmt: skip
            await cluster.until(lambda: not taints(cluster, "m1"))
            node = cluster.get("nodes", "m1", "")
            assert node["metadata"]["labels"]["node-role.kubernetes.io/etcd"] == "true"
            assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.33.4+k3s1"
            assert {"type": "InternalIP", "address": "192.168.5.20"} in node["status"]["addresses"]
            assert node["spec"]["podCIDR"] == "10.42.0.0/24"
            assert cluster.condition(node, "EtcdIsVoter") == "True"
            lease = cluster.get("leases.coordination.k8s.io", "m1", "kube-node-lease")
            assert lease["spec"]["holderIdentity"] == "m1"
            await cluster.until(
                lambda: cluster.get("leases.coordination.k8s.io", "m1", "kube-node-lease")["spec"] != lease["spec"]
            )
            cluster.add_node("m2", 21)
            assert cluster.get("nodes", "m2", "")["spec"]["podCIDR"] == "10.42.1.0/24"

    asyncio.run(go())


def test_a_living_node_stays_ready(running):
    async def go():
        async with running(2, scale=0.001) as cluster:
            for _ in range(20):
                await cluster.settle(20)
                assert (ready(cluster, "n1"), ready(cluster, "n2")) == ("True", "True")

    asyncio.run(go())


def test_a_silent_node_is_unknown_tainted_and_its_pods_are_replaced(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 4))
            cluster.api.create("daemonsets.apps", workload("DaemonSet", "agent"))
            await cluster.until(lambda: len(cluster.ready(app="web")) == 4 and len(cluster.ready(app="agent")) == 2)
            lost = {p["metadata"]["name"] for p in on(cluster, "n2")}
            cluster.nodes["n2"].stop()
            await cluster.until(lambda: ready(cluster, "n2") == "Unknown")
            assert cluster.condition(cluster.get("nodes", "n2", ""), "Ready", "reason") == "NodeStatusUnknown"
            await cluster.until(
                lambda: taints(cluster, "n2") == [(UNREACHABLE, "NoExecute"), (UNREACHABLE, "NoSchedule")]
            )
            await cluster.until(lambda: {cluster.condition(p, "Ready") for p in on(cluster, "n2")} == {"False"})
            assert {p["status"]["phase"] for p in on(cluster, "n2")} == {"Running"}
            assert not [p for p in on(cluster, "n2") if "deletionTimestamp" in p["metadata"]]
            await cluster.until(lambda: len([p for p in cluster.ready(app="web") if p in on(cluster, "n1")]) == 4)
            still = on(cluster, "n2")
            assert {p["metadata"]["name"] for p in still} == lost
            going = [p for p in still if "deletionTimestamp" in p["metadata"]]
            assert {p["metadata"]["labels"]["app"] for p in going} == {"web"}
            assert cluster.condition(going[0], "DisruptionTarget", "reason") == "DeletionByTaintManager"

    asyncio.run(go())


def test_a_node_that_comes_back_ends_what_was_to_go(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            cluster.api.create("daemonsets.apps", workload("DaemonSet", "agent"))
            await cluster.until(lambda: len(cluster.ready(app="web")) == 2 and len(cluster.ready(app="agent")) == 2)
            cluster.nodes["n2"].stop()
            await cluster.until(lambda: len([p for p in cluster.ready(app="web") if p in on(cluster, "n1")]) == 2)
            cluster.nodes["n2"].start()
            await cluster.until(lambda: ready(cluster, "n2") == "True" and not taints(cluster, "n2"))
            await cluster.until(lambda: len(cluster.pods(app="web")) == 2 and len(cluster.ready(app="agent")) == 2)
            agent = next(p for p in cluster.pods(app="agent") if p["spec"]["nodeName"] == "n2")
            assert agent["status"]["containerStatuses"][0]["restartCount"] == 1

    asyncio.run(go())


def test_pods_run_on_while_only_the_agent_restarts(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: len(cluster.ready()) == 2)
            cluster.nodes["n1"].stop()
            await cluster.until(lambda: not cluster.ready())
            cluster.nodes["n1"].start(rebooted=False)
            await cluster.until(lambda: len(cluster.ready()) == 2)
            assert {p["status"]["containerStatuses"][0]["restartCount"] for p in cluster.pods()} == {0}

    asyncio.run(go())


def test_a_deleted_node_object_comes_back_with_the_next_start_only(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.delete("nodes", "n1")
            await cluster.settle(30)
            assert cluster.api.get("nodes", "n1") is None
            cluster.nodes["n1"].stop()
            cluster.nodes["n1"].start()
            await cluster.until(lambda: ready(cluster, "n1") == "True")

    asyncio.run(go())


def test_a_short_silence_evicts_nothing(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: len(cluster.ready()) == 2)
            before = {p["metadata"]["name"] for p in cluster.pods()}
            cluster.nodes["n2"].stop()
            await cluster.until(lambda: ready(cluster, "n2") == "Unknown")
            cluster.nodes["n2"].start()
            await cluster.until(lambda: len(cluster.ready()) == 2)
            await cluster.settle(320)
            assert {p["metadata"]["name"] for p in cluster.pods()} == before

    asyncio.run(go())


def test_when_the_node_object_goes_its_pods_are_collected(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("daemonsets.apps", workload("DaemonSet", "agent"))
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: len(cluster.ready()) == 4)
            cluster.nodes["n2"].stop()
            cluster.api.delete("nodes", "n2")
            await cluster.until(lambda: not on(cluster, "n2") and len(cluster.ready(app="web")) == 2)
            await cluster.until(lambda: cluster.status("daemonsets.apps", "agent")["desiredNumberScheduled"] == 1)
            await cluster.until(lambda: not cluster.api.get("leases.coordination.k8s.io", "n2", "kube-node-lease"))

    asyncio.run(go())


def test_a_node_made_by_hand_follows_its_conditions(running):
    async def go():
        async with running() as cluster:
            cluster.api.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "h"}})
            await cluster.until(lambda: taints(cluster, "h") == [("node.kubernetes.io/not-ready", "NoSchedule")])
            condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-23T00:00:00Z"}
            cluster.api.patch("nodes", "h", {"status": {"conditions": [condition]}}, subresource="status")
            await cluster.until(lambda: not taints(cluster, "h"))
            assert cluster.get("nodes", "h", "")["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0"
            await cluster.until(lambda: ready(cluster, "h") == "Unknown")

    asyncio.run(go())
