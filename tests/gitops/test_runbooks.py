"""The runbooks of Flux and of apps on a whole twin: real git, kubectl, sops and Traefik; each fault by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.apps import app_as_wanted
from labkit.checks.flux import flux_is_live, flux_preflight
from labkit.errors import CheckFailed, LabError, StepFailed, SystemDown
from labkit.plan import Plan
from labkit.rules.apps import plan_app
from labkit.rules.flux import plan_flux
from labkit.run import Run, start
from labkit.run.apps import load_app
from labkit.run.preview import preview_app
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.routes import probe_route
from labkit.twin.client import TwinHandle, start_twin
from tests.gitops.hosts import write_small_lab

pytestmark = pytest.mark.slow
APP = {"image": "ghcr.io/traefik/whoami:v1.11.0", "port": 80}


@dataclass
class Side:
    """A whole twin with a cluster of one VM, and the runs that join it."""

    lab_file: Path
    twin: TwinHandle
    output: Path

    def bootstrap(self, **wants: Any) -> tuple[Plan, Run]:
        """Do what the notebook 30-bootstrap-flux does."""
        run = start("bootstrap-flux", lab=self.lab_file)
        try:
            facts = run.read("git", "flux")
            run.verify(*flux_preflight(run.lab))
            plan = run.plan(plan_flux, facts, **wants)
            run.apply(plan)
            run.verify(flux_is_live(run.lab))
            run.finish()
        finally:
            run.close()
        return plan, run

    def add(self, name: str, *, remove: bool = False, destroy: tuple[str, ...] = (), via: str = "push",
            **given: Any) -> Plan:  # fmt: skip
        """Do what the notebook 40-add-app does."""
        run = start("add-app", lab=self.lab_file)
        try:
            app = load_app(run.lab, name, remove=remove, **given)
            facts = run.read("git", "flux", "apps")
            run.verify(*flux_preflight(run.lab), flux_is_live(run.lab))
            plan = run.plan(plan_app, facts, app=app, remove=remove, destroy=destroy, via=via)
            preview_app(run, plan, app=app, remove=remove, via=via)
            run.apply(plan)
            run.verify(app_as_wanted(run.lab, app, remove=remove, via=via))
            run.finish()
        finally:
            run.close()
        return plan


@contextmanager
def side_of(folder: Path) -> Iterator[Side]:
    lab_file = write_small_lab(folder / "parameters" / "lab.yaml")
    with pytest.MonkeyPatch.context() as patch:
        twin = start_twin(lab_file, state=folder / "twin", scenario="k3s", scale=0.01, parent=os.getpid())
        patch.setenv("LABKIT_TWIN", str(twin.state))
        patch.setenv("LABKIT_OUTPUT", str(folder / "output"))
        try:
            yield Side(lab_file, twin, folder / "output")
        finally:
            twin.stop(remove=True)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Side]:
    """A twin of this test alone; k3s runs on it and nothing else."""
    with side_of(tmp_path) as side:
        yield side


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    """A twin that the tests of this module go on with: k3s runs on it, and what they leave."""
    with side_of(tmp_path_factory.mktemp("shared")) as side:
        yield side


@pytest.fixture(scope="module")
def live(shared: Side) -> Side:
    """The same twin when Flux runs on it."""
    shared.bootstrap()
    return shared


def kustomization(run: Run, name: str) -> dict[str, Any]:
    path = f"/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/{name}"
    found: dict[str, Any] = open_cluster(run.lab, run.access).get(path)
    return found


def stopped(side: Side, fault: str, kind: type[LabError], words: list[str], do: Callable[[], object]) -> None:
    """A run that a fault ends, with its kind of error (so its exit status) and these words; the fault goes again."""
    side.twin.fault(fault)
    try:
        with pytest.raises(LabError) as caught:
            do()
    finally:
        side.twin.clear(fault.partition(":")[0])
    assert type(caught.value).exit_status == kind.exit_status, caught.value
    for word in words:
        assert word in str(caught.value)


BEFORE: list[tuple[str, type[LabError], list[str]]] = [
    ("git-unreachable", SystemDown, ["Git git.small.example: expected a login", "look whether the Git server is up"]),
    ("kustomization-broken:infrastructure-configs", CheckFailed, ["configs/kustomization.yaml:", "not-there.yaml"]),
    ("wrong-age-key", CheckFailed, ["secret.yaml: expected git.age_key to open it", "another key", "--age-key"]),
]


def test_each_fault_stops_the_bootstrap_with_its_deepest_cause_and_the_next_run_goes_on(shared: Side) -> None:
    writes = shared.twin.status()["writes"].get("kubernetes", 0)
    for fault, kind, words in BEFORE:
        stopped(shared, fault, kind, words, shared.bootstrap)
    assert shared.twin.status()["writes"].get("kubernetes", 0) == writes
    words = ["HelmRelease/longhorn-system/longhorn", "longhorn/helmrelease.yaml:1", "Helm install failed"]
    stopped(shared, "chart-fails:longhorn", StepFailed, words, shared.bootstrap)
    assert [change.kind for change in shared.bootstrap()[0].changes] == ["chain"]


ON_AN_APP: list[tuple[str, type[LabError], list[str]]] = [
    ("git-unreachable", SystemDown, ["Git git.small.example: expected a login"]),
    ("kustomization-broken:apps", CheckFailed, ["apps/zz-broken/kustomization.yaml:", "not-there.yaml"]),
    ("wrong-age-key", CheckFailed, ["secret.yaml: expected git.age_key to open it", "another key"]),
]


@pytest.mark.parametrize(("fault", "kind", "words"), ON_AN_APP, ids=[fault for fault, _, _ in ON_AN_APP])
def test_each_fault_stops_an_app_before_anything_is_pushed(
    live: Side, fault: str, kind: type[LabError], words: list[str]
) -> None:
    pushes = live.twin.status()["writes"].get("git", 0)
    stopped(live, fault, kind, words, lambda: live.add("demo", **APP))
    assert live.twin.status()["writes"].get("git", 0) == pushes
    live.bootstrap()


def test_apps_come_live_behind_traefik_and_go_again(live: Side) -> None:
    live.twin.fault("git-branch-moves")
    assert live.add("demo", **APP)
    assert live.twin.status()["faults"] == []
    assert live.add("plain", authentication="none", **APP)
    oidc = {**APP, "authentication": "oidc", "callback": "/cb", "config": "1Gi", "secrets": {"KEY": "env:DEMO_KEY"}}
    assert live.add("own", **oidc)
    assert not live.add("own", **oidc)
    assert live.add("later", via="pull-request", **APP)
    assert not live.add("later", via="pull-request", **APP)
    run = start("add-app", lab=live.lab_file)
    rows = {
        name: probe_route(run.lab, run.access, f"{name}.{run.lab.domain}") for name in ("demo", "plain", "own", "no")
    }
    run.close()
    assert {name: (row.verified, row.status) for name, row in rows.items()} == {
        "demo": (True, 302), "plain": (True, 200), "own": (True, 200), "no": (True, 404),
    }  # fmt: skip
    assert live.add("own", remove=True)
    text = "".join(path.read_text(errors="replace") for path in live.output.rglob("*") if path.is_file())
    for secret in live.twin.secrets.values():
        assert secret.strip() not in text
    assert "OPENSSH PRIVATE KEY" not in text


def test_flux_is_set_up_with_apps_asleep_from_the_first_moment_and_woken_later(fresh: Side) -> None:
    plan, run = fresh.bootstrap(suspend=["apps"])
    assert "kustomization/apps/create" in {change.id for change in plan.changes}
    asleep = kustomization(run, "apps")
    assert asleep["spec"]["suspend"] is True
    assert "inventory" not in (asleep.get("status") or {})
    assert not fresh.bootstrap(suspend=["apps"])[0]
    woken, run = fresh.bootstrap(resume=["apps"])
    assert [change.kind for change in woken.changes] == ["kustomization", "chain"]
    found = kustomization(run, "apps")
    assert "suspend" not in found["spec"]
    assert not [m for m in found["metadata"]["managedFields"] if m["manager"] == "labkit" and "f:spec" in m["fieldsV1"]]
    assert not fresh.bootstrap()[0]
