"""A twin with Longhorn and two apps on it, and the drill as the notebook runs it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.backups import (
    claims_are_covered,
    longhorn_is_ready,
    nothing_is_left,
    restores_are_proven,
    store_is_readable,
    target_is_ready,
)
from labkit.plan import Plan
from labkit.rules.drill import plan_drill
from labkit.run import Run, start
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.systems.objects import apply_objects
from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.kube.crd_files import definitions
from labkit.twin.longhorn.install import objects

LAB = Path(__file__).parents[1] / "data" / "drill" / "lab.yaml"
URL = "nfs://nas.lan:/tank/backups"
APPS = ("notes", "photos")
JOB: dict[str, Any] = {
    "apiVersion": "longhorn.io/v1beta2", "kind": "RecurringJob",
    "metadata": {"name": "nightly", "namespace": "longhorn-system"},
    "spec": {"name": "nightly", "task": "backup", "cron": "0 3 * * *", "retain": 7, "concurrency": 1,
             "groups": ["default"]},
}  # fmt: skip


def until(probe: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := probe()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.03)
    return value


def app(name: str) -> list[dict[str, Any]]:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    pod = {
        "containers": [{"name": "main", "image": "example/app:1", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": name}}],
    }
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
         "spec": {**claim, "storageClassName": "longhorn"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
         "spec": {"selector": {"matchLabels": {"app": name}}, "strategy": {"type": "Recreate"},
                  "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}},
    ]  # fmt: skip


def driver(manager: dict[str, Any]) -> dict[str, Any]:
    """The DaemonSet of the CSI driver, which the real manager makes."""
    labels = {"app": "longhorn-csi-plugin"}
    template = {"metadata": {"labels": labels}, "spec": manager["spec"]["template"]["spec"]}
    return {
        **manager, "metadata": {**manager["metadata"], "name": "longhorn-csi-plugin"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }  # fmt: skip


def install(cluster: Cluster, run: Run, twin: TwinHandle) -> None:
    made = [body for _, body in objects("1.10.2", backup_target=URL, replicas=2)]
    wanted = [*definitions("longhorn-v1.10.2"), *made, driver(made[-1]), *(one for name in APPS for one in app(name))]
    apply_objects(cluster, run.access, wanted)
    until(lambda: sum(one["mounted"] for one in twin.data().values()) == len(APPS))
    apply_objects(cluster, run.access, [JOB])


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinHandle]:
    folder = tmp_path_factory.mktemp("drill")
    running = start_twin(LAB, state=folder / "twin", scenario="k3s", scale=0.004, parent=os.getpid())
    os.environ |= {"LABKIT_TWIN": str(running.state), "LABKIT_OUTPUT": str(folder / "output")}
    try:
        run = start("backup-drill", lab=LAB)
        install(open_cluster(run.lab, run.access), run, running)
        run.close()
        yield running
    finally:
        del os.environ["LABKIT_TWIN"], os.environ["LABKIT_OUTPUT"]
        running.stop()
        gc.collect()


@pytest.fixture
def cluster(twin: TwinHandle) -> Cluster:
    run = start("backup-drill", lab=LAB)
    run.close()
    return open_cluster(run.lab, run.access)


class Drill:
    """One run of the notebook; what it raised is kept."""

    def __init__(self, **wants: Any) -> None:
        within = wants.setdefault("proven_within", 7.0)
        self.run = start("backup-drill", lab=LAB)
        self.plan: Plan | None = None
        try:
            facts = self.run.read("longhorn", "store")
            self.run.verify(longhorn_is_ready(), target_is_ready(self.run.lab), store_is_readable(),
                            claims_are_covered())  # fmt: skip
            self.plan = self.run.plan(plan_drill, facts, **wants)
            self.run.apply(self.plan)
            self.run.verify(restores_are_proven(wants.get("volumes", ()), within=within), nothing_is_left())
            self.run.finish()
        finally:
            self.run.close()

    @property
    def changes(self) -> list[str]:
        assert self.plan is not None
        return [change.id for change in self.plan.changes]

    @property
    def longhorn(self) -> Any:
        return self.run.latest("longhorn")
