"""DaemonSets and StatefulSets."""

import asyncio


def image(name):
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": name}]}}}}


def test_every_fitting_node_has_one_daemon_pod(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("daemonsets.apps", workload("DaemonSet", "agent"))
            await cluster.until(lambda: len(cluster.ready(app="agent")) == 2)
            cluster.add_node("n3", 23)
            taint = {"key": "dedicated", "value": "x", "effect": "NoSchedule"}
            cluster.add_node("n4", 24, taints=[taint])
            await cluster.until(lambda: cluster.status("daemonsets.apps", "agent").get("numberAvailable") == 3)
            status = cluster.status("daemonsets.apps", "agent")
            assert (status["desiredNumberScheduled"], status["updatedNumberScheduled"]) == (3, 3)
            assert {p["spec"]["nodeName"] for p in cluster.pods()} == {"n1", "n2", "n3"}

    asyncio.run(go())


def test_daemon_pods_come_to_cordoned_nodes_too(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.patch("nodes", "n1", {"spec": {"unschedulable": True}})
            cluster.api.create("daemonsets.apps", workload("DaemonSet", "agent"))
            await cluster.until(lambda: len(cluster.ready(app="agent")) == 1)

    asyncio.run(go())


def test_a_daemon_set_rolls_one_node_at_a_time(running, workload):
    async def go():
        async with running(3) as cluster:
            cluster.api.create("daemonsets.apps", workload("DaemonSet", "agent"))
            await cluster.until(lambda: cluster.status("daemonsets.apps", "agent").get("numberAvailable") == 3)
            fewest = [3]
            cluster.api.patch("daemonsets.apps", "agent", image("registry.example/app:2"), "default")

            def done():
                fewest[0] = min(fewest[0], len(cluster.ready()))
                status = cluster.status("daemonsets.apps", "agent")
                counts = (status.get("updatedNumberScheduled"), status.get("numberAvailable"))
                return counts == (3, 3) and status["observedGeneration"] == 2

            await cluster.until(done)
            assert fewest[0] == 2
            assert len(cluster.api.list("controllerrevisions.apps")) == 2

    asyncio.run(go())


def test_a_node_that_no_longer_fits_loses_its_daemon_pod(running, workload):
    async def go():
        async with running(0, living=True) as cluster:
            cluster.add_node("n1", 21, labels={"disk": "ssd"})
            pod = {"nodeSelector": {"disk": "ssd"}}
            cluster.api.create("daemonsets.apps", workload("DaemonSet", "agent", pod=pod))
            await cluster.until(lambda: len(cluster.ready()) == 1)
            cluster.api.patch("nodes", "n1", {"metadata": {"labels": {"disk": None}}})
            await cluster.until(lambda: not cluster.pods())

    asyncio.run(go())


def claims(name="data"):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return [{"metadata": {"name": name}, "spec": {**spec, "storageClassName": "local-path"}}]


STORAGE = {
    "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local-path"},
    "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer",
}  # fmt: skip


def test_ordinals_come_in_order_with_their_own_claims(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("storageclasses.storage.k8s.io", STORAGE)
            body = workload("StatefulSet", "db", 3, serviceName="db", volumeClaimTemplates=claims())
            cluster.api.create("statefulsets.apps", body)
            most_pending = [0]

            def done():
                waiting = [p for p in cluster.pods() if p not in cluster.ready()]
                most_pending[0] = max(most_pending[0], len(waiting))
                return len(cluster.ready()) == 3

            await cluster.until(done)
            assert most_pending[0] == 1
            bound = {c["metadata"]["name"]: c["status"]["phase"] for c in cluster.api.list("persistentvolumeclaims")}
            assert bound == {f"data-db-{i}": "Bound" for i in range(3)}
            await cluster.until(lambda: cluster.status("statefulsets.apps", "db").get("readyReplicas") == 3)

    asyncio.run(go())


def test_scaling_down_goes_from_the_top_and_keeps_the_claims(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("storageclasses.storage.k8s.io", STORAGE)
            body = workload("StatefulSet", "db", 3, serviceName="db", volumeClaimTemplates=claims())
            cluster.api.create("statefulsets.apps", body)
            await cluster.until(lambda: len(cluster.ready()) == 3)
            cluster.api.patch("statefulsets.apps", "db", {"spec": {"replicas": 1}}, "default")
            await cluster.until(lambda: [p["metadata"]["name"] for p in cluster.pods()] == ["db-0"])
            assert len(cluster.api.list("persistentvolumeclaims")) == 3

    asyncio.run(go())


def test_a_stateful_set_rolls_from_the_top_and_respects_its_partition(running, workload):
    async def go():
        async with running(1) as cluster:
            strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
            cluster.api.create("statefulsets.apps", workload("StatefulSet", "db", 3, updateStrategy=strategy))
            await cluster.until(lambda: len(cluster.ready()) == 3)
            cluster.api.patch("statefulsets.apps", "db", image("registry.example/app:2"), "default")

            def images():
                return [p["spec"]["containers"][0]["image"][-1] for p in cluster.ready()]

            await cluster.until(lambda: images() == ["1", "2", "2"])
            cluster.api.delete("pods", "db-0", "default")
            await cluster.until(lambda: not cluster.api.get("pods", "db-0", "default") or True)
            await cluster.settle(10)
            await cluster.until(lambda: images() == ["1", "2", "2"])
            none = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
            cluster.api.patch("statefulsets.apps", "db", none, "default")
            await cluster.until(lambda: images() == ["2", "2", "2"])
            await cluster.until(
                lambda: (s := cluster.status("statefulsets.apps", "db")) and s["currentRevision"] == s["updateRevision"]
            )

    asyncio.run(go())


def test_parallel_pods_come_at_once(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.kubelets.behaviours.break_image("*")
            body = workload("StatefulSet", "db", 3, podManagementPolicy="Parallel")
            cluster.api.create("statefulsets.apps", body)
            await cluster.until(lambda: len(cluster.pods()) == 3)

    asyncio.run(go())
