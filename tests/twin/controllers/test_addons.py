"""What k3s deploys by itself."""

import asyncio

import pytest

from labkit.twin.controllers import NodeAddresses, install, k3s_addons


def deployments(objects):
    return {o["metadata"]["name"] for o in objects if o["kind"] == "Deployment"}


@pytest.mark.parametrize(
    ("disable", "names"),
    [
        ([], {"coredns", "local-path-provisioner", "metrics-server", "traefik"}),
        (["traefik", "servicelb"], {"coredns", "local-path-provisioner", "metrics-server"}),
        (["local-storage", "traefik", "metrics-server", "coredns"], set()),
    ],
)
def test_the_disable_list_leaves_parts_out(disable, names):
    assert deployments(k3s_addons(disable)) == names


def test_they_run_on_a_server_and_a_second_start_changes_nothing(running):
    async def go():
        async with running(0, living=True, balancer=NodeAddresses()) as cluster:
            install(cluster.api, k3s_addons())
            cluster.add_node("m1", 20, roles=["control-plane", "etcd"])
            cluster.add_node("m2", 21)
            await cluster.until(
                lambda: all(
                    d.get("status", {}).get("availableReplicas") == 1 for d in cluster.api.list("deployments.apps")
                )
            )
            assert len(cluster.api.list("deployments.apps")) == 4
            dns = cluster.get("services", "kube-dns", "kube-system")
            assert dns["spec"]["clusterIP"] == "10.43.0.10"
            await cluster.until(lambda: cluster.get("endpoints", "kube-dns", "kube-system").get("subsets"))
            ingress = lambda: cluster.status("services", "traefik", "kube-system")["loadBalancer"].get("ingress")  # noqa: E731
            await cluster.until(lambda: ingress() and [i["ip"] for i in ingress()] == ["192.168.5.20", "192.168.5.21"])
            versions = {
                d["metadata"]["name"]: d["metadata"]["generation"] for d in cluster.api.list("deployments.apps")
            }
            install(cluster.api, k3s_addons())
            await cluster.settle(5)
            again = {d["metadata"]["name"]: d["metadata"]["generation"] for d in cluster.api.list("deployments.apps")}
            assert versions == again

    asyncio.run(go())
