"""What becomes of pods on a living node."""

import asyncio

from labkit.twin.controllers import Behaviour, Behaviours

PREFIX = "twin.labkit/"


def pod(name="p", notes=None, **spec):
    container = {"name": "main", "image": "registry.example/app:1", **spec.pop("container", {})}
    metadata = {"name": name, "namespace": "default", "annotations": notes or {}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec},
    }  # fmt: skip


def waiting(cluster, name="p"):
    found = cluster.status("pods", name).get("containerStatuses") or [{}]
    return (found[0].get("state") or {}).get("waiting", {}).get("reason")


def test_a_pod_starts_with_an_address_and_ids(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("pods", pod(initContainers=[{"name": "init", "image": "busybox"}]))
            await cluster.until(cluster.ready)
            status = cluster.status("pods", "p")
            assert (status["phase"], status["hostIP"], status["podIP"]) == ("Running", "192.168.5.21", "10.42.0.2")
            assert status["containerStatuses"][0]["containerID"].startswith("containerd://")
            assert status["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
            kinds = ("Initialized", "PodScheduled", "ContainersReady", "Ready")
            assert [cluster.condition(cluster.get("pods", "p"), k) for k in kinds] == ["True"] * 4

    asyncio.run(go())


def test_a_probe_and_a_behaviour_delay_readiness(running):
    async def go():
        async with running(1) as cluster:
            probe = {"readinessProbe": {"httpGet": {"path": "/", "port": 80}}}
            cluster.api.create("pods", pod("slow", {PREFIX + "ready": "60"}, container=probe))
            cluster.api.create("pods", pod("never", {PREFIX + "never-ready": "true"}))
            await cluster.until(lambda: cluster.status("pods", "slow").get("phase") == "Running")
            assert cluster.condition(cluster.get("pods", "slow"), "Ready") == "False"
            await cluster.until(lambda: [p["metadata"]["name"] for p in cluster.ready()] == ["slow"])

    asyncio.run(go())


def test_a_bad_image_and_its_mending(running):
    async def go():
        async with running(1) as cluster:
            cluster.kubelets.behaviours.break_image("registry.example/app:1", "not found")
            cluster.api.create("pods", pod())
            await cluster.until(lambda: waiting(cluster) == "ErrImagePull")
            await cluster.until(lambda: waiting(cluster) == "ImagePullBackOff")
            state = cluster.status("pods", "p")["containerStatuses"][0]["state"]["waiting"]
            assert state["message"].startswith('Back-off pulling image "registry.example/app:1"')
            assert cluster.status("pods", "p")["phase"] == "Pending"
            cluster.kubelets.behaviours.mend_image("registry.example/app:1")
            await cluster.until(cluster.ready)

    asyncio.run(go())


def test_a_crashing_container_backs_off_and_counts(running):
    async def go():
        behaviours = Behaviours({"registry.example/*": Behaviour(run=5, exit_code=3)})
        async with running(1, behaviours=behaviours) as cluster:
            cluster.api.create("pods", pod())
            await cluster.until(lambda: waiting(cluster) == "CrashLoopBackOff")
            await cluster.until(lambda: cluster.status("pods", "p")["containerStatuses"][0]["restartCount"] == 2)
            await cluster.until(lambda: waiting(cluster) == "CrashLoopBackOff")
            last = cluster.status("pods", "p")["containerStatuses"][0]["lastState"]["terminated"]
            assert (last["exitCode"], last["reason"]) == (3, "Error")
            assert cluster.events("BackOff")

    asyncio.run(go())


def test_a_missing_secret_holds_a_pod_until_it_comes(running):
    async def go():
        async with running(1) as cluster:
            volumes = [{"name": "v", "secret": {"secretName": "keys"}}]
            cluster.api.create("pods", pod("mounts", volumes=volumes))
            source = {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}]}
            cluster.api.create("pods", pod("reads", container=source))
            await cluster.until(lambda: waiting(cluster, "reads") == "CreateContainerConfigError")
            await cluster.until(lambda: cluster.events("FailedMount"))
            assert (
                cluster.events("FailedMount")[0] == 'MountVolume.SetUp failed for volume "v" : secret "keys" not found'
            )
            assert waiting(cluster, "mounts") == "ContainerCreating"
            metadata = {"name": "keys", "namespace": "default"}
            cluster.api.create("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
            await cluster.until(lambda: len(cluster.ready()) == 2)

    asyncio.run(go())


def test_a_gate_holds_a_pod_until_it_is_looked_at_again(running):
    async def go():
        async with running(1) as cluster:
            closed = [True]
            cluster.kubelets.gates.append(lambda _pod, node: f"volume is not attached to {node}" if closed else None)
            cluster.api.create("pods", pod())
            await cluster.until(lambda: cluster.events("FailedMount"))
            closed.clear()
            cluster.kubelets.look("default", "p")
            await cluster.until(cluster.ready)

    asyncio.run(go())


def test_deletion_takes_its_grace(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("pods", pod(notes={PREFIX + "stop": "60"}, terminationGracePeriodSeconds=100))
            await cluster.until(cluster.ready)
            cluster.api.delete("pods", "p", "default")
            await cluster.settle(5)
            assert cluster.get("pods", "p")["metadata"]["deletionGracePeriodSeconds"] == 100
            await cluster.until(lambda: cluster.api.get("pods", "p", "default") is None)
            assert cluster.events("Killing")

    asyncio.run(go())


def test_addresses_are_not_given_twice(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 10))
            await cluster.until(lambda: len(cluster.ready()) == 10)
            assert len({p["status"]["podIP"] for p in cluster.pods()}) == 10

    asyncio.run(go())
