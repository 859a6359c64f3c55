"""Endpoints, EndpointSlices and load balancer addresses."""

import asyncio

SLICES = "endpointslices.discovery.k8s.io"


def service(name="web", **spec):
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }  # fmt: skip


def pod_with_port():
    ports = [{"name": "web", "containerPort": 8080}]
    return {"containers": [{"name": "main", "image": "registry.example/app:1", "ports": ports}]}


def addresses(cluster):
    found = [e for s in cluster.api.list(SLICES) for e in s.get("endpoints") or []]
    return {e["addresses"][0] for e in found if e["conditions"]["ready"]}


def test_ready_pods_are_behind_a_service(running, workload):
    async def go():
        async with running(0, living=True) as cluster:
            cluster.add_node("n1", 21, labels={"topology.kubernetes.io/zone": "hades"})
            cluster.api.create("services", service())
            await cluster.until(lambda: cluster.api.list(SLICES) and cluster.api.get("endpoints", "web", "default"))
            assert not addresses(cluster)
            cluster.api.create("deployments.apps", workload("Deployment", "web", 3, pod=pod_with_port()))
            await cluster.until(lambda: len(addresses(cluster)) == 3)
            one = cluster.api.list(SLICES)[0]
            assert [p["port"] for p in one["ports"]] == [8080]
            assert one["endpoints"][0]["zone"] == "hades"
            assert one["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
            subset = cluster.get("endpoints", "web")["subsets"][0]
            assert {a["ip"] for a in subset["addresses"]} == addresses(cluster)
            assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
            cluster.api.patch("deployments.apps", "web", {"spec": {"replicas": 1}}, "default")
            await cluster.until(lambda: len(addresses(cluster)) == 1)
            cluster.api.delete("services", "web", "default")
            await cluster.until(lambda: not cluster.api.list(SLICES) and not cluster.api.list("endpoints"))

    asyncio.run(go())


def test_pods_that_are_not_ready_are_told_apart(running, workload):
    async def go():
        async with running(1) as cluster:
            notes = {"twin.labkit/never-ready": "true"}
            cluster.api.create("services", service())
            cluster.api.create("deployments.apps", workload("Deployment", "web", 1, pod=pod_with_port(), notes=notes))
            await cluster.until(lambda: (cluster.api.get("endpoints", "web", "default") or {}).get("subsets"))
            assert "addresses" not in cluster.get("endpoints", "web")["subsets"][0]
            assert not addresses(cluster)
            cluster.api.patch("services", "web", {"spec": {"publishNotReadyAddresses": True}}, "default")
            await cluster.until(lambda: len(addresses(cluster)) == 1)

    asyncio.run(go())


def test_many_pods_fill_several_slices(running, workload):
    async def go():
        async with running(2) as cluster:
            cluster.api.create("services", service())
            cluster.api.create("deployments.apps", workload("Deployment", "web", 105, pod=pod_with_port()))
            await cluster.until(lambda: len(addresses(cluster)) == 105)
            sizes = sorted(len(s["endpoints"]) for s in cluster.api.list(SLICES))
            assert (sum(sizes), max(sizes)) == (105, 100)

    asyncio.run(go())


def lb_address(cluster, name):
    found = cluster.status("services", name).get("loadBalancer", {}).get("ingress") or []
    return [i["ip"] for i in found]


def test_load_balancers_get_the_address_they_ask_for_or_a_free_one(running):
    async def go():
        async with running(1) as cluster:
            cluster.api.create("services", service("a", type="LoadBalancer"))
            await cluster.until(lambda: lb_address(cluster, "a") == ["192.168.5.50"])
            cluster.api.create("services", service("b", type="LoadBalancer", loadBalancerIP="192.168.5.52"))
            await cluster.until(lambda: lb_address(cluster, "b") == ["192.168.5.52"])
            body = service("c", type="LoadBalancer")
            body["metadata"]["annotations"] = {"metallb.io/loadBalancerIPs": "192.168.5.99"}
            cluster.api.create("services", body)
            await cluster.until(lambda: cluster.events("AllocationFailed"))
            assert "is not allowed in config" in cluster.events("AllocationFailed")[0]
            cluster.api.create("services", service("d", type="LoadBalancer"))
            await cluster.until(lambda: lb_address(cluster, "d") == ["192.168.5.51"])
            cluster.api.create("services", service("e", type="LoadBalancer"))
            await cluster.until(lambda: any("no available IPs" in e for e in cluster.events("AllocationFailed")))
            cluster.api.delete("services", "a", "default")
            await cluster.until(lambda: lb_address(cluster, "e") == ["192.168.5.50"])

    asyncio.run(go())


def test_without_a_balancer_a_service_stays_pending(running):
    async def go():
        async with running() as cluster:
            cluster.api.create("services", service(type="LoadBalancer"))
            await cluster.settle(10)
            assert lb_address(cluster, "web") == []

    asyncio.run(go())
