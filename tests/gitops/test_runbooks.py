"""The runbooks of Flux and of apps on a whole twin: real git, kubectl, sops and Traefik; each fault by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
from tests.gitops.hosts import LAB_FILE

pytestmark = pytest.mark.slow
MakeTwin = Callable[..., TwinHandle]


@pytest.fixture
def make_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeTwin]:
    """Start a twin that the runs of a test join."""
    started: list[TwinHandle] = []

    def make(scenario: str, *faults: str) -> TwinHandle:
        twin = start_twin(LAB_FILE, state=tmp_path / f"twin-{len(started)}", scenario=scenario, faults=faults,
                          scale=0.01, parent=os.getpid())  # fmt: skip
        started.append(twin)
        monkeypatch.setenv("LABKIT_TWIN", str(twin.state))
        monkeypatch.setenv("LABKIT_OUTPUT", str(tmp_path / "output"))
        return twin

    yield make
    for twin in started:
        twin.stop()


def bootstrap(**wants: Any) -> tuple[Plan, Run]:
    """Do what the notebook 30-bootstrap-flux does."""
    run = start("bootstrap-flux", lab=LAB_FILE)
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


def add(name: str, *, remove: bool = False, destroy: tuple[str, ...] = (), via: str = "push", **given: Any) -> Plan:
    """Do what the notebook 40-add-app does."""
    run = start("add-app", lab=LAB_FILE)
    try:
        app = load_app(run.lab, name, remove=remove, **given)
        facts = run.read("git", "flux", "apps")
        run.verify(flux_is_live(run.lab))
        plan = run.plan(plan_app, facts, app=app, remove=remove, destroy=destroy, via=via)
        preview_app(run, plan, app=app, remove=remove, via=via)
        run.apply(plan)
        run.verify(app_as_wanted(run.lab, app, remove=remove, via=via))
        run.finish()
    finally:
        run.close()
    return plan


def kustomization(run: Run, name: str) -> dict[str, Any]:
    path = f"/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/{name}"
    found: dict[str, Any] = open_cluster(run.lab, run.access).get(path)
    return found


def test_flux_is_set_up_with_apps_asleep_from_the_first_moment_and_woken_later(make_twin: MakeTwin) -> None:
    make_twin("k3s")
    plan, run = bootstrap(suspend=["apps"])
    assert "kustomization/apps/create" in {change.id for change in plan.changes}
    asleep = kustomization(run, "apps")
    assert asleep["spec"]["suspend"] is True
    assert "inventory" not in (asleep.get("status") or {})
    assert not bootstrap(suspend=["apps"])[0]
    woken, run = bootstrap(resume=["apps"])
    assert [change.kind for change in woken.changes] == ["kustomization", "chain"]
    found = kustomization(run, "apps")
    assert "suspend" not in found["spec"]
    assert not [m for m in found["metadata"]["managedFields"] if m["manager"] == "labkit" and "f:spec" in m["fieldsV1"]]
    assert not bootstrap()[0]


def test_apps_come_live_behind_traefik_and_go_again(make_twin: MakeTwin, tmp_path: Path) -> None:
    twin = make_twin("flux", "git-branch-moves")
    first = {"image": "ghcr.io/traefik/whoami:v1.11.0", "port": 80}
    assert add("demo", **first)
    assert not add("demo", **first)
    assert add("plain", authentication="none", **first)
    oidc = {**first, "authentication": "oidc", "callback": "/cb", "config": "1Gi", "secrets": {"KEY": "env:DEMO_KEY"}}
    assert add("own", **oidc)
    assert not add("own", **oidc)
    assert add("later", via="pull-request", **first)
    assert not add("later", via="pull-request", **first)
    run = start("add-app", lab=LAB_FILE)
    rows = {
        name: probe_route(run.lab, run.access, f"{name}.{run.lab.domain}") for name in ("demo", "plain", "own", "no")
    }
    run.close()
    assert {name: (row.verified, row.status) for name, row in rows.items()} == {
        "demo": (True, 302), "plain": (True, 200), "own": (True, 200), "no": (True, 404),
    }  # fmt: skip
    assert add("own", remove=True, destroy=())
    assert not add("own", remove=True)
    text = "".join(path.read_text(errors="replace") for path in (tmp_path / "output").rglob("*") if path.is_file())
    for secret in twin.secrets.values():
        assert secret.strip() not in text
        assert "OPENSSH PRIVATE KEY" not in text


FAULTS = [
    (
        "chart-fails:longhorn",
        StepFailed,
        ["HelmRelease/longhorn-system/longhorn", "helmrelease.yaml:1", "Helm install"],
    ),
    ("kustomization-broken:infrastructure-configs", CheckFailed, ["configs/kustomization.yaml:", "not-there.yaml"]),
    ("wrong-age-key", CheckFailed, ["secret.yaml: expected git.age_key to open it", "another key"]),
    ("git-unreachable", SystemDown, ["Git github.com: expected a login"]),
]


@pytest.mark.parametrize(("fault", "kind", "words"), FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_the_deepest_cause_of_each_fault_is_named(
    make_twin: MakeTwin, fault: str, kind: type[LabError], words: list[str]
) -> None:
    make_twin("k3s", fault)
    with pytest.raises(kind) as caught:
        bootstrap()
    for word in words:
        assert word in str(caught.value)
