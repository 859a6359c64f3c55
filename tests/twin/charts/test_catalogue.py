"""Versions, ranges, and what charts make of their values."""

from __future__ import annotations

import asyncio

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labkit.twin.charts import Catalogue, ChartMissing
from labkit.twin.charts.semver import Version, newest, parse_version, satisfies

from .conftest import Lab


@pytest.mark.parametrize(
    ("version", "text", "fits"),
    [
        ("1.2.3", "1.2.3", True), ("1.2.3", "v1.2.3", True), ("1.2.3", "=1.2.4", False), ("1.2.3", "1.2.x", True),
        ("1.2.3", "1.*", True), ("2.0.0", "1.x", False), ("1.2.3", "*", True), ("1.2.3", "", True),
        ("1.2.3", ">=1.2.0 <2.0.0", True), ("2.0.0", ">=1.2.0, <2.0.0", False), ("1.9.0", "^1.2", True),
        ("2.0.0", "^1.2", False), ("0.3.0", "^0.2.1", False), ("0.2.9", "^0.2.1", True), ("1.2.9", "~1.2.3", True),
        ("1.3.0", "~1.2.3", False), ("1.3.0", "~1", True), ("3.0.0", "1.x || >=3", True), ("1.5.0", "1.2 - 1.6", True),
        ("2.0.0-rc1", ">=1", False), ("2.0.0-rc1", ">=2.0.0-0", True), ("1.2.3", "!=1.2.3", False),
    ],
)  # fmt: skip
def test_ranges(version: str, text: str, fits: bool) -> None:
    parsed = parse_version(version)
    assert parsed is not None
    assert satisfies(parsed, text) is fits


@given(st.tuples(*[st.integers(0, 50)] * 3), st.tuples(*[st.integers(0, 50)] * 3))
def test_versions_are_ordered_by_their_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    texts = [".".join(map(str, numbers)) for numbers in (one, other)]
    assert newest(texts, "*") == texts[0 if one >= other else 1]
    assert (Version(*one) < Version(*other)) == (one < other)
    assert satisfies(Version(*one), f">={texts[0]}")


@pytest.mark.parametrize(
    ("chart", "wanted", "version"),
    [
        ("longhorn", "1.10.2", "1.10.2"), ("longhorn", "1.10.x", "1.10.2"), ("longhorn", "v1.9.1", "1.9.1"),
        ("cert-manager", "v1.21.1", "v1.21.1"), ("cert-manager", "1.21.1", "v1.21.1"), ("metallb", "*", "0.16.1"),
        ("traefik", "37.1.1", "37.1.1"), ("traefik", "37.x", "37.0.1"), ("reflector", "10.0.63", "10.0.63"),
        ("anything", "3.2.1", "3.2.1"),
    ],
)  # fmt: skip
def test_the_version_that_a_range_leads_to(chart: str, wanted: str, version: str) -> None:
    assert Catalogue().find(chart, wanted).version == version


@pytest.mark.parametrize(
    ("chart", "wanted"), [("longhorn", "1.10.9"), ("longhorn", "2.x"), ("traefik", "99.0.0"), ("metallb", "0.12.0")]
)
def test_versions_that_do_not_exist(chart: str, wanted: str) -> None:
    with pytest.raises(ChartMissing, match=f"no '{chart}' chart with version matching '{wanted}' found"):
        Catalogue().find(chart, wanted)


@pytest.mark.parametrize(
    ("chart", "version", "deployments"),
    [
        ("cert-manager", "1.21.1", {"cert-manager", "cert-manager-cainjector", "cert-manager-webhook"}),
        ("traefik", "37.1.1", {"traefik"}),
        ("reflector", "10.0.63", {"reflector"}),
        ("metallb", "0.16.1", {"metallb-controller"}),
        ("podinfo", "6.7.1", {"podinfo"}),
    ],
)
def test_what_a_chart_makes_is_taken_by_the_api_and_runs(lab, chart: str, version: str, deployments: set[str]) -> None:
    async def story() -> None:
        async with lab() as one:
            await one.install(chart, version, {"crds": {"enabled": True}})
            found = one.api.list("deployments.apps", chart)
            assert {item["metadata"]["name"] for item in found} == deployments
            await one.until(
                lambda: all(d["status"].get("availableReplicas") for d in one.api.list("deployments.apps", chart))
            )

    asyncio.run(story())


