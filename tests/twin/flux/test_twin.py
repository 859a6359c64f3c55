"""A whole twin in the scenario `flux`: the example repository, its faults, and another repository in its place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError, LabError
from labkit.lab import Lab
from labkit.lab.loader import load_lab
from labkit.lab.models import Tls
from labkit.secrets import Secrets
from labkit.systems import git as remote
from labkit.systems.access import Access, Clock
from labkit.systems.flux.chain import request_reconcile
from labkit.systems.flux.read import read_objects
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.routes import probe_route
from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.git.client import git
from tests.gitops.hosts import write_small_lab

SCALE = 0.01


class Side:
    """Labkit's side of a twin."""

    def __init__(self, twin: TwinHandle, lab_file: Path) -> None:
        self.twin, self.lab_file = twin, lab_file
        self.lab: Lab = load_lab(lab_file)
        state = twin.state / "labkit"
        state.mkdir(exist_ok=True)
        trust = {name: Tls(ca=given["ca"]) for name, given in twin.trust.items()}
        self.access = Access(
            on="twin", secrets=Secrets(overrides=twin.secrets), state=state, clock=Clock(twin.scale), closed=True,
            connect_file=twin.connect_file, trust=trust,
        )  # fmt: skip

    def flux(self) -> dict[str, Any]:
        cluster = open_cluster(self.lab, self.access)
        return {f"{one.kind}/{one.name}": one for one in read_objects(cluster)}

    def until(self, check: Callable[[], Any], within: float = 40.0) -> Any:
        end = time.monotonic() + within
        while not (found := check()):
            assert time.monotonic() < end, "what the test waits for did not come"
            time.sleep(0.1)
        return found

    def ask_now(self) -> None:
        """Ask Flux to look at the repository."""
        request_reconcile(open_cluster(self.lab, self.access), "GitRepository/flux-system/flux-system")

    def says(self, name: str) -> str:
        return " ".join(condition.message for condition in self.flux()[name].conditions if condition.type == "Ready")


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    folder = tmp_path_factory.mktemp("flux")
    lab_file, state = write_small_lab(folder / "parameters" / "lab.yaml"), folder / "twin"
    twin = start_twin(lab_file, state=state, scenario="flux", scale=SCALE, parent=os.getpid())
    yield Side(twin, lab_file)
    log = (state / "twin.log").read_text()
    twin.stop(remove=True)
    assert "Traceback" not in log, log


def test_everything_is_ready_and_apps_answer_with_the_certificate_of_the_cluster(side: Side) -> None:
    found = side.flux()
    assert {"Kustomization/flux-system", "Kustomization/infrastructure-configs", "Kustomization/apps",
            "HelmRelease/cert-manager", "HelmRelease/longhorn", "HelmRelease/traefik"} <= set(found)  # fmt: skip
    head = remote.fetch(side.lab, side.access).head
    assert found["Kustomization/apps"].applied == f"master@sha1:{head}"
    row = side.until(
        lambda: (seen := probe_route(side.lab, side.access, "jellyfin.small.example")).status == 200 and seen
    )
    assert row.verified
    guarded = probe_route(side.lab, side.access, "whoami.small.example")
    assert (guarded.status, guarded.location) == (302, "https://auth.small.example/")
    assert not probe_route(side.lab, side.access, "whoami.elsewhere.example").verified


def test_faults_that_come_through_git_and_go_again(side: Side) -> None:
    side.twin.fault("kustomization-broken:apps")
    side.ask_now()
    side.until(lambda: "kustomize build failed" in side.says("Kustomization/apps"))
    side.twin.clear("kustomization-broken")
    side.twin.fault("wrong-age-key")
    side.ask_now()
    side.until(lambda: "cannot get sops data key" in " ".join(side.says(name) for name in side.flux()
                                                              if name.startswith("Kustomization/")))  # fmt: skip
    side.twin.clear("wrong-age-key")
    side.ask_now()
    side.until(lambda: side.says("Kustomization/apps").startswith("Applied revision"))


def test_a_fault_of_what_is_not_in_the_repository_is_refused(side: Side, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a Kustomization of the repository .*; did you mean `apps`\?"):
        side.twin.fault("kustomization-broken:app")
    with pytest.raises(InputError, match="did you mean `longhorn`"):
        side.twin.fault("chart-fails:longhorns")
    assert side.twin.status()["faults"] == []
    with pytest.raises(InputError, match="did you mean `infrastructure-configs`"):
        start_twin(side.lab_file, state=tmp_path, faults=["kustomization-broken:infra-configs"], parent=os.getpid())


def test_a_repository_that_is_none_is_refused(side: Side, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--repo: expected a Git repository"):
        start_twin(side.lab_file, state=tmp_path, parent=os.getpid(), repo=str(tmp_path / "absent"))


def test_a_host_that_refuses_and_a_branch_that_moves(side: Side) -> None:
    side.twin.fault("git-unreachable")
    with pytest.raises(LabError):
        remote.fetch(side.lab, side.access)
    side.twin.clear("git-unreachable")
    before = side.twin.status()["writes"]["git"]
    side.twin.fault("git-branch-moves")
    mirror = remote.fetch(side.lab, side.access)
    with remote.checked_out(mirror) as tree:
        (tree / "mine.md").write_text("mine\n")
        remote.commit_all(side.lab, tree, "Mine")
        remote.push(side.lab, side.access, tree, side.lab.git.branch)
    assert side.twin.status()["writes"]["git"] == before + 2
    subjects = git(["-C", side.twin.state / "gitops" / "served.git", "log", "-2", "--format=%s", "master"])
    assert subjects.splitlines() == ["Mine", "Write a note"]
