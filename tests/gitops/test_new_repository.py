"""A repository that Flux has never seen: written, committed and pushed by the runbook, then followed by Flux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage
import pytest

from labkit.checks.flux import flux_is_live, flux_preflight
from labkit.lab.loader import load_lab
from labkit.plan import Plan
from labkit.rules.flux import plan_flux
from labkit.run import Run, start
from labkit.systems.gotk import load_components
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.sops import encrypt
from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.git import Bare
from labkit.twin.git.client import git
from labkit.twin.repository.components import components
from tests.gitops.hosts import ROOT, labkit, write_small_lab

pytestmark = pytest.mark.slow
ENTRY = "kubernetes/clusters/production"
FILES = [f"{ENTRY}/flux-system/{name}" for name in ("gotk-components.yaml", "gotk-sync.yaml", "kustomization.yaml")]
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: default\ndata:\n  a: b\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: mine\n  namespace: default\nstringData:\n  word: sesame\n"
WHO = {"GIT_AUTHOR_NAME": "owner", "GIT_AUTHOR_EMAIL": "owner@example.net",
       "GIT_COMMITTER_NAME": "owner", "GIT_COMMITTER_EMAIL": "owner@example.net"}  # fmt: skip


@pytest.fixture
def lab_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_OUTPUT", str(tmp_path / "output"))
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    (tmp_path / "gotk.yaml").write_text(components())
    return write_small_lab(tmp_path / "parameters" / "lab.yaml")


@contextmanager
def twin_of(lab_file: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Iterator[TwinHandle]:
    state = lab_file.parents[1] / "twin"
    twin = start_twin(lab_file, state=state, scenario="k3s", scale=0.01, repo=str(repository), parent=os.getpid(),
                      **more)  # fmt: skip
    monkeypatch.setenv("LABKIT_TWIN", str(state))
    try:
        yield twin
    finally:
        twin.stop(remove=True)


@contextmanager
def bootstrapped(lab_file: Path) -> Iterator[tuple[Plan, Run]]:
    """Do what the notebook 30-bootstrap-flux does with a file of components."""
    run = start("bootstrap-flux", lab=lab_file)
    try:
        facts = run.read("git", "flux")
        run.verify(*flux_preflight(run.lab))
        text = load_components(str(lab_file.parents[1] / "gotk.yaml"), facts["git"])
        plan = run.plan(plan_flux, facts, components=text)
        run.apply(plan)
        run.verify(flux_is_live(run.lab))
        yield plan, run
        run.finish()
    finally:
        run.close()


def written(plan: Plan) -> list[str]:
    return sorted(change.target for change in plan.changes if change.kind == "file")


def test_an_empty_repository_gets_flux_and_follows_what_is_pushed_next(
    lab_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(["init", "--quiet", tmp_path / "mine"])
    with twin_of(lab_file, tmp_path / "mine", monkeypatch) as twin:
        ended = labkit(tmp_path, "run", "bootstrap-flux", "-p", "components=gotk.yaml")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "planned again: 0 changes left" in ended.stdout
        served = twin.state / "gitops" / "served.git"
        assert git(["-C", served, "ls-tree", "-r", "--name-only", "master"]).split() == FILES
        assert git(["-C", served, "log", "--format=%s %an"]).splitlines() == ["Add Flux labkit"]
        Bare(served, "master").commit({f"{ENTRY}/hello.yaml": MAP.format(name="hello").encode()}, "Say hello")
        with bootstrapped(lab_file) as (plan, run):  # Flux may have looked by itself meanwhile
            assert {change.kind for change in plan.changes} <= {"chain"}
            found = open_cluster(run.lab, run.access).get("/api/v1/namespaces/default/configmaps/hello")
            assert found["data"] == {"a": "b"}


def test_a_repository_with_manifests_and_secrets_but_without_flux(
    lab_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = pyrage.x25519.Identity.generate()
    tree = tmp_path / "mine"
    (tree / ENTRY).mkdir(parents=True)
    (tree / ".sops.yaml").write_text(
        f"creation_rules:\n  - encrypted_regex: ^(data|stringData)$\n    age: {identity.to_public()}\n"
    )
    (tree / ENTRY / "hello.yaml").write_text(MAP.format(name="hello"))
    (tree / ENTRY / "secret.yaml").write_text(encrypt(tree, f"{ENTRY}/secret.yaml", SECRET))
    git(["init", "--quiet", tree])
    git(["-C", tree, "add", "--all"])
    git(["-C", tree, "commit", "--quiet", "--message", "Begin"], WHO)
    lab = load_lab(lab_file)
    with twin_of(lab_file, tree, monkeypatch, age_key=str(identity)) as twin, bootstrapped(lab_file) as (plan, run):
        assert written(plan) == FILES
        served = twin.state / "gitops" / "served.git"
        assert git(["-C", served, "log", "--format=%s", lab.git.branch]).splitlines() == ["Add Flux", "Begin"]
        cluster = open_cluster(run.lab, run.access)
        assert cluster.get("/api/v1/namespaces/default/secrets/mine")["data"] == {"word": "c2VzYW1l"}
        assert not run.plan(plan_flux, run.read("git", "flux"))
