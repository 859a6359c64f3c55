"""GitRepository and Kustomization over real git, kubectl and sops."""

from __future__ import annotations

import asyncio

from .conftest import KUSTOMIZATION, SOURCE, condition, config_map, kustomization, source


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
