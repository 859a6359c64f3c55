"""Creating, changing and deleting through the door that controllers use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import ApiError, Event
from labkit.twin.kube.local import LocalApi, local_api

CONTAINER = {"name": "c", "image": "registry.example/c:1"}


@pytest.fixture
def api() -> LocalApi:
    return local_api()


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "labels": {"app": "p"}}
    return {"metadata": meta, "spec": {"containers": [CONTAINER], **spec}}


def config_map(name: str = "c", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", **meta}, "data": {"a": "1"}}


def refused(code: int) -> Any:
    return pytest.raises(ApiError, check=lambda error: error.code == code)


def test_the_server_starts_with_what_a_cluster_has(api: LocalApi) -> None:
    names = [space["metadata"]["name"] for space in api.list("namespaces")]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    service = api.get("services", "kubernetes", "default")
    assert service is not None
    assert service["spec"]["clusterIP"] == "10.43.0.1"


def test_names_and_ids_come_out_the_same_for_a_seed() -> None:
    made = [
        LocalApi(new_core(seed=7)).create("pods", {**pod(), "metadata": {"generateName": "p-", "namespace": "default"}})
        for _ in range(2)
    ]
    assert [m["metadata"]["name"] for m in made] == [made[0]["metadata"]["name"]] * 2
    assert made[0]["metadata"]["uid"] == made[1]["metadata"]["uid"]
    other = LocalApi(new_core(seed=8)).create("pods", pod())
    assert other["metadata"]["uid"] != made[0]["metadata"]["uid"]


def test_a_pod_is_completed(api: LocalApi) -> None:
    spec = api.create("pods", pod())["spec"]
    assert spec["serviceAccountName"] == "default"
    assert [t["key"] for t in spec["tolerations"]] == ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    assert {t["tolerationSeconds"] for t in spec["tolerations"]} == {300}
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"].endswith("/serviceaccount")
    assert spec["priority"] == 0
    critical = api.create("pods", pod("q", priorityClassName="system-node-critical"))
    assert critical["spec"]["priority"] == 2000001000


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
    ],
)
def test_the_quality_of_service(api: LocalApi, resources: Any, quality: str) -> None:
    body = pod(containers=[{**CONTAINER, "resources": resources}])
    assert api.create("pods", body)["status"]["qosClass"] == quality


def test_services_get_addresses_and_ports(api: LocalApi) -> None:
    def service(name: str, **spec: Any) -> Any:
        body = {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}], **spec}}
        return api.create("services", body)["spec"]

    first, second = service("a"), service("b", type="LoadBalancer")
    assert first["clusterIP"] != second["clusterIP"]
    assert 30000 <= second["ports"][0]["nodePort"] <= 32767
    assert service("c", clusterIP="None")["clusterIP"] == "None"
    outside = service("d", type="ExternalName", externalName="host.lab", ports=[])
    assert "clusterIP" not in outside
    again = api.patch("services", "b", {"spec": {"ports": [{"port": 80, "name": "web"}]}}, "default")
    assert again["spec"]["ports"][0]["nodePort"] == second["ports"][0]["nodePort"]
    assert again["spec"]["clusterIP"] == second["clusterIP"]


def test_a_claim_takes_the_default_class(api: LocalApi) -> None:
    note = {"storageclass.kubernetes.io/is-default-class": "true"}
    api.create("storageclasses.storage.k8s.io", {"metadata": {"name": "fast", "annotations": note}, "provisioner": "p"})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
    claim = api.create("persistentvolumeclaims", {"metadata": {"name": "c", "namespace": "default"}, "spec": spec})
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


def test_jobs_select_their_own_pods(api: LocalApi) -> None:
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}}
    job = api.create("jobs.batch", {"metadata": {"name": "j", "namespace": "default"}, "spec": spec})
    uid = job["metadata"]["uid"]
    assert job["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": uid}
    assert job["spec"]["template"]["metadata"]["labels"]["job-name"] == "j"


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("pods", {"spec": {"containers": []}}, "spec.containers: Required value"),
    ("pods", {"spec": {"containers": [{"name": "c"}]}}, "spec.containers[0].image: Required value"),
    (
        "pods",
        {"spec": {"containers": [{**CONTAINER, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}},
        'Not found: "v"',
    ),
    ("services", {"spec": {"type": "Strange", "ports": [{"port": 1}]}}, 'spec.type: Unsupported value: "Strange"'),
    ("services", {"spec": {"ports": [{"port": 0}]}}, "must be between 1 and 65535, inclusive"),
    ("services", {"spec": {"ports": [{"port": 1}, {"port": 2}]}}, "spec.ports[0].name: Required value"),
    ("services", {"spec": {"type": "ExternalName"}}, "spec.externalName: Required value"),
    (
        "deployments.apps",
        {"spec": {"replicas": -1, "template": {"spec": {"containers": [CONTAINER]}}}},
        "must be greater than or equal to 0",
    ),
    (
        "deployments.apps",
        {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}},
        "spec.selector: Required value",
    ),
    (
        "jobs.batch",
        {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}},
        'restartPolicy: Unsupported value: "Always"',
    ),
    ("cronjobs.batch", {"spec": {"schedule": "often", "jobTemplate": {}}}, "expected exactly 5 fields, found 1"),
    ("secrets", {"type": "kubernetes.io/tls"}, "data[tls.crt]: Required value"),
    ("persistentvolumeclaims", {"spec": {}}, "at least 1 access mode is required"),
    ("persistentvolumes", {"spec": {}}, "must specify a volume type"),
    ("storageclasses.storage.k8s.io", {}, "provisioner: Required value"),
    ("nodes", {"spec": {"taints": [{"key": "a", "effect": "Sometimes"}]}}, 'Unsupported value: "Sometimes"'),
    (
        "endpointslices.discovery.k8s.io",
        {"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]},
        "loopback range",
    ),
    ("poddisruptionbudgets.policy", {"spec": {"minAvailable": 1, "maxUnavailable": 1}}, "cannot be both set"),
    (
        "configmaps",
        {"data": {"a": "b"}, "metadata": {"name": "x", "namespace": "default", "labels": {"a": "b c"}}},
        "a valid label must be",
    ),
]


@pytest.mark.parametrize(("resource", "body", "said"), WRONG, ids=[f"{i}-{case[0]}" for i, case in enumerate(WRONG)])
def test_what_cannot_be_is_refused(api: LocalApi, resource: str, body: dict[str, Any], said: str) -> None:
    with refused(422) as error:
        api.create(resource, {"metadata": {"name": "x", "namespace": "default"}, **body})
    assert said in str(error.value)


def test_what_may_not_change_is_refused(api: LocalApi) -> None:
    api.create("configmaps", {**config_map(), "immutable": True})
    with refused(422) as error:
        api.patch("configmaps", "c", {"data": {"a": "2"}}, "default")
    assert "field is immutable when `immutable` is set" in str(error.value)
    api.create("pods", pod())
    with refused(422):
        api.patch("pods", "p", {"spec": {"hostname": "other"}}, "default")
    labels = {"app": "s"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [CONTAINER]}}
    spec = {"serviceName": "s", "selector": {"matchLabels": labels}, "template": template}
    api.create("statefulsets.apps", {"metadata": {"name": "s", "namespace": "default"}, "spec": spec})
    with refused(422):
        api.patch("statefulsets.apps", "s", {"spec": {"serviceName": "t"}}, "default")


def test_a_patch_that_changes_nothing_writes_nothing(api: LocalApi) -> None:
    made = api.create("configmaps", config_map())
    assert api.patch("configmaps", "c", {"data": {"a": "1"}}, "default") is made


def test_stale_writes_and_other_uids_are_conflicts(api: LocalApi) -> None:
    made = api.create("configmaps", config_map())
    api.patch("configmaps", "c", {"data": {"b": "2"}}, "default")
    with refused(409):
        api.update("configmaps", made)
    with refused(409):
        api.update("configmaps", {**config_map(uid="other")})


def test_status_and_spec_are_written_apart(api: LocalApi) -> None:
    made = api.create("pods", pod())
    changed = {**made, "status": {"phase": "Running"}, "spec": {**made["spec"], "activeDeadlineSeconds": 5}}
    api.update_status("pods", changed)
    found = api.get("pods", "p", "default")
    assert found is not None
    assert found["status"] == {"phase": "Running"}
    assert "activeDeadlineSeconds" not in found["spec"]
    assert found["metadata"]["generation"] == 1


def test_finalizers_hold_an_object(api: LocalApi) -> None:
    api.create("configmaps", config_map(finalizers=["example.org/a"]))
    api.delete("configmaps", "c", "default")
    with refused(422) as error:
        api.patch("configmaps", "c", {"metadata": {"finalizers": ["example.org/a", "example.org/b"]}}, "default")
    assert "no new finalizers can be added" in str(error.value)
    api.patch("configmaps", "c", {"metadata": {"finalizers": []}}, "default")
    assert api.get("configmaps", "c", "default") is None
    api.delete("configmaps", "c", "default")


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_is_left_to_the_collector(api: LocalApi, policy: Any, finalizer: str) -> None:
    api.create("configmaps", config_map())
    api.delete("configmaps", "c", "default", propagation=policy)
    found = api.get("configmaps", "c", "default")
    assert found is not None
    assert found["metadata"]["finalizers"] == [finalizer]


def test_a_pod_on_a_node_gets_its_grace(api: LocalApi) -> None:
    api.create("pods", pod())
    api.delete("pods", "p", "default")
    assert api.get("pods", "p", "default") is None
    api.create("pods", pod(nodeName="n1"))
    api.delete("pods", "p", "default")
    first = api.get("pods", "p", "default")
    assert first is not None
    assert first["metadata"]["deletionGracePeriodSeconds"] == 30
    api.delete("pods", "p", "default", grace=60)
    assert api.get("pods", "p", "default") is first
    api.delete("pods", "p", "default", grace=5)
    second = api.get("pods", "p", "default")
    assert second is not None
    assert second["metadata"]["deletionGracePeriodSeconds"] == 5
    api.delete("pods", "p", "default", grace=0)
    assert api.get("pods", "p", "default") is None


def test_namespaces_end_when_they_are_finalized(api: LocalApi) -> None:
    api.create("namespaces", {"metadata": {"name": "gone"}})
    api.delete("namespaces", "gone")
    found = api.get("namespaces", "gone")
    assert found is not None
    assert found["status"]["phase"] == "Terminating"
    with refused(403):
        api.create("configmaps", {"metadata": {"name": "late", "namespace": "gone"}})
    api.patch("namespaces", "gone", {"spec": {"finalizers": None}})
    assert api.get("namespaces", "gone") is not None
    api.patch("namespaces", "gone", {"spec": {"finalizers": None}}, subresource="finalize")
    assert api.get("namespaces", "gone") is None


def bind(api: LocalApi, name: str = "p", node: str = "n1") -> Any:
    meta = {"name": name, "namespace": "default"}
    return api.create("pods/binding", {"metadata": meta, "target": {"kind": "Node", "name": node}})


def test_a_pod_is_bound_once(api: LocalApi) -> None:
    api.create("pods", pod())
    bind(api)
    found = api.get("pods", "p", "default")
    assert found is not None
    assert found["spec"]["nodeName"] == "n1"
    with refused(409) as error:
        bind(api, node="n2")
    assert 'already assigned to node "n1"' in str(error.value)


def budget(**status: int) -> dict[str, Any]:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}
    return {
        "metadata": {"name": "b", "namespace": "default"},
        "spec": spec,
        "status": {"observedGeneration": 1, **status},
    }


def running(api: LocalApi, *, ready: str = "True") -> None:
    made = api.create("pods", pod())
    api.update_status(
        "pods", {**made, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}
    )


def evict(api: LocalApi) -> Any:
    return api.create("pods/eviction", {"metadata": {"name": "p", "namespace": "default"}})


def test_an_eviction_spends_a_budget(api: LocalApi) -> None:
    running(api)
    made = api.create("poddisruptionbudgets.policy", budget())
    api.update_status(
        "poddisruptionbudgets.policy", {**made, **budget(disruptionsAllowed=1), "metadata": made["metadata"]}
    )
    assert evict(api)["status"] == "Success"
    assert api.get("pods", "p", "default") is None
    left = api.get("poddisruptionbudgets.policy", "b", "default")
    assert left is not None
    assert left["status"]["disruptionsAllowed"] == 0
    assert list(left["status"]["disruptedPods"]) == ["p"]


def test_an_eviction_waits_for_the_budget_to_be_counted(api: LocalApi) -> None:
    running(api)
    api.create("poddisruptionbudgets.policy", budget())
    with refused(429) as error:
        evict(api)
    assert error.value.status["details"]["causes"][0]["message"].endswith("is still being processed by the server.")


def test_two_budgets_are_one_too_many(api: LocalApi) -> None:
    running(api)
    for name in ("b", "d"):
        api.create("poddisruptionbudgets.policy", {**budget(), "metadata": {"name": name, "namespace": "default"}})
    with refused(500) as error:
        evict(api)
    assert "more than one PodDisruptionBudget" in str(error.value)


def test_a_pod_that_does_not_run_is_evicted_freely(api: LocalApi) -> None:
    api.create("pods", pod())
    api.create("poddisruptionbudgets.policy", budget())
    evict(api)
    assert api.get("pods", "p", "default") is None


def test_a_watch_loses_nothing() -> None:
    api, changes = LocalApi(new_core(history=10)), 300  # more than the log of changes keeps

    async def look() -> list[Event]:
        stream = api.watch(["configmaps", "pods"])
        seen = [await anext(stream)]
        for number in range(changes):
            api.patch("configmaps", "c", {"data": {"a": f"n{number}"}}, "default")
        api.create("pods", pod())
        api.delete("configmaps", "c", "default")
        seen += [await anext(stream) for _ in range(changes + 2)]
        await stream.aclose()
        return seen

    api.create("configmaps", config_map())
    seen = asyncio.run(look())
    assert [(event.type, event.resource) for event in (seen[0], *seen[-3:])] == [
        ("ADDED", "configmaps"),
        ("MODIFIED", "configmaps"),
        ("ADDED", "pods"),
        ("DELETED", "configmaps"),
    ]
    assert seen[-3].object["data"] == {"a": f"n{changes - 1}"}


def test_lists_are_in_order_and_selected_by_labels(api: LocalApi) -> None:
    for name in ("b", "a-x", "a"):
        api.create("namespaces", {"metadata": {"name": name}})
        api.create("configmaps", {"metadata": {"name": "c", "namespace": name, "labels": {"n": name}}})
    places = [found["metadata"]["namespace"] for found in api.list("configmaps")]
    assert places == ["a-x", "a", "b"]
    assert [c["metadata"]["namespace"] for c in api.list("configmaps", labels={"n": "a"})] == ["a"]
    assert api.list("nosuch.example.org") == []
    with refused(404):
        api.create("nosuch.example.org", {"metadata": {"name": "x"}})
