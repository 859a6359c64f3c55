from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.lab import Lab, load_lab
from labkit.lab.models import Tls
from labkit.plan import Plan
from labkit.rules.vms import plan_vms
from labkit.run.schedule import Outcome, Scheduler
from labkit.secrets import Secrets
from labkit.systems import ssh
from labkit.systems.access import Access, Clock, Step
from labkit.systems.proxmox import apply_change, read_proxmox
from labkit.twin.client import TwinHandle, start_twin

ROOT = Path(__file__).parents[3]
LAB_FILE = ROOT / "tests/data/proxmox/lab.yaml"
SCALE = 0.01


class Bench:
    """A twin of a small lab, and what a run does with it."""

    def __init__(self, twin: TwinHandle, lab: Lab, state: Path) -> None:
        self.twin = twin
        self.lab = lab
        self.state = state
        self.said: list[str] = []
        self.new_run()

    def new_run(self) -> None:
        """Forget connections and what was learnt, as a new process does; known hosts stay."""
        self.access = Access(
            on="twin",
            secrets=Secrets(self.twin.secrets, Path.cwd()),
            state=self.state,
            clock=Clock(self.twin.scale),
            connect_file=self.twin.connect_file,
            trust={name: Tls(**trust) for name, trust in self.twin.trust.items()},
        )

    def plan(self, **wants: tuple[str, ...]) -> Plan:
        facts = read_proxmox(self.lab, self.access)
        return plan_vms(self.lab, facts, ssh_public_key=ssh.public_key(self.lab, self.access), **wants)

    def apply(self, plan: Plan) -> Outcome:
        self.said.clear()

        def listen(_state: object, change: object, text: str, _data: object) -> None:
            self.said.append(text)

        return Scheduler(plan.changes, lambda c, step: apply_change(self.lab, self.access, c, step), listen).run()

    def reach(self, **wants: tuple[str, ...]) -> Plan:
        """Plan and apply, all of which must go well; then nothing is left to do. Returns the plan."""
        plan = self.plan(**wants)
        assert not plan.blockers
        outcome = self.apply(plan)
        assert outcome.ok, outcome.failed
        assert not self.plan(**wants)
        return plan

    def step(self, say: list[str]) -> Step:
        return Step(say=lambda text, _data: say.append(text))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One twin for all tests of a module, with its three VMs made."""
    lab = load_lab(LAB_FILE)
    twin = start_twin(LAB_FILE, scale=SCALE, state=tmp_path_factory.mktemp("twin"))
    try:
        yield Bench(twin, lab, tmp_path_factory.mktemp("labkit"))
    finally:
        twin.stop()


@pytest.fixture
def empty(bench: Bench) -> Bench:
    """The twin without faults and without VMs."""
    return clean(bench)


@pytest.fixture
def made(bench: Bench) -> Bench:
    """The twin without faults and with all VMs as they should be."""
    for fault in bench.twin.status()["faults"]:
        bench.twin.clear(fault)
    bench.new_run()
    bench.reach()
    bench.twin.reset()
    return bench


def clean(bench: Bench) -> Bench:
    for fault in bench.twin.status()["faults"]:
        bench.twin.clear(fault)
    bench.new_run()
    for vm in read_proxmox(bench.lab, bench.access).vms:
        if not vm.template:
            bench.twin.delete_vm(vm.name)
    bench.twin.reset()
    return bench