def rendered(chart: str, version: str, **values: object) -> dict[tuple[str, str], dict]:
    found = Catalogue().find(chart, version)
    return {(o["kind"], o["metadata"]["name"]): o for o in found.chart.render(found.release(chart, "space", values))}


@pytest.mark.parametrize(
    ("version", "store"), [("1.10.2", {"backup-target": "nfs://b:/c", "backupstore-poll-interval": 60}), ("1.7.3", {})]
)
def test_longhorn_reads_the_backup_target_where_its_version_does(version: str, store: dict[str, object]) -> None:
    made = rendered(
        "longhorn", version, defaultSettings={"backupTarget": "nfs://a:/b", "nodeDrainPolicy": "always-allow"},
        defaultBackupStore={"backupTarget": "nfs://b:/c", "pollInterval": 60 if version == "1.10.2" else None},
    )  # fmt: skip
    settings = yaml.safe_load(made[("ConfigMap", "longhorn-default-setting")]["data"]["default-setting.yaml"])
    resources = yaml.safe_load(made[("ConfigMap", "longhorn-default-resource")]["data"]["default-resource.yaml"]) or {}
    assert settings["node-drain-policy"] == "always-allow"
    assert resources == {key: str(value) for key, value in store.items()} or resources == store
    assert ("backup-target" in settings) is (version == "1.7.3")


def test_traefik_gets_the_arguments_of_its_values() -> None:
    made = rendered(
        "traefik", "37.1.1", deployment={"replicas": 2}, additionalArguments=["--accesslog"],
        ports={"web": {"redirections": {"entryPoint": {"to": "websecure", "scheme": "https", "permanent": True}}}},
        providers={"kubernetesCRD": {"ingressClass": "ours", "allowCrossNamespace": True}},
        service={"annotations": {"metallb.io/loadBalancerIPs": "192.168.5.50"}},
    )  # fmt: skip
    deployment = made[("Deployment", "traefik")]
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert deployment["spec"]["replicas"] == 2
    assert {"--entryPoints.websecure.address=:8443/tcp", "--providers.kubernetescrd.ingressClass=ours",
            "--providers.kubernetescrd.allowCrossNamespace=true", "--accesslog",
            "--entryPoints.web.http.redirections.entryPoint.to=:443"} <= set(args)  # fmt: skip
    assert "--providers.kubernetescrd.allowExternalNameServices=true" not in args
    service = made[("Service", "traefik")]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": "192.168.5.50"}


def test_longhorn_gets_its_class_its_driver_and_pinned_volumes(lab) -> None:
    async def story() -> None:
        async with lab() as one:
            await one.install("longhorn", "1.10.2", {"persistence": {"defaultClassReplicaCount": 2}}, "longhorn-system")
            claim(one, "data", "pvc-6f2b5e0e-0000-4000-8000-000000000001")
            await one.until(lambda: one.get("persistentvolumeclaims", "data")["status"].get("phase") == "Bound")
            found = one.get("storageclasses.storage.k8s.io", "longhorn", "")
            assert found["parameters"]["numberOfReplicas"] == "2"
            volume = one.get("persistentvolumes", "pvc-6f2b5e0e-0000-4000-8000-000000000001", "")
            assert volume["spec"]["csi"]["driver"] == "driver.longhorn.io"
            assert one.get("deployments.apps", "csi-provisioner", "longhorn-system")["spec"]["replicas"] == 3

    asyncio.run(story())


def claim(lab: Lab, name: str, volume: str) -> None:
    lab.api.create("persistentvolumeclaims", {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn", "volumeName": volume,
                 "resources": {"requests": {"storage": "1Gi"}}},
    })  # fmt: skip
