"""HelmRelease and what it needs: repositories, charts, values, remediation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from labkit.twin.kube.door import Object

from .conftest import RELEASE, condition

REPOSITORY = "helmrepositories.source.toolkit.fluxcd.io"
CHART = "helmcharts.source.toolkit.fluxcd.io"


def repository(**spec: Any) -> Object:
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmRepository",
        "metadata": {"name": "charts", "namespace": "default"},
        "spec": {"url": "https://charts.example.net", "interval": "1h", **spec},
    }  # fmt: skip


def release(name: str = "web", chart: str = "podinfo", version: str = "6.7.1", **spec: Any) -> Object:
    wanted = {"spec": {"chart": chart, "version": version, "sourceRef": {"kind": "HelmRepository", "name": "charts"}}}
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"interval": "10m", "timeout": "1m", **({} if "chartRef" in spec else {"chart": wanted}), **spec},
    }  # fmt: skip


def ready(one: Any, name: str = "web") -> Any:
    return one.ready(RELEASE, name, "default")


def test_a_release_is_installed_upgraded_and_taken_away(lab) -> None:
    async def story() -> None:
        async with lab({"a": "x"}) as one:
            one.apply(repository(), release(values={"replicaCount": 2, "image": {"repository": "r/p", "tag": "1"}}))
            await one.until(lambda: ready(one)[0] == "True")
            done = "Helm install succeeded for release default/web.v1 with chart podinfo@6.7.1"
            assert ready(one) == ("True", "InstallSucceeded", done)
            made = one.get("deployments.apps", "web-podinfo", "default")
            assert made["spec"]["replicas"] == made["status"]["readyReplicas"] == 2
            assert made["metadata"]["annotations"]["meta.helm.sh/release-name"] == "web"
            assert one.ready(CHART, "default-web", "default")[2] == "pulled 'podinfo' chart with version '6.7.1'"
            one.apply(release(values={"replicaCount": 1, "image": "r/p:2", "service": {"enabled": False}}))
            await one.until(lambda: ready(one)[1] == "UpgradeSucceeded" and ready(one)[0] == "True")
            assert one.get("services", "web-podinfo", "default") is None
            state = one.get(RELEASE, "web", "default")["status"]
            assert [(e["version"], e["status"]) for e in state["history"]] == [(2, "deployed"), (1, "superseded")]
            assert {s["metadata"]["name"] for s in one.api.list("secrets", "default", {"owner": "helm"})} == {
                "sh.helm.release.v1.web.v1", "sh.helm.release.v1.web.v2",
            }  # fmt: skip
            one.api.delete(RELEASE, "web", "default")
            await one.until(lambda: one.get(RELEASE, "web", "default") is None)
            assert one.get("deployments.apps", "web-podinfo", "default") is None
            await one.until(lambda: one.get(CHART, "default-web", "default") is None)

    asyncio.run(story())


def test_a_version_that_does_not_exist(lab) -> None:
    async def story() -> None:
        async with lab({"a": "x"}) as one:
            one.apply(repository(), release(chart="longhorn", version="9.9.9"))
            await one.until(lambda: ready(one)[1] == "SourceNotReady" and "matching" in ready(one)[2])
            why = "no 'longhorn' chart with version matching '9.9.9' found"
            said = f"invalid chart reference: failed to get chart version for remote reference: {why}"
            assert ready(one)[2] == f"HelmChart 'default/default-web' is not ready: {said}"
            assert condition(one.get(CHART, "default-web", "default"), "Stalled")[1] == "InvalidChartReference"

    asyncio.run(story())


def test_a_chart_that_fails_is_tried_again_and_then_left(lab) -> None:
    async def story() -> None:
        async with lab({"a": "x"}) as one:
            one.around.faults.set("chart-fails:podinfo")
            one.apply(repository(), release(install={"remediation": {"retries": 2}}))
            await one.until(lambda: condition(one.get(RELEASE, "web", "default"), "Stalled")[0] == "True")
            seen = one.get(RELEASE, "web", "default")
            assert condition(seen, "Stalled")[1:] == ("RetriesExceeded", "Failed to install after 3 attempt(s)")
            assert seen["status"]["installFailures"] == seen["status"]["failures"] == 3
            assert ready(one)[1] == "InstallFailed"
            assert ready(one)[2].startswith("Helm install failed for release default/web with chart podinfo@6.7.1: ")
            one.around.faults.clear("chart-fails")
            notes = {"reconcile.fluxcd.io/requestedAt": "1", "reconcile.fluxcd.io/resetAt": "1"}
            one.api.patch(RELEASE, "web", {"metadata": {"annotations": notes}}, "default")
            await one.until(lambda: ready(one)[0] == "True")
            assert condition(one.get(RELEASE, "web", "default"), "Stalled")[0] == ""

    asyncio.run(story())


def test_a_failed_upgrade_is_rolled_back(lab) -> None:
    async def story() -> None:
        async with lab({"a": "x"}) as one:
            one.apply(repository(), release(values={"image": "r/p:1"}))
            await one.until(lambda: ready(one)[0] == "True")
            one.around.faults.set("chart-fails:web")
            one.apply(release(values={"image": "r/p:2"}, upgrade={"remediation": {"retries": 1}}))
            await one.until(lambda: condition(one.get(RELEASE, "web", "default"), "Stalled")[0] == "True")
            assert condition(one.get(RELEASE, "web", "default"), "Remediated")[1] == "RollbackSucceeded"
            made = one.get("deployments.apps", "web-podinfo", "default")
            assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "r/p:1"

    asyncio.run(story())


def test_values_come_from_config_maps_and_secrets_in_order(lab) -> None:
    async def story() -> None:
        async with lab({"a": "x"}) as one:
            texts = {"values.yaml": "replicaCount: 3\nimage: {repository: r/p, tag: '1'}\n"}
            one.api.create("configmaps", {"metadata": {"name": "v", "namespace": "default"}, "data": texts})
            sources = [{"kind": "ConfigMap", "name": "v"},
                       {"kind": "Secret", "name": "s", "valuesKey": "tag", "targetPath": "image.tag"}]  # fmt: skip
            one.apply(repository(), release(values={"replicaCount": 1}, valuesFrom=sources))
            await one.until(lambda: ready(one)[1] == "ValuesError")
            assert 'secrets "s" not found' in ready(one)[2]
            one.api.create("secrets", {"metadata": {"name": "s", "namespace": "default"}, "data": {"tag": "djI="}})
            one.request(RELEASE, "web", "1", "default")
            await one.until(lambda: ready(one)[0] == "True")
            made = one.get("deployments.apps", "web-podinfo", "default")
            assert made["spec"]["replicas"] == 1
            assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "r/p:v2"

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["static", "reference"])
def test_charts_out_of_registries(lab, kind: str) -> None:
    async def story() -> None:
        async with lab({"a": "x"}) as one:
            if kind == "static":
                one.apply(repository(type="oci", url="oci://registry.example/charts"), release())
            else:
                one.apply({
                    "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "OCIRepository",
                    "metadata": {"name": "podinfo", "namespace": "default"},
                    "spec": {"url": "oci://registry.example/charts/podinfo", "interval": "1h",
                             "ref": {"tag": "6.7.1"}},
                }, release(chartRef={"kind": "OCIRepository", "name": "podinfo"}))  # fmt: skip
            await one.until(lambda: ready(one)[0] == "True")
            assert one.get(RELEASE, "web", "default")["status"]["history"][0]["chartVersion"] == "6.7.1"
            if kind == "static":
                assert condition(one.get(REPOSITORY, "charts", "default"), "Ready")[0] == ""

    asyncio.run(story())


def test_one_release_waits_for_another(lab) -> None:
    async def story() -> None:
        async with lab({"a": "x"}) as one:
            one.apply(repository(), release("second", dependsOn=[{"name": "first"}]))
            await one.until(lambda: ready(one, "second")[1] == "DependencyNotReady")
            one.apply(release("first"))
            await one.until(lambda: ready(one, "second")[0] == "True")

    asyncio.run(story())
