"""The official Python client against the twin: typed, dynamic, watching, and electing a leader."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime

import pytest
from kubernetes import client, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from .conftest import Running


@pytest.fixture(scope="module")
def api(running: Running) -> client.ApiClient:
    running.add_node("pve1-a", 21)
    return client.ApiClient(client.Configuration(host=running.url))


@pytest.fixture(scope="module")
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


def settings(name: str, **data: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "t"}), data=data)


def test_typed_objects_are_made_read_changed_and_deleted(core: client.CoreV1Api) -> None:
    made = core.create_namespaced_config_map("default", settings("typed", a="1"))
    assert made.metadata.creation_timestamp <= datetime.now(UTC)
    made.data["a"] = "2"
    changed = core.replace_namespaced_config_map("typed", "default", made)
    assert changed.data == {"a": "2"}
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("typed", "default", made)
    assert stale.value.status == 409
    patched = core.patch_namespaced_config_map("typed", "default", {"data": {"b": "3"}})
    assert patched.data == {"a": "2", "b": "3"}
    found = core.list_namespaced_config_map("default", label_selector="app=t")
    assert [item.metadata.name for item in found.items] == ["typed"]
    assert core.delete_namespaced_config_map("typed", "default")["status"] == "Success"
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("typed", "default")
    assert gone.value.reason == "Not Found"


def test_pages_of_a_list(core: client.CoreV1Api) -> None:
    for number in range(5):
        core.create_namespaced_config_map("kube-public", settings(f"page-{number}"))
    names, go_on = [], None
    while go_on != "":
        page = core.list_namespaced_config_map("kube-public", limit=2, _continue=go_on, label_selector="app=t")
        names += [item.metadata.name for item in page.items]
        go_on = page.metadata._continue or ""
        core.create_namespaced_config_map("kube-public", settings(f"page-1{len(names)}"))
    assert names == [f"page-{number}" for number in range(5)]


def test_workloads_run(api: client.ApiClient, core: client.CoreV1Api, until) -> None:
    container = client.V1Container(name="c", image="registry.example/c:1")
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "w"}), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(
        replicas=2, selector=client.V1LabelSelector(match_labels={"app": "w"}), template=template
    )
    apps = client.AppsV1Api(api)
    apps.create_namespaced_deployment("default", client.V1Deployment(metadata=client.V1ObjectMeta(name="w"), spec=spec))
    until(lambda: apps.read_namespaced_deployment_status("w", "default").status.available_replicas == 2)
    apps.patch_namespaced_deployment_scale("w", "default", {"spec": {"replicas": 1}})
    until(lambda: len(core.list_namespaced_pod("default", label_selector="app=w").items) == 1)
    pod = core.list_namespaced_pod("default", label_selector="app=w").items[0]
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace="default"))
    core.create_namespaced_pod_eviction(pod.metadata.name, "default", eviction)
    until(lambda: pod.metadata.name not in [p.metadata.name for p in core.list_namespaced_pod("default").items])


def test_a_watch_tells_what_happens(core: client.CoreV1Api) -> None:
    seen: list[tuple[str, str]] = []
    start = core.list_namespaced_config_map("kube-system").metadata.resource_version
    stream = watch.Watch()

    def look() -> None:
        for event in stream.stream(
            core.list_namespaced_config_map, "kube-system", resource_version=start, timeout_seconds=5
        ):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                stream.stop()

    looking = threading.Thread(target=look)
    looking.start()
    core.create_namespaced_config_map("kube-system", settings("seen"))
    core.patch_namespaced_config_map("seen", "kube-system", {"data": {"x": "y"}})
    core.delete_namespaced_config_map("seen", "kube-system")
    looking.join(10)
    assert [event for event in seen if event[1] == "seen"] == [
        ("ADDED", "seen"),
        ("MODIFIED", "seen"),
        ("DELETED", "seen"),
    ]


def test_the_dynamic_client_applies_on_the_servers_side(api: client.ApiClient) -> None:
    found = dynamic.DynamicClient(api)
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dyn"}, "data": {"a": "1"}}
    maps.server_side_apply(body, name="dyn", namespace="default", field_manager="one")
    body["data"]["a"] = "2"
    with pytest.raises(dynamic.exceptions.ConflictError):
        maps.server_side_apply(body, name="dyn", namespace="default", field_manager="two")
    forced = maps.server_side_apply(body, name="dyn", namespace="default", field_manager="two", force_conflicts=True)
    assert forced.data.a == "2"
    assert [entry.manager for entry in forced.metadata.managedFields] == ["two"]
    assert maps.delete(name="dyn", namespace="default").status == "Success"


def test_the_dynamic_client_finds_custom_kinds(api: client.ApiClient, running: Running) -> None:
    from labkit.twin.kube import crd_files

    running.do(crd_files.install, running.server.core, "longhorn-v1.12.1")
    found = dynamic.DynamicClient(api)
    volumes = found.resources.get(api_version="longhorn.io/v1beta2", kind="Volume")
    body = {
        "apiVersion": "longhorn.io/v1beta2",
        "kind": "Volume",
        "metadata": {"name": "pvc-1"},
        "spec": {"size": "1073741824", "numberOfReplicas": 2, "frontend": "blockdev"},
    }
    made = volumes.create(body=body, namespace="default")
    assert made.spec.numberOfReplicas == 2
    volumes.status.patch(
        body={"status": {"state": "attached", "robustness": "healthy"}},
        name="pvc-1",
        namespace="default",
        content_type="application/merge-patch+json",
    )
    assert volumes.get(name="pvc-1", namespace="default").status.robustness == "healthy"
    body["spec"]["frontend"] = "telepathy"
    body["metadata"]["name"] = "pvc-2"
    with pytest.raises(dynamic.exceptions.UnprocessibleEntityError, match="Unsupported value"):
        volumes.create(body=body, namespace="default")


class EndingLock(LeaseLock):
    """A lock whose candidates leave when they are told to; on their own they never do."""

    over = threading.Event()

    def get(self, name: str, namespace: str):
        if self.over.is_set():
            raise SystemExit
        return super().get(name, namespace)


def test_leaders_are_elected_by_a_lease(api: client.ApiClient, until) -> None:
    led: list[str] = []

    def candidate(name: str) -> None:
        lock = EndingLock("leader", "default", name)
        lock.api_instance = client.CoordinationV1Api(api)
        config = electionconfig.Config(
            lock,
            lease_duration=3,
            renew_deadline=2,
            retry_period=1,
            onstarted_leading=lambda: led.append(name),
            onstopped_leading=lambda: None,
        )
        with contextlib.suppress(SystemExit):
            leaderelection.LeaderElection(config).run()

    threads = [threading.Thread(target=candidate, args=(name,), daemon=True) for name in ("one", "two")]
    leases = client.CoordinationV1Api(api)
    threads[0].start()
    until(lambda: led)
    threads[1].start()
    renewed = leases.read_namespaced_lease("leader", "default").spec.renew_time
    until(lambda: leases.read_namespaced_lease("leader", "default").spec.renew_time > renewed)
    EndingLock.over.set()
    for thread in threads:
        thread.join(10)
    assert led == ["one"]
    assert leases.read_namespaced_lease("leader", "default").spec.holder_identity == "one"
