from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.privileges import check_privileges, missing_privileges, needed_privileges
from labkit.checks.proxmox import preflight_checks
from labkit.checks.vms import vms_are_ready
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab, load_lab
from labkit.plan import Severity

ROOT = Path(__file__).parents[2]
KNOWN = json.loads((ROOT / "tests/data/proxmox/privileges.json").read_text())


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


@pytest.fixture(scope="module")
def right() -> ProxmoxFacts:
    return ProxmoxFacts.model_validate_json((ROOT / "tests/data/proxmox/nine.json").read_text())


def changed(facts: ProxmoxFacts, vmid: int, row: dict[str, Any], **values: str) -> ProxmoxFacts:
    there = facts.configs[vmid]
    config = there.model_copy(update={"values": {**there.values, **values}})
    vms = tuple(vm.model_copy(update=row) if vm.vmid == vmid else vm for vm in facts.vms)
    return facts.model_copy(update={"vms": vms, "configs": {**facts.configs, vmid: config}})


def test_a_lab_that_is_right_has_no_findings(lab: Lab, right: ProxmoxFacts) -> None:
    for check in (*preflight_checks(lab), vms_are_ready(lab)):
        assert check({"proxmox": right}) == (), check.sentence


@pytest.mark.parametrize(
    ("row", "values", "expected"),
    [
        ({"name": "another"}, {}, "vm.exists"),
        ({"status": "stopped"}, {}, "vm.running"),
        ({"status": "unknown"}, {}, "vm.running"),
        ({}, {"cores": "1"}, "vm.config"),
        ({}, {"description": "labkit: being made: x"}, "vm.finished"),
        ({}, {"scsi0": "a:b,size=15G"}, "vm.disk"),
        ({}, {"boot": "order=scsi1", "scsi0": "none"}, "vm.disk"),
    ],
)
def test_what_keeps_a_vm_from_being_ready(
    lab: Lab, right: ProxmoxFacts, row: dict[str, Any], values: dict[str, str], expected: str
) -> None:
    findings = vms_are_ready(lab)({"proxmox": changed(right, 101, row, **values)})
    assert [finding.id for finding in findings if finding.severity is Severity.ERROR] == [expected]
    assert "k3s-master-01" in findings[0].subject


def test_another_ssh_key_is_left_to_the_guest(lab: Lab, right: ProxmoxFacts) -> None:
    assert vms_are_ready(lab)({"proxmox": changed(right, 101, {}, sshkeys="ssh-rsa%20AAAA")}) == ()


def test_an_old_version_is_told(lab: Lab, right: ProxmoxFacts) -> None:
    old = right.model_copy(update={"version": "7.4-3", "major": 7})
    findings = [f for check in preflight_checks(lab) for f in check({"proxmox": old})]
    assert [finding.id for finding in findings if finding.id == "proxmox.version"]


def test_too_little_memory_is_told(lab: Lab, right: ProxmoxFacts) -> None:
    small = right.model_copy(update={"nodes": tuple(n.model_copy(update={"maxmem": 8 * 2**30}) for n in right.nodes)})
    findings = [f for check in preflight_checks(lab) for f in check({"proxmox": small})]
    assert {finding.subject for finding in findings} == {"host hades", "host atlas"}


@pytest.mark.parametrize("major", [8, 9])
def test_every_privilege_exists_in_that_version(lab: Lab, right: ProxmoxFacts, major: int) -> None:
    facts = right.model_copy(update={"major": major})
    needed = {name for names in needed_privileges(lab, facts).values() for name in names}
    assert needed <= set(KNOWN[str(major)])


def test_the_agent_takes_other_privileges_in_each_version(lab: Lab, right: ProxmoxFacts) -> None:
    eight = right.model_copy(update={"major": 8})
    assert "VM.Monitor" in needed_privileges(lab, eight)["/vms"]
    assert missing_privileges(lab, eight) == {"/vms": ("VM.Monitor",)}
    assert missing_privileges(lab, right) == {}


@pytest.mark.parametrize("lost", ["VM.Clone", "VM.Allocate", "SDN.Use", "Datastore.AllocateSpace", "Sys.Audit"])
def test_each_missing_privilege_is_named_with_its_command(lab: Lab, right: ProxmoxFacts, lost: str) -> None:
    held = right.privileges or {}
    facts = right.model_copy(update={"privileges": {"/": tuple(name for name in held["/"] if name != lost)}})
    findings = list(check_privileges(lab, facts))
    assert findings
    for finding in findings:
        assert finding.severity is Severity.ERROR
        assert f"without {lost}" in finding.got
        path = finding.subject.rpartition(" ")[2]
        assert f"pveum acl modify {path} " in finding.remedy
        assert lost in finding.remedy


def test_privileges_that_cannot_be_read_do_not_block(lab: Lab, right: ProxmoxFacts) -> None:
    unknown = right.model_copy(update={"privileges": None})
    assert [finding.severity for finding in check_privileges(lab, unknown)] == [Severity.INFO]


def test_a_pool_takes_the_place_of_all_vms(lab: Lab, right: ProxmoxFacts) -> None:
    pooled = lab.model_copy(update={"proxmox": lab.proxmox.model_copy(update={"pool": "k3s"})})
    assert "/pool/k3s" in needed_privileges(pooled, right)
    assert "/vms" not in needed_privileges(pooled, right)
