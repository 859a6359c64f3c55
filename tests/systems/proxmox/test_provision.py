"""Making VMs on the twin, when all goes well and when it does not."""

from __future__ import annotations

import pytest

from labkit.checks.proxmox import preflight_checks
from labkit.checks.vms import vms_are_ready
from labkit.errors import StepFailed, SystemDown
from labkit.plan import Severity
from labkit.systems import ssh
from labkit.systems.known_hosts import known_hosts_file, read_host_keys
from labkit.systems.proxmox import read_proxmox
from labkit.systems.proxmox.session import session_of


def test_from_nothing_to_running_vms(empty) -> None:
    plan = empty.reach()
    assert [change.id for change in plan.changes] == ["vm/one/create", "vm/two/create", "vm/three/create"]
    facts = read_proxmox(empty.lab, empty.access)
    assert vms_are_ready(empty.lab)({"proxmox": facts}) == ()
    assert [facts.vm(name).vmid for name in ("one", "two", "three")] == [100, 101, 102]
    assert facts.config(facts.vm("one")).values["cipassword"].startswith("*")
    for machine in empty.lab.machines:
        assert read_host_keys(known_hosts_file(empty.access.state), machine.name)
        with ssh.connect(empty.lab, empty.access, machine) as shell:
            assert shell.run(["hostname"]).text.strip() == machine.name
    assert empty.twin.status()["clones"]["count"] == 3


def test_nothing_to_do_costs_few_requests_and_writes_nothing(made) -> None:
    made.new_run()
    assert not made.plan()
    assert session_of(made.lab, made.access).requests <= 12 + len(made.lab.vms)
    status = made.twin.status()
    assert status["requests"]["proxmox"] <= 12 + len(made.lab.vms)
    assert status["writes"]["proxmox"] == 0


def test_a_preflight_without_findings(made) -> None:
    facts = read_proxmox(made.lab, made.access)
    assert [finding for check in preflight_checks(made.lab) for finding in check({"proxmox": facts})] == []


def test_facts_round_trip(made) -> None:
    facts = read_proxmox(made.lab, made.access)
    assert type(facts).model_validate_json(facts.model_dump_json()) == facts


OVERCOME = {
    "template-locked:2": "waits: can't lock file",
    "clone-dies": "its clone died half-way",
    "no-worker:3": "looks what became of it: got no worker upid",
    "no-worker-done:2": "looks what became of it: got no worker upid",
    "gateway-timeout:2": "looks what became of it",
    "vmid-taken": "",
    "slow:40": "",
    "closing:7": "",
    "task-warnings": "warning: WARN",
}


@pytest.mark.parametrize("fault", OVERCOME)
def test_what_is_overcome(empty, fault: str) -> None:
    empty.twin.fault(fault)
    empty.reach()
    assert any(OVERCOME[fault] in text for text in empty.said)
    empty.twin.clear(fault.partition(":")[0])
    facts = read_proxmox(empty.lab, empty.access)
    assert [f for f in vms_are_ready(empty.lab)({"proxmox": facts}) if f.severity is Severity.ERROR] == []


FAILS = {
    "clone-fails": "VM .*: cloning ubuntu-template-.*: expected it done, got: clone failed",
    "missing-privilege:VM.Clone": r"Permission check failed \(/vms/\d+, VM.Clone\)(?s:.*)grant the privilege",
    "missing-privilege:VM.Config.Memory": "Permission check failed",
    "no-quorum": "no quorum",
    "storage-full:local-lvm": "free space in thin pool(?s:.*)free room on that storage",
    "host-down:atlas": "(No route to host|no quorum)(?s:.*)bring (that host|hosts) back",
    "cloud-init-error:one": "VM one: expected cloud-init done, got status: error(?s:.*)cloud-init-output.log",
    "wrong-address:one": r"VM one: the guest agent answers with the address 192\.168\.5\.20.*last seen: 192\.168\.5\.",
    "agent-silent:one": "VM one: the guest agent answers.*no answer from the agent(?s:.*)qemu-guest-agent",
    "ssh-silent:one": "VM one: log in by SSH as ubuntu.*no answer",
}


SLOW = ("wrong-address:one", "agent-silent:one", "ssh-silent:one")
"""They end with a deadline; the whole runbook meets them in tests/e2e as well."""


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=[pytest.mark.thorough] if fault in SLOW else []) for fault in FAILS]
)
def test_what_fails_says_why_and_the_next_run_finishes_the_work(empty, fault: str) -> None:
    plan = empty.plan()
    empty.twin.fault(fault)
    outcome = empty.apply(plan)
    assert outcome.failed
    for error in outcome.failed.values():
        assert isinstance(error, StepFailed | SystemDown)
        assert error.next_step
    with pytest.raises((StepFailed, SystemDown), match=FAILS[fault]):
        raise next(iter(outcome.failed.values()))
    empty.twin.clear(fault)
    empty.new_run()
    empty.reach()


def test_a_token_that_is_not_accepted(empty) -> None:
    empty.twin.fault("wrong-token")
    with pytest.raises(SystemDown, match="labkit@pve!reader"):
        empty.plan()


def test_a_host_that_goes_away_is_told_before_anything_is_written(made) -> None:
    made.twin.fault("host-down:atlas")
    plan = made.plan()
    assert {"proxmox.host"} <= {finding.id for finding in plan.blockers}
    facts = read_proxmox(made.lab, made.access)
    assert facts.vm("two").status == "unknown"


def test_missing_privileges_are_named_by_the_preflight(made) -> None:
    made.twin.fault("missing-privilege:VM.Clone")
    facts = read_proxmox(made.lab, made.access)
    findings = [f for check in preflight_checks(made.lab) for f in check({"proxmox": facts})]
    assert {finding.got for finding in findings} == {"without VM.Clone"}
