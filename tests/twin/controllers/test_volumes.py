"""Claims and volumes: bound in advance, late, by provisioner; released, protected, lost."""

import asyncio

import pytest

CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"


def volume(name="v", **spec):
    base = {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
        "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": "driver.longhorn.io", "volumeHandle": name},
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {**base, **spec}}


def claim(name="data", size="1Gi", **spec):
    base = {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn"}
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
        "spec": {**base, "resources": {"requests": {"storage": size}}, **spec},
    }  # fmt: skip


def storage_class(name="longhorn", provisioner="driver.longhorn.io", **fields):
    metadata = {"name": name, **fields.pop("metadata", {})}
    return {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata,
        "provisioner": provisioner, **fields,
    }  # fmt: skip


def pod(name="p", claim_name="data", **spec):
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim_name}}]
    containers = [{"name": "c", "image": "registry.example/c:1"}]
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": containers, "volumes": volumes, **spec},
    }  # fmt: skip


def phases(cluster, claim_name="data", volume_name="v"):
    one = cluster.api.get(CLAIMS, claim_name, "default") or {}
    other = cluster.api.get(VOLUMES, volume_name) or {}
    return one.get("status", {}).get("phase"), other.get("status", {}).get("phase")


RESERVED = {"claimRef": {"namespace": "default", "name": "data"}}


@pytest.mark.parametrize(
    ("volume_spec", "claim_spec"),
    [
        ({}, {}),
        (RESERVED, {}),
        ({}, {"volumeName": "v"}),
        (RESERVED, {"volumeName": "v"}),
        ({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "5Gi"}}, {}),
    ],
)
@pytest.mark.parametrize("claim_first", [True, False])
def test_claim_and_volume_find_each_other(running, volume_spec, claim_spec, claim_first):
    async def go():
        async with running() as cluster:
            makes = [(VOLUMES, volume(**volume_spec)), (CLAIMS, claim(**claim_spec))]
            for resource, body in reversed(makes) if claim_first else makes:
                cluster.api.create(resource, body)
                await cluster.settle(2)
            await cluster.until(lambda: phases(cluster) == ("Bound", "Bound"))
            bound, found = cluster.get(CLAIMS, "data"), cluster.get(VOLUMES, "v", "")
            assert bound["spec"]["volumeName"] == "v"
            assert bound["status"]["capacity"] == found["spec"]["capacity"]
            notes = bound["metadata"]["annotations"]
            assert notes["pv.kubernetes.io/bind-completed"] == "yes"
            assert ("pv.kubernetes.io/bound-by-controller" in notes) is ("volumeName" not in claim_spec)
            assert found["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("volume_spec", "claim_spec"),
    [
        ({"capacity": {"storage": "512Mi"}}, {}),
        ({"storageClassName": "other"}, {}),
        ({}, {"accessModes": ["ReadWriteMany"]}),
        ({"claimRef": {"namespace": "default", "name": "else"}}, {}),
        ({}, {"selector": {"matchLabels": {"x": "y"}}}),
        ({"capacity": {"storage": "512Mi"}}, {"volumeName": "v"}),
        ({"claimRef": {"namespace": "default", "name": "else"}}, {"volumeName": "v"}),
    ],
)
def test_what_does_not_fit_stays_apart(running, volume_spec, claim_spec):
    async def go():
        async with running() as cluster:
            cluster.api.create(VOLUMES, volume(**volume_spec))
            cluster.api.create(CLAIMS, claim(**claim_spec))
            await cluster.settle(20)
            assert phases(cluster) == ("Pending", "Available")

    asyncio.run(go())


def test_a_volume_is_released_kept_and_free_again(running):
    async def go():
        async with running() as cluster:
            cluster.api.create(VOLUMES, volume())
            cluster.api.create(CLAIMS, claim())
            await cluster.until(lambda: phases(cluster) == ("Bound", "Bound"))
            cluster.api.delete(CLAIMS, "data", "default")
            await cluster.until(lambda: phases(cluster) == (None, "Released"))
            cluster.api.create(CLAIMS, claim())
            await cluster.settle(20)
            assert phases(cluster) == ("Pending", "Released")
            cluster.api.patch(VOLUMES, "v", {"spec": {"claimRef": None}})
            await cluster.until(lambda: phases(cluster) == ("Bound", "Bound"))

    asyncio.run(go())


