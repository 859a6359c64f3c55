"""Changing VMs that are there, on the twin: updates, restarts, drift, orphans, and runs that were killed."""

from __future__ import annotations

import threading

import pytest

from labkit.errors import StepFailed
from labkit.lab.vmconfig import describe_unfinished
from labkit.plan import Action, Change, Risk
from labkit.systems import ssh
from labkit.systems.access import Step
from labkit.systems.known_hosts import forget_host, known_hosts_file, read_host_keys
from labkit.systems.proxmox import apply_change, read_proxmox


class Killed(BaseException):
    """Stands for the end of the process."""


def config_of(bench, name: str) -> dict[str, str]:
    facts = read_proxmox(bench.lab, bench.access)
    return facts.config(facts.vm(name)).values


@pytest.mark.parametrize(
    ("values", "risk"),
    [
        ({"tags": "mine"}, Risk.SAFE),
        ({"description": "a note of mine"}, Risk.SAFE),
        ({"onboot": "0"}, Risk.SAFE),
        ({"net0": "virtio=BC:24:11:00:00:99,bridge=vmbr0,tag=7"}, Risk.SAFE),
        ({"cores": "1", "memory": "1024"}, Risk.DISRUPTIVE),
        ({"nameserver": "9.9.9.9"}, Risk.DISRUPTIVE),
    ],
)
def test_what_a_person_changed_is_put_back(made, values: dict[str, str], risk: Risk) -> None:
    made.twin.configure_vm("one", **values)
    plan = made.reach()
    assert [(change.id, change.risk) for change in plan.changes] == [("vm/one/update", risk)]
    assert set(plan.changes[0].after) == set(values)
    config = config_of(made, "one")
    if "tags" in values:
        assert "mine" in config["tags"]
    if "description" in values:
        assert "a note of mine" in config["description"]
    if "net0" in values:
        assert "BC:24:11:00:00:99" in config["net0"]


def test_settings_that_wait_for_a_restart_are_brought_into_force(made) -> None:
    made.twin.configure_vm("two", cores="1")
    made.twin.configure_vm("two", cores="2", restart=False)
    plan = made.reach()
    assert [(change.id, change.risk) for change in plan.changes] == [("vm/two/update", Risk.DISRUPTIVE)]
    assert any("restarts it" in text for text in made.said)


def test_a_larger_disk_and_more_cores_are_wanted(made) -> None:
    vms = {**made.lab.vms, "one": made.lab.vms["one"].model_copy(update={"disk": 30 * 1024})}
    made.lab, before = made.lab.model_copy(update={"vms": vms}), made.lab
    try:
        plan = made.reach()
        assert plan.changes[0].after == {"disk": "30 GiB"}
        assert plan.risk is Risk.SAFE
    finally:
        made.lab = before
    smaller = made.plan()
    assert not smaller.changes
    assert [finding.id for finding in smaller.findings] == ["vm.disk"]
    made.twin.delete_vm("one")


def test_a_stopped_vm_is_started(made) -> None:
    made.twin.power_vm("two", on=False)
    assert [change.id for change in made.reach().changes] == ["vm/two/act"]


def test_a_stopped_vm_is_changed_before_it_starts(made) -> None:
    made.twin.configure_vm("two", cores="1")
    made.twin.power_vm("two", on=False)
    plan = made.reach()
    assert [change.id for change in plan.changes] == ["vm/two/update", "vm/two/act"]
    assert plan.risk is Risk.SAFE


def test_a_moved_vm_is_found_where_it_is_and_never_made_twice(made) -> None:
    made.twin.move_vm("one", "atlas")
    try:
        made.twin.configure_vm("one", tags="mine")
        plan = made.reach()
        assert [change.id for change in plan.changes] == ["vm/one/update"]
        assert [finding.id for finding in plan.findings if finding.id == "vm.host"] == ["vm.host"]
    finally:
        made.twin.move_vm("one", "hades")


