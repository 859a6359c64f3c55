"""A lab of one VM that lives, with apps and backups, for recoveries of apps and of single volumes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.restore import recovery_preflight, volumes_are_back
from labkit.facts.longhorn import Backup, Claim, LonghornFacts, Volume
from labkit.lab import Lab, load_lab
from labkit.plan import Plan
from labkit.report.recovery import RecoveryReport
from labkit.rules.needed import recovery_goal
from labkit.rules.recovery import plan_recovery, recovery_reads
from labkit.run import Run, start
from labkit.run.recovery import report_recovery, verify_store
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.backup import take_backup
from labkit.systems.longhorn.read import read_facts
from labkit.twin.client import TwinHandle, start_twin
from tests.gitops.hosts import write_small_lab

SCALE = 0.004


@dataclass
class Living:
    """The lab, its twin, and what tests do to it."""

    lab_file: Path
    twin: TwinHandle
    lab: Lab
    access: Access
    runs: list[Run] = field(default_factory=list)

    @property
    def cluster(self) -> Cluster:
        return open_cluster(self.lab, self.access)

    def longhorn(self) -> LonghornFacts:
        return read_facts(self.cluster)

    def claim(self, name: str) -> Claim:
        found = self.longhorn().find_claim(*name.split("/"))
        assert found is not None, f"no claim {name}"
        return found

    def volume(self, name: str) -> Volume:
        """The Longhorn volume of a claim."""
        longhorn = self.longhorn()
        claim = longhorn.find_claim(*name.split("/"))
        pv = longhorn.pv(claim.volume) if claim is not None else None
        found = longhorn.volume(pv.handle) if pv is not None else None
        assert found is not None, f"no volume of {name}"
        return found

    def checksum(self, volume: str) -> str:
        return str(self.twin.data()[volume]["checksum"])

    def write(self) -> None:
        self.twin.write_data()

    def backup(self, claim: str) -> tuple[Backup, str]:
        """Back a claim's volume up; return the backup, and the checksum of what it holds."""
        volume = self.volume(claim).name
        seen = self.checksum(volume)
        return take_backup(self.cluster, self.access, Step(), volume), seen

    def later(self) -> str:
        """Return a moment between what was and what comes: times in the store have whole seconds."""
        time.sleep(1.05)
        moment = datetime.now(UTC)
        time.sleep(1.05)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def saved(self, claim: str) -> tuple[str, str]:
        """Back up, then write on; return the checksums of the backup and of what is there now."""
        _, first = self.backup(claim)
        self.write()
        return first, self.checksum(self.volume(claim).name)

    def two_states(self, claim: str) -> tuple[str, str, str]:
        """Back up, write, back up again; return the moment between, and both checksums."""
        _, first = self.backup(claim)
        between = self.later()
        self.write()
        _, second = self.backup(claim)
        assert first != second
        return between, first, second

    def plan(self, **asked: Any) -> tuple[Run, Plan]:
        run, plan = plan_as_notebook(self.lab_file, **asked)
        self.runs.append(run)
        return run, plan

    def recover(self, **asked: Any) -> tuple[Plan, RecoveryReport]:
        return recover_as_notebook(self.lab_file, **asked)

    def suspended(self) -> list[str]:
        items = self.cluster.items("/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations")
        return [str(one["metadata"]["name"]) for one in items if one["spec"].get("suspend")]

    def workload(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get(f"/apis/apps/v1/namespaces/default/deployments/{name}")
        return found

    def until(self, probe: Callable[[], Any], seconds: float = 20.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := probe()):
            assert time.monotonic() < end, "what the test waits for did not come"
            time.sleep(0.05)
        return found


def plan_as_notebook(lab_file: Path, **asked: Any) -> tuple[Run, Plan]:
    """Do what the notebook does up to its plan."""
    run = start("disaster-recovery", lab=lab_file)
    try:
        goal = recovery_goal(**asked)
        facts = verify_store(run, run.read(*recovery_reads(goal)), goal)
        run.verify(*recovery_preflight(run.lab, goal, protected=False))
        return run, run.plan(plan_recovery, facts, goal=goal)
    except BaseException:
        run.close()
        raise


def recover_as_notebook(lab_file: Path, **asked: Any) -> tuple[Plan, RecoveryReport]:
    """Do all that the notebook does."""
    run, plan = plan_as_notebook(lab_file, **asked)
    try:
        goal = recovery_goal(**asked)
        run.apply(plan)
        run.verify(volumes_are_back(run.lab, goal))
        report: RecoveryReport = report_recovery(run, goal)
        run.finish()
    finally:
        run.close()
    return plan, report


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("living")
        lab_file = write_small_lab(folder / "parameters" / "lab.yaml")
        twin = start_twin(lab_file, state=folder / "twin", scenario="flux", scale=SCALE, parent=os.getpid())
        patch.setenv("LABKIT_TWIN", str(twin.state))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        run = start("disaster-recovery", lab=lab_file)
        found = Living(lab_file, twin, load_lab(lab_file), run.access)
        found.until(lambda: _is_ready(found.longhorn()))
        found.write()
        yield found
        for one in (run, *found.runs):
            one.close()
        twin.stop()


def _is_ready(longhorn: LonghornFacts) -> bool:
    target = longhorn.target()
    used = all(claim.phase == "Bound" and claim.pods for claim in longhorn.claims)
    return longhorn.ready and target is not None and target.available and used
