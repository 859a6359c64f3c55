"""Owners, namespaces, and what every namespace has."""

import asyncio

import pytest

CONFIGS = "configmaps"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "volumes.lab.example.org"},
    "spec": {
        "group": "lab.example.org", "scope": "Namespaced",
        "names": {"plural": "volumes", "singular": "volume", "kind": "Volume"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    },
}  # fmt: skip


def config(name, *owners, namespace="default", **metadata):
    refs = [
        {"apiVersion": o["apiVersion"], "kind": o["kind"], "name": o["metadata"]["name"], "uid": o["metadata"]["uid"],
         "blockOwnerDeletion": True}
        for o in owners
    ]  # fmt: skip
    base = {"name": name, "namespace": namespace, **({"ownerReferences": refs} if refs else {}), **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": base}


def names(cluster, namespace="default"):
    return {c["metadata"]["name"] for c in cluster.api.list(CONFIGS, namespace)} - {"kube-root-ca.crt"}


def family(cluster):
    owner = cluster.api.create(CONFIGS, config("owner"))
    child = cluster.api.create(CONFIGS, config("child", owner))
    cluster.api.create(CONFIGS, config("grandchild", child))
    return owner


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_what_is_owned_goes_with_its_owner(running, propagation):
    async def go():
        async with running() as cluster:
            family(cluster)
            cluster.api.delete(CONFIGS, "owner", "default", propagation=propagation)
            await cluster.until(lambda: not names(cluster))

    asyncio.run(go())


def test_in_the_foreground_the_owner_goes_last(running):
    async def go():
        async with running() as cluster:
            family(cluster)
            cluster.api.patch(CONFIGS, "grandchild", {"metadata": {"finalizers": ["example.org/hold"]}}, "default")
            cluster.api.delete(CONFIGS, "owner", "default", propagation="Foreground")
            await cluster.settle(20)
            assert names(cluster) == {"owner", "child", "grandchild"}
            cluster.api.patch(CONFIGS, "grandchild", {"metadata": {"finalizers": None}}, "default")
            await cluster.until(lambda: not names(cluster))

    asyncio.run(go())


def test_orphans_stay_and_forget_their_owner(running):
    async def go():
        async with running() as cluster:
            family(cluster)
            cluster.api.delete(CONFIGS, "owner", "default", propagation="Orphan")
            await cluster.until(lambda: names(cluster) == {"child", "grandchild"})
            assert "ownerReferences" not in cluster.get(CONFIGS, "child")["metadata"]

    asyncio.run(go())


def test_one_owner_left_is_enough(running):
    async def go():
        async with running() as cluster:
            one, other = (cluster.api.create(CONFIGS, config(n)) for n in ("one", "other"))
            cluster.api.create(CONFIGS, config("child", one, other))
            cluster.api.delete(CONFIGS, "one", "default")
            await cluster.until(lambda: len(cluster.get(CONFIGS, "child")["metadata"]["ownerReferences"]) == 1)
            cluster.api.delete(CONFIGS, "other", "default")
            await cluster.until(lambda: not names(cluster))

    asyncio.run(go())


def test_an_owner_that_was_never_there_counts_as_gone(running):
    async def go():
        async with running() as cluster:
            owner = cluster.api.create(CONFIGS, config("owner"))
            ghost = {**owner, "metadata": {**owner["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}}
            cluster.api.create(CONFIGS, config("child", ghost))
            await cluster.until(lambda: names(cluster) == {"owner"})

    asyncio.run(go())


def test_custom_objects_own_and_are_owned(running):
    async def go():
        async with running() as cluster:
            cluster.api.create("customresourcedefinitions.apiextensions.k8s.io", CRD)
            body = {"apiVersion": "lab.example.org/v1", "kind": "Volume"}
            owner = cluster.api.create(
                "volumes.lab.example.org", {**body, "metadata": {"name": "a", "namespace": "default"}}
            )
            child = config("child", owner)
            cluster.api.create(CONFIGS, child)
            metadata = {"name": "b", "namespace": "default", "ownerReferences": child["metadata"]["ownerReferences"]}
            cluster.api.create("volumes.lab.example.org", {**body, "metadata": metadata})
            await cluster.settle(5)
            cluster.api.delete("volumes.lab.example.org", "a", "default")
            await cluster.until(lambda: not names(cluster) and not cluster.api.list("volumes.lab.example.org"))

    asyncio.run(go())


def test_a_deployment_takes_its_pods_along(running, workload):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("deployments.apps", workload("Deployment", "web", 2))
            await cluster.until(lambda: len(cluster.ready()) == 2)
            cluster.api.delete("deployments.apps", "web", "default", propagation="Foreground")
            await cluster.until(lambda: not cluster.pods() and not cluster.api.list("deployments.apps"))
            assert not cluster.api.list("replicasets.apps")

    asyncio.run(go())


def make_namespace(cluster, name):
    cluster.api.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def test_every_namespace_gets_its_account_and_ca(running):
    async def go():
        async with running(ca="-----BEGIN CERTIFICATE-----") as cluster:
            make_namespace(cluster, "demo")
            await cluster.until(lambda: cluster.api.get("serviceaccounts", "default", "demo"))
            await cluster.until(lambda: cluster.api.get(CONFIGS, "kube-root-ca.crt", "demo"))
            cluster.api.delete("serviceaccounts", "default", "demo")
            cluster.api.patch(CONFIGS, "kube-root-ca.crt", {"data": {"ca.crt": "other"}}, "demo")
            await cluster.until(lambda: cluster.api.get("serviceaccounts", "default", "demo"))
            await cluster.until(lambda: cluster.get(CONFIGS, "kube-root-ca.crt", "demo")["data"]["ca.crt"][0] == "-")

    asyncio.run(go())


def test_a_namespace_ends_with_all_that_it_holds(running, workload):
    async def go():
        async with running(1) as cluster:
            make_namespace(cluster, "closing")
            body = workload("Deployment", "web", 2)
            body["metadata"]["namespace"] = "closing"
            cluster.api.create("deployments.apps", body)
            await cluster.until(lambda: len(cluster.ready()) == 2)
            held = config("held", namespace="closing", finalizers=["example.org/hold"])
            cluster.api.create(CONFIGS, held)
            cluster.api.delete("namespaces", "closing")
            await cluster.until(lambda: names(cluster, "closing") == {"held"} and not cluster.pods())
            await cluster.until(
                lambda: cluster.condition(cluster.get("namespaces", "closing", ""), "NamespaceFinalizersRemaining")
            )
            text = cluster.condition(
                cluster.get("namespaces", "closing", ""), "NamespaceFinalizersRemaining", "message"
            )
            assert "example.org/hold in 1 resource instances" in text
            cluster.api.patch(CONFIGS, "held", {"metadata": {"finalizers": None}}, "closing")
            await cluster.until(lambda: cluster.api.get("namespaces", "closing") is None)

    asyncio.run(go())