def test_a_vm_that_an_operation_has_locked_is_waited_for(made) -> None:
    made.twin.configure_vm("one", tags="mine")
    made.twin.fault("vm-locked:one")
    plan = made.plan()
    assert [finding.id for finding in plan.findings if finding.id == "vm.lock"] == ["vm.lock"]
    threading.Timer(0.3, made.twin.clear, ["vm-locked:one"]).start()
    assert made.apply(plan).ok
    assert any("VM is locked (backup)" in text for text in made.said)


def test_a_lock_that_stays_is_told_with_the_way_out(made) -> None:
    made.twin.configure_vm("one", tags="mine")
    made.twin.fault("vm-locked:one")
    (error,) = made.apply(made.plan()).failed.values()
    assert isinstance(error, StepFailed)
    assert "VM one: setting its configuration" in str(error)
    assert "qm unlock" in error.next_step


def test_an_orphan_is_shown_and_deleted_only_when_named(made) -> None:
    made.twin.add_vm("old", host="atlas", address="192.168.5.40")
    made.twin.configure_vm("old", tags="labkit;k3s;agent")
    shown = made.plan()
    assert not shown.changes
    assert [finding.subject for finding in shown.findings] == ["VM old"]
    plan = made.plan(destroy=("old",))
    assert [(change.id, change.risk) for change in plan.changes] == [("vm/old/delete", Risk.DESTRUCTIVE)]
    assert made.apply(plan).ok
    again = made.plan(destroy=("old",))
    assert not again.changes
    assert not again.blockers


def test_what_labkit_did_not_make_is_never_deleted(made) -> None:
    vmid = made.twin.add_vm("paperless", host="atlas", address="192.168.5.41")
    try:
        assert {finding.id for finding in made.plan(destroy=("paperless",)).blockers} == {"vm.destroy"}
        change = Change(system="proxmox", kind="vm", target="paperless", action=Action.DELETE, before={"vmid": vmid})
        with pytest.raises(StepFailed, match="nothing was deleted"):
            apply_change(made.lab, made.access, change, Step())
    finally:
        made.twin.delete_vm("paperless")


def test_an_address_that_another_vm_has_is_refused(empty) -> None:
    empty.twin.add_vm("squatter", host="atlas", address="192.168.5.21")
    plan = empty.plan()
    assert [finding.id for finding in plan.blockers] == ["vm.address"]
    empty.twin.delete_vm("squatter")


def test_a_host_key_that_is_not_known_is_read_through_the_agent(made) -> None:
    machine = made.lab.machines[0]
    path = known_hosts_file(made.access.state)
    before = read_host_keys(path, "one")
    forget_host(path, ("one",))
    with ssh.connect(made.lab, made.access, machine) as shell:
        assert shell.run(["id", "-un"], sudo=True).text.strip() == "root"
    assert read_host_keys(path, "one") == before


def test_a_vm_made_by_somebody_else_meanwhile_is_not_touched(made) -> None:
    change = Change(system="proxmox", kind="vm", target="one", action=Action.CREATE)
    with pytest.raises(StepFailed, match="expected no VM of that name, or one left half-made"):
        apply_change(made.lab, made.access, change, Step())


def test_a_half_made_vm_with_odd_settings_is_finished(made) -> None:
    made.twin.configure_vm("one", description=describe_unfinished(made.lab, "one"), cores="1", nameserver="9.9.9.9")
    plan = made.reach()
    assert [change.id for change in plan.changes] == ["vm/one/create"]
    assert config_of(made, "one")["cores"] == "2"


def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(empty) -> None:
    """Stop at the first, the second, ... thing that is told; from there the next run must get to the end."""
    for number in range(20):
        empty.twin.delete_vm("one") if read_proxmox(empty.lab, empty.access).vm("one") else None
        empty.new_run()
        told: list[str] = []

        def say(text: str, _data: object, told: list[str] = told, number: int = number) -> None:
            told.append(text)
            if len(told) > number:
                raise Killed

        plan = empty.plan(only=("one",))
        try:
            apply_change(empty.lab, empty.access, plan.changes[0], Step(say=say))
        except Killed:
            empty.new_run()
            assert [change.id for change in empty.reach(only=("one",)).changes] in ([], ["vm/one/create"])
        else:
            assert number > 4
            return
    raise AssertionError("the change told more than expected")
