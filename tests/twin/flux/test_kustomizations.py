"""GitRepository and Kustomization over real git, kubectl and sops."""

from __future__ import annotations

import asyncio
import base64

import pyrage
import pytest
import yaml

from .conftest import KUSTOMIZATION, SOURCE, condition, config_map, encrypt, kustomization, secret, source


def test_a_commit_is_applied_and_what_goes_is_pruned(lab) -> None:
    async def story() -> None:
        async with lab({"apps/a.yaml": config_map("a", x="1"), "apps/sub/b.yaml": config_map("b", y="2")}) as one:
            one.apply(one.secret(), source(), kustomization("apps", "./apps"))
            await one.ready_at(one.bare.head(), "apps")
            assert one.ready(KUSTOMIZATION, "apps")[2] == f"Applied revision: main@sha1:{one.bare.head()}"
            state = one.get(KUSTOMIZATION, "apps")["status"]
            assert [entry["id"] for entry in state["inventory"]["entries"]] == [
                "default_a__ConfigMap", "default_b__ConfigMap",
            ]  # fmt: skip
            made = one.get("configmaps", "a", "default")
            assert made["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] == "apps"
            assert made["metadata"]["managedFields"][0]["manager"] == "kustomize-controller"
            new = await one.push({"apps/a.yaml": config_map("a", x="3"), "apps/sub/b.yaml": None})
            await one.ready_at(new, "apps")
            assert one.get("configmaps", "a", "default")["data"] == {"x": "3"}
            assert one.get("configmaps", "b", "default") is None
            artifact = one.get(SOURCE, "flux-system")["status"]["artifact"]
            assert artifact["revision"] == f"main@sha1:{new}"
            assert artifact["digest"].startswith("sha256:")
            assert condition(one.get(SOURCE, "flux-system"), "ArtifactInStorage")[0] == "True"

    asyncio.run(story())


def test_an_order_is_kept_and_a_suspended_one_is_left_alone(lab) -> None:
    async def story() -> None:
        files = {"first/a.yaml": config_map("a", x="1"), "second/b.yaml": config_map("b", x="1")}
        async with lab(files) as one:
            first = kustomization("first", "./first", suspend=True)
            second = kustomization("second", "./second", dependsOn=[{"name": "first"}])
            one.apply(one.secret(), source(), first, second)
            said = await one.fails(KUSTOMIZATION, "second", "DependencyNotReady")
            assert said == "dependency 'flux-system/first' is not ready"
            assert "conditions" not in one.get(KUSTOMIZATION, "first")["status"]
            one.api.patch(KUSTOMIZATION, "first", {"spec": {"suspend": None}}, "flux-system")
            await one.ready_at(one.bare.head(), "first", "second")
            new = await one.push({"first/a.yaml": config_map("a", x="2")})
            await one.ready_at(new, "first", "second")

    asyncio.run(story())


def test_a_field_of_another_manager_is_left_to_it(lab) -> None:
    async def story() -> None:
        inner = yaml.safe_dump(kustomization("inner", "./inner"))
        async with lab({"cluster/inner.yaml": inner, "inner/a.yaml": config_map("a", x="1")}) as one:
            held = kustomization("inner", "./inner")
            held["spec"] = {**held["spec"], "suspend": True}
            one.api.apply(held, manager="labkit", force=True)
            one.apply(one.secret(), source(), kustomization("cluster", "./cluster"))
            await one.ready_at(one.bare.head(), "cluster")
            assert one.get(KUSTOMIZATION, "inner")["spec"]["suspend"] is True
            assert one.get("configmaps", "a", "default") is None

    asyncio.run(story())


def test_a_request_is_handled_once(lab) -> None:
    async def story() -> None:
        async with lab({"apps/a.yaml": config_map("a", x="1")}) as one:
            one.apply(one.secret(), source(interval="1h"), kustomization("apps", "./apps"))
            await one.ready_at(one.bare.head(), "apps")
            new = await one.push({"apps/a.yaml": config_map("a", x="2")})
            one.request(SOURCE, "flux-system", "2026-01-01T00:00:00Z")
            await one.ready_at(new, "apps")
            assert one.get(SOURCE, "flux-system")["status"]["lastHandledReconcileAt"] == "2026-01-01T00:00:00Z"
            one.api.patch("configmaps", "a", {"data": {"x": "by hand"}}, "default")
            one.request(KUSTOMIZATION, "apps", "now")
            await one.until(lambda: one.get("configmaps", "a", "default")["data"] == {"x": "2"})
            await one.until(lambda: one.get(KUSTOMIZATION, "apps")["status"].get("lastHandledReconcileAt") == "now")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("files", "spec", "reason", "said"),
    [
        ({"apps/kustomization.yaml": "resources: [absent.yaml]\n"}, {}, "BuildFailed", "no such file or directory"),
        ({"apps/a.yaml": "kind: [\n"}, {}, "BuildFailed", "failed to decode Kubernetes YAML"),
        ({"elsewhere/a.yaml": "x: 1\n"}, {}, "ArtifactFailed", "kustomization path not found"),
        ({"apps/a.yaml": config_map("a", x="${NAME}")}, {"postBuild": {"substitute": {"OTHER": "x"}}}, "BuildFailed",
         'variable not set (strict mode): "NAME"'),
        ({"apps/a.yaml": config_map("a", x="1")}, {"postBuild": {"substituteFrom": [
            {"kind": "ConfigMap", "name": "absent"}]}}, "BuildFailed", "substitute from 'ConfigMap/absent' error"),
        ({"apps/a.yaml": config_map("a", x="1").replace("default", "absent")}, {}, "ReconciliationFailed",
         'ConfigMap/absent/a dry-run failed (NotFound): namespaces "absent" not found'),
        ({"apps/a.yaml": config_map("a", x="1").replace("v1", "acme.example/v1")}, {}, "ReconciliationFailed",
         'no matches for kind "ConfigMap" in version "acme.example/v1"'),
        ({"apps/a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: default}\nspec: {ports: []}\n"},
         {}, "ReconciliationFailed", "Service/default/a dry-run failed (Invalid)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_its_own_words(lab, files, spec, reason, said) -> None:
    async def story() -> None:
        async with lab(files) as one:
            one.apply(one.secret(), source(), kustomization("apps", "./apps", **spec))
            await one.fails(KUSTOMIZATION, "apps", reason, said)
            state = one.get(KUSTOMIZATION, "apps")
            assert "lastAppliedRevision" not in state["status"]
            assert state["status"].get("observedGeneration") != state["metadata"]["generation"]
            assert condition(state, "Reconciling")[1] == "ProgressingWithRetry"

    asyncio.run(story())


def test_secrets_are_decrypted_and_a_wrong_key_is_named(lab) -> None:
    right, wrong = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    clear = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  password: not-for-all\n"
    files = {
        "apps/kustomization.yaml": "namespace: default\nresources: [secret.yaml]\nsecretGenerator:\n- name: made\n"
        "  options: {disableNameSuffixHash: true}\n  envs: [made.env]\n",
        "apps/secret.yaml": encrypt(clear, str(right.to_public()), "yaml"),
        "apps/made.env": encrypt("KEY=from-a-file\n", str(right.to_public()), "dotenv"),
    }

    async def story() -> None:
        async with lab(files) as one:
            keyed = {"provider": "sops", "secretRef": {"name": "sops-age"}}
            one.apply(one.secret(), source(), kustomization("apps", "./apps", decryption=keyed))
            assert "not found" in await one.fails(KUSTOMIZATION, "apps", "BuildFailed")
            one.apply(secret("sops-age", {"age.agekey": str(wrong)}))
            one.request(KUSTOMIZATION, "apps", "1")
            await one.until(lambda: "cannot get sops data key" in one.ready(KUSTOMIZATION, "apps")[2])
            one.apply(secret("sops-age", {"age.agekey": f"# a comment\n{right}\n"}))
            one.request(KUSTOMIZATION, "apps", "2")
            await one.ready_at(one.bare.head(), "apps")
            data = one.get("secrets", "s", "default")["data"]
            assert base64.b64decode(data["password"]) == b"not-for-all"
            made = one.get("secrets", "made", "default")["data"]
            assert base64.b64decode(made["KEY"]) == b"from-a-file"

    asyncio.run(story())


def test_an_encrypted_secret_without_decryption_is_refused(lab) -> None:
    key = pyrage.x25519.Identity.generate()
    clear = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  namespace: default\nstringData:\n  p: hidden\n"

    async def story() -> None:
        async with lab({"apps/s.yaml": encrypt(clear, str(key.to_public()), "yaml")}) as one:
            one.apply(one.secret(), source(), kustomization("apps", "./apps"))
            said = await one.fails(KUSTOMIZATION, "apps", "ReconciliationFailed")
            assert said == ("Secret/default/s is SOPS encrypted, configuring decryption is required for this secret "
                            "to be reconciled")  # fmt: skip

    asyncio.run(story())


def test_what_the_spec_adds_counts_in_the_build(lab) -> None:
    async def story() -> None:
        deployment = (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: default}\nspec:\n"
            "  replicas: ${COUNT:=1}\n  selector: {matchLabels: {app: web}}\n  template:\n"
            "    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: 'web:1'}]}\n"
        )
        async with lab({"apps/web.yaml": deployment}) as one:
            one.api.create("namespaces", {"metadata": {"name": "other"}})
            one.api.create("configmaps", {"metadata": {"name": "v", "namespace": "flux-system"},
                                          "data": {"COUNT": "3", "UNUSED": "x"}})  # fmt: skip
            patch = "- op: add\n  path: /metadata/annotations\n  value: {note: here}\n"
            spec = {
                "targetNamespace": "other", "images": [{"name": "web", "newTag": "2"}], "wait": True,
                "patches": [{"patch": patch, "target": {"kind": "Deployment"}}],
                "postBuild": {"substituteFrom": [{"kind": "ConfigMap", "name": "v"}], "substitute": {"COUNT": "2"}},
                "commonMetadata": {"labels": {"team": "home"}},
            }  # fmt: skip
            one.apply(one.secret(), source(), kustomization("apps", "./apps", **spec))
            await one.ready_at(one.bare.head(), "apps")
            made = one.get("deployments.apps", "web", "other")
            assert made["spec"]["replicas"] == 2
            assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
            assert made["metadata"]["annotations"]["note"] == "here"
            assert made["metadata"]["labels"]["team"] == "home"
            assert condition(one.get(KUSTOMIZATION, "apps"), "Healthy")[0] == "True"
            assert made["status"]["readyReplicas"] == 2

    asyncio.run(story())


def test_a_health_check_fails_when_its_time_is_over(lab) -> None:
    async def story() -> None:
        claim = (
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: default}\nspec:\n"
            "  accessModes: [ReadWriteOnce]\n  storageClassName: absent\n  resources: {requests: {storage: 1Gi}}\n"
        )
        async with lab({"apps/pvc.yaml": claim}) as one:
            one.apply(one.secret(), source(), kustomization("apps", "./apps", wait=True, timeout="20s"))
            said = await one.fails(KUSTOMIZATION, "apps", "HealthCheckFailed")
            assert "timeout waiting for: [PersistentVolumeClaim/default/data status: 'InProgress']" in said
            assert condition(one.get(KUSTOMIZATION, "apps"), "Healthy")[0] == "False"

    asyncio.run(story())


def test_deleting_one_takes_its_objects_along_save_protected_ones(lab) -> None:
    async def story() -> None:
        kept = config_map("kept", x="1").replace(
            "metadata:\n", "metadata:\n  annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}\n"
        )
        async with lab({"apps/a.yaml": config_map("a", x="1"), "apps/kept.yaml": kept}) as one:
            one.apply(one.secret(), source(), kustomization("apps", "./apps"))
            await one.ready_at(one.bare.head(), "apps")
            one.api.delete(KUSTOMIZATION, "apps", "flux-system")
            await one.until(lambda: one.get(KUSTOMIZATION, "apps") is None)
            assert one.get("configmaps", "a", "default") is None
            assert one.get("configmaps", "kept", "default") is not None

    asyncio.run(story())


def test_nothing_happens_while_the_controllers_do_not_run(lab) -> None:
    async def story() -> None:
        async with lab({"apps/a.yaml": config_map("a", x="1")}) as one:
            one.apply(one.secret(), source(), kustomization("apps", "./apps"))
            await one.ready_at(one.bare.head(), "apps")
            one.api.patch("deployments.apps", "kustomize-controller", {"spec": {"replicas": 0}}, "flux-system")
            await one.until(lambda: len(one.api.list("pods", "flux-system")) == 3)
            new = await one.push({"apps/a.yaml": config_map("a", x="2")})
            await one.until(lambda: one.get(SOURCE, "flux-system")["status"]["artifact"]["revision"].endswith(new))
            await one.clock.sleep(30)
            assert one.get("configmaps", "a", "default")["data"] == {"x": "1"}
            one.api.patch("deployments.apps", "kustomize-controller", {"spec": {"replicas": 1}}, "flux-system")
            await one.ready_at(new, "apps")

    asyncio.run(story())