def test_a_claim_stays_while_a_pod_uses_it_and_a_volume_while_bound(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.create(VOLUMES, volume())
            cluster.api.create(CLAIMS, claim())
            cluster.api.create("pods", pod())
            await cluster.until(cluster.ready)
            cluster.api.delete(CLAIMS, "data", "default")
            cluster.api.delete(VOLUMES, "v")
            await cluster.settle(20)
            assert phases(cluster) == ("Bound", "Bound")
            cluster.api.delete("pods", "p", "default")
            await cluster.until(lambda: phases(cluster) == (None, None))

    asyncio.run(go())


def test_a_claim_that_loses_its_volume_is_lost(running):
    async def go():
        async with running() as cluster:
            cluster.api.create(VOLUMES, volume())
            cluster.api.create(CLAIMS, claim())
            await cluster.until(lambda: phases(cluster) == ("Bound", "Bound"))
            cluster.api.patch(VOLUMES, "v", {"metadata": {"finalizers": None}})
            cluster.api.delete(VOLUMES, "v")
            await cluster.until(lambda: phases(cluster) == ("Lost", None))
            assert cluster.events("ClaimLost")

    asyncio.run(go())


class Maker:
    """A provisioner that remembers what it was asked for."""

    def __init__(self):
        self.asked, self.removed = [], []

    async def provision(self, request):
        self.asked.append(request)
        await asyncio.sleep(0.01)
        return {"csi": {"driver": "driver.longhorn.io", "volumeHandle": request.name}}

    async def remove(self, found):
        self.removed.append(found["metadata"]["name"])


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
def test_a_provisioner_makes_the_volume_and_removes_it_or_not(running, policy):
    async def go():
        maker = Maker()
        async with running(provisioners={"driver.longhorn.io": maker}) as cluster:
            cluster.api.create(CLAIMS, claim())
            await cluster.until(lambda: cluster.events("ProvisioningFailed"))
            cluster.api.create(CLASSES, storage_class(reclaimPolicy=policy))
            await cluster.until(lambda: phases(cluster)[0] == "Bound")
            name = cluster.get(CLAIMS, "data")["spec"]["volumeName"]
            assert name == "pvc-" + cluster.get(CLAIMS, "data")["metadata"]["uid"]
            assert [r.name for r in maker.asked] == [name]
            cluster.api.delete(CLAIMS, "data", "default")
            if policy == "Delete":
                await cluster.until(lambda: cluster.api.get(VOLUMES, name) is None)
                assert maker.removed == [name]
            else:
                await cluster.until(lambda: phases(cluster, "data", name) == (None, "Released"))
                assert not maker.removed

    asyncio.run(go())


def test_late_binding_waits_for_a_pod_and_stays_on_its_node(running):
    async def go():
        async with running(2) as cluster:
            late = storage_class("local-path", "rancher.io/local-path", volumeBindingMode="WaitForFirstConsumer")
            cluster.api.create(CLASSES, late)
            cluster.api.create(CLAIMS, claim(storageClassName="local-path"))
            await cluster.until(lambda: cluster.events("WaitForFirstConsumer"))
            assert phases(cluster)[0] == "Pending"
            cluster.api.create("pods", pod())
            await cluster.until(cluster.ready)
            node = cluster.get("pods", "p")["spec"]["nodeName"]
            cluster.api.delete("pods", "p", "default")
            cluster.api.patch("nodes", node, {"spec": {"unschedulable": True}})
            await cluster.until(lambda: not cluster.pods())
            cluster.api.create("pods", pod("again"))
            found = await cluster.until(
                lambda: cluster.condition(cluster.get("pods", "again"), "PodScheduled", "message")
            )
            assert "1 node(s) had volume node affinity conflict" in found
            cluster.api.patch("nodes", node, {"spec": {"unschedulable": None}})
            await cluster.until(cluster.ready)
            assert cluster.get("pods", "again")["spec"]["nodeName"] == node

    asyncio.run(go())


def test_the_default_class_is_given_to_claims_that_name_none(running):
    async def go():
        maker = Maker()
        async with running(provisioners={"driver.longhorn.io": maker}) as cluster:
            body = claim()
            del body["spec"]["storageClassName"]
            cluster.api.create(CLAIMS, body)
            await cluster.until(lambda: cluster.events("FailedBinding"))
            note = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
            cluster.api.create(CLASSES, storage_class(metadata=note))
            await cluster.until(lambda: phases(cluster)[0] == "Bound")
            assert cluster.get(CLAIMS, "data")["spec"]["storageClassName"] == "longhorn"

    asyncio.run(go())
