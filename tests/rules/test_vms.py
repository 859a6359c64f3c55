from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.facts.proxmox import ProxmoxFacts, VmConfig, VmRow
from labkit.lab import Lab, load_lab
from labkit.lab.vmconfig import describe_unfinished
from labkit.plan import Action, Plan, Risk, Severity
from labkit.rules.vms import plan_vms

ROOT = Path(__file__).parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl somebody@home"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBqZ3nUnPvQgPmZ1oC3M2nQ6i5n4n2d8cM3cYp7yq3kQ new@home"
GIB = 1024**3
Edit = Callable[[ProxmoxFacts], ProxmoxFacts]


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


@pytest.fixture(scope="module")
def right() -> ProxmoxFacts:
    """The seed's lab, built and running."""
    return ProxmoxFacts.model_validate_json((ROOT / "tests/data/proxmox/nine.json").read_text())


def without(*names: str) -> Edit:
    return lambda facts: facts.model_copy(update={"vms": tuple(vm for vm in facts.vms if vm.name not in names)})


def row(name: str, /, **changes: Any) -> Edit:
    return lambda facts: facts.model_copy(
        update={"vms": tuple(vm.model_copy(update=changes) if vm.name == name else vm for vm in facts.vms)}
    )


def config(name: str, **changes: str | None) -> Edit:
    """Change values of a VM's configuration; None removes one."""

    def edit(facts: ProxmoxFacts) -> ProxmoxFacts:
        vmid = next(vm.vmid for vm in facts.vms if vm.name == name)
        values: dict[str, str | None] = {**facts.configs[vmid].values, **changes}
        kept = {key: value for key, value in values.items() if value is not None}
        return facts.model_copy(update={"configs": {**facts.configs, vmid: VmConfig(values=kept)}})

    return edit


def pending(name: str, **changes: str | None) -> Edit:
    def edit(facts: ProxmoxFacts) -> ProxmoxFacts:
        vmid = next(vm.vmid for vm in facts.vms if vm.name == name)
        there = facts.configs[vmid].model_copy(update={"pending": changes})
        return facts.model_copy(update={"configs": {**facts.configs, vmid: there}})

    return edit


def more(vm: VmRow, /, **values: str) -> Edit:
    return lambda facts: facts.model_copy(
        update={"vms": (*facts.vms, vm), "configs": {**facts.configs, vm.vmid: VmConfig(values=values)}}
    )


def node(name: str, /, **changes: Any) -> Edit:
    return lambda facts: facts.model_copy(
        update={"nodes": tuple(n.model_copy(update=changes) if n.name == name else n for n in facts.nodes)}
    )


def storage(host: str, /, **changes: Any) -> Edit:
    def edit(facts: ProxmoxFacts) -> ProxmoxFacts:
        rows = (s.model_copy(update=changes) if (s.node, s.name) == (host, "local-lvm") else s for s in facts.storages)
        return facts.model_copy(update={"storages": tuple(rows)})

    return edit


def both(*edits: Edit) -> Edit:
    def edit(facts: ProxmoxFacts) -> ProxmoxFacts:
        for one in edits:
            facts = one(facts)
        return facts

    return edit


def same(facts: ProxmoxFacts) -> ProxmoxFacts:
    return facts


def plan(lab: Lab, facts: ProxmoxFacts, **wants: Any) -> Plan:
    return plan_vms(lab, facts, **{"ssh_public_key": KEY, **wants})


def changes_of(found: Plan) -> list[tuple[str, Risk]]:
    return [(change.id, change.risk) for change in found.changes]


ORPHAN = VmRow(vmid=150, name="k3s-worker-09", node="atlas", status="running", tags=("k3s", "labkit"))
FOREIGN = VmRow(vmid=300, name="paperless", node="atlas", status="running")
M1, W5 = "k3s-master-01", "k3s-worker-05"
HALF = describe_unfinished(load_lab(ROOT / "parameters/lab.yaml"), W5)

NOTHING: dict[str, Edit] = {
    "all is as wanted": same,
    "the order of answers": lambda facts: facts.model_copy(update={"vms": facts.vms[::-1]}),
    "more tags of a person": config(M1, tags="k3s;labkit;mine;server"),
    "a note of a person below": lambda facts: config(
        M1, description=facts.configs[101].values["description"] + "my note"
    )(facts),
    "one more SSH key": lambda facts: config(
        M1, sshkeys=facts.configs[101].values["sshkeys"] + "ssh-rsa%20AAAA%20me%0A"
    )(facts),
    "the same key with another comment": lambda facts: config(
        M1, sshkeys=facts.configs[101].values["sshkeys"].replace("labkit", "other")
    )(facts),
    "memory in the newer form": config(M1, memory="current=4096"),
    "the short form of agent": config(M1, agent="1,fstrim_cloned_disks=1"),
    "more options of the network card": config(M1, net0="virtio=BC:24:11:00:00:00,bridge=vmbr0,firewall=1,mtu=1400"),
    "another model of network card": config(M1, net0="e1000=BC:24:11:00:00:00,bridge=vmbr0"),
    "an IPv6 address beside": config(M1, ipconfig0="gw=192.168.5.1,ip=192.168.5.20/24,ip6=auto"),
    "a start-up delay": config(M1, startup="order=1,up=30"),
    "a size in other units": config(M1, scsi0="local-lvm:vm-101-disk-0,size=102400M"),
    "a larger disk": config(M1, scsi0="local-lvm:vm-101-disk-0,size=200G"),
    "moved to another host": row(M1, node="atlas"),
    "locked by a backup": row(M1, lock="backup"),
    "foreign VMs": more(FOREIGN),
    "a foreign VM's template of the same name elsewhere": more(VmRow(vmid=9, name=M1, node="venus", template=True)),
    "an orphan that nobody named": more(ORPHAN),
    "a setting of a person that waits": pending(M1, cpu="host"),
    "a dead clone beside the VM": more(VmRow(vmid=150, name=M1, node="hades", lock="clone")),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_already_right(lab: Lab, right: ProxmoxFacts, name: str) -> None:
    assert changes_of(plan(lab, NOTHING[name](right))) == []


CHANGES: dict[str, tuple[Edit, list[tuple[str, Risk]]]] = {
    "missing": (without(W5), [(f"vm/{W5}/create", Risk.SAFE)]),
    "half-made": (config(W5, description=HALF), [(f"vm/{W5}/create", Risk.SAFE)]),
    "half-made, its clone died": (
        both(row(W5, lock="clone", status="stopped"), config(W5, description=HALF)),
        [(f"vm/{W5}/create", Risk.SAFE)],
    ),
    "stopped": (row(M1, status="stopped"), [(f"vm/{M1}/act", Risk.SAFE)]),
    "cores": (config(M1, cores="1"), [(f"vm/{M1}/update", Risk.DISRUPTIVE)]),
    "no cores said": (config(M1, cores=None), [(f"vm/{M1}/update", Risk.DISRUPTIVE)]),
    "cores that wait for a restart": (
        both(config(M1, cores="1"), pending(M1, cores="2")),
        [(f"vm/{M1}/update", Risk.DISRUPTIVE)],
    ),
    "cores of a stopped VM": (
        both(config(M1, cores="1"), row(M1, status="stopped")),
        [(f"vm/{M1}/update", Risk.SAFE), (f"vm/{M1}/act", Risk.SAFE)],
    ),
    "memory": (config(M1, memory="2048"), [(f"vm/{M1}/update", Risk.DISRUPTIVE)]),
    "address": (config(M1, ipconfig0="ip=dhcp"), [(f"vm/{M1}/update", Risk.DISRUPTIVE)]),
    "name server": (config(M1, nameserver="9.9.9.9"), [(f"vm/{M1}/update", Risk.DISRUPTIVE)]),
    "user": (config(M1, ciuser="root"), [(f"vm/{M1}/update", Risk.DISRUPTIVE)]),
    "agent": (config(M1, agent="0"), [(f"vm/{M1}/update", Risk.DISRUPTIVE)]),
    "bridge": (config(M1, net0="virtio=BC:24:11:00:00:00,bridge=vmbr1"), [(f"vm/{M1}/update", Risk.SAFE)]),
    "a VLAN too many": (
        config(M1, net0="virtio=BC:24:11:00:00:00,bridge=vmbr0,tag=9"),
        [(f"vm/{M1}/update", Risk.SAFE)],
    ),
    "tags": (config(M1, tags="mine"), [(f"vm/{M1}/update", Risk.SAFE)]),
    "description": (config(M1, description="mine"), [(f"vm/{M1}/update", Risk.SAFE)]),
    "start at boot": (config(M1, onboot="0"), [(f"vm/{M1}/update", Risk.SAFE)]),
    "disk growth": (config(M1, scsi0="local-lvm:vm-101-disk-0,size=80G"), [(f"vm/{M1}/update", Risk.SAFE)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_changes(lab: Lab, right: ProxmoxFacts, name: str) -> None:
    edit, expected = CHANGES[name]
    found = plan(lab, edit(right))
    assert changes_of(found) == expected
    assert not found.blockers


def test_empty_cluster(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, without(*lab.vms)(right))
    assert [change.target for change in found.changes] == list(lab.vms)
    assert {change.lane for change in found.changes} == {f"clone:{host}/ubuntu-template-{host}" for host in lab.hosts}
    assert "vmid" not in found.changes[0].after
    assert not found.blockers


def test_what_an_update_shows(lab: Lab, right: ProxmoxFacts) -> None:
    edit = both(config(M1, cores="1", net0="virtio=BC:24:11:00:00:00,bridge=vmbr1", scsi0="a:b,size=80G"))
    (change,) = plan(lab, edit(right)).changes
    assert change.before == {"cores": "1", "net0": "bridge=vmbr1", "disk": "80 GiB"}
    assert change.after == {"cores": "2", "net0": "bridge=vmbr0", "disk": "100 GiB"}
    assert "reboot" in change.note
    assert change.lane == "vm-restart"


def test_restarts_share_one_lane(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, both(*(config(name, cores="1") for name in lab.vms))(right))
    assert len(found.changes) == 9
    assert {change.lane for change in found.changes} == {"vm-restart"}


def test_another_key_is_shown_as_its_fingerprint_only(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, right, ssh_public_key=OTHER_KEY)
    assert {change.risk for change in found.changes} == {Risk.DISRUPTIVE}
    assert "SHA256:" in str(found.changes[0].after["sshkeys"])
    assert OTHER_KEY.split()[1] not in found.to_json()


def test_the_digest_of_creating_knows_no_key_and_no_vmid(lab: Lab, right: ProxmoxFacts) -> None:
    empty = without(*lab.vms)(right)
    other = more(FOREIGN)(empty)
    assert plan(lab, empty).digest == plan(lab, other, ssh_public_key=OTHER_KEY).digest


def test_only(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, without(M1, W5)(right), only=(W5,))
    assert changes_of(found) == [(f"vm/{W5}/create", Risk.SAFE)]


def test_destroy(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, both(more(ORPHAN), without(W5))(right), destroy=(ORPHAN.name,))
    assert changes_of(found) == [
        (f"vm/{W5}/create", Risk.SAFE),
        (f"vm/{ORPHAN.name}/delete", Risk.DESTRUCTIVE),
    ]
    assert found.changes[-1].before == {"vmid": 150, "host": "atlas"}


def test_destroy_again_plans_nothing(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, right, destroy=(ORPHAN.name,))
    assert not found.changes
    assert [(f.id, f.severity) for f in found.findings] == [("vm.destroy", Severity.WARNING)]


@pytest.mark.parametrize(
    ("wants", "said"),
    [
        ({"destroy": (M1,)}, "no longer in the lab"),
        ({"only": ("k3s-worker-5",)}, "did you mean k3s-worker-05?"),
    ],
)
def test_names_that_are_refused(lab: Lab, right: ProxmoxFacts, wants: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("?", "\\?")):
        plan(lab, right, **wants)


CLASH = {"ipconfig0": "ip=192.168.5.34/24,gw=192.168.5.1"}
NO_CLOUD_INIT = more(VmRow(vmid=9002, name="ubuntu-template-venus", node="venus", template=True), scsi0="a:b,size=3G")
BLOCKED: dict[str, tuple[Edit, str]] = {
    "no quorum": (lambda facts: facts.model_copy(update={"quorate": False}), "proxmox.quorum"),
    "host offline": (node("venus", online=False), "proxmox.host"),
    "host unknown": (node("venus", name="mars"), "proxmox.host"),
    "no template": (both(without(W5), without("ubuntu-template-venus")), "proxmox.template"),
    "two templates": (
        both(without(W5), more(VmRow(vmid=8, name="ubuntu-template-venus", node="venus", template=True))),
        "proxmox.template",
    ),
    "a template without cloud-init": (
        both(without(W5), without("ubuntu-template-venus"), NO_CLOUD_INIT),
        "proxmox.template",
    ),
    "storage inactive": (both(without(W5), storage("venus", active=False)), "proxmox.storage"),
    "storage disabled": (both(without(W5), storage("venus", enabled=False)), "proxmox.storage"),
    "storage for other things": (both(without(W5), storage("venus", content=("iso",))), "proxmox.storage"),
    "no such storage": (both(without(W5), storage("venus", name="tank")), "proxmox.storage"),
    "storage full": (both(without(W5), storage("venus", avail=3 * GIB)), "proxmox.storage-room"),
    "thick storage too small": (
        both(without(W5), storage("venus", type="lvm", avail=14 * GIB)),
        "proxmox.storage-room",
    ),
    "address taken": (both(without(W5), more(FOREIGN, **CLASH)), "vm.address"),
    "address taken by a container": (
        both(without(W5), more(FOREIGN.model_copy(update={"kind": "lxc"}), net0="name=eth0,ip=192.168.5.34/24")),
        "vm.address",
    ),
    "name taken by a container": (row(W5, kind="lxc"), "vm.name"),
    "two of one name": (more(VmRow(vmid=150, name=W5, node="hades", status="stopped")), "vm.name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKED)
def test_blockers(lab: Lab, right: ProxmoxFacts, name: str) -> None:
    edit, expected = BLOCKED[name]
    found = plan(lab, edit(right))
    assert {finding.id for finding in found.blockers} == {expected}
    assert all(finding.remedy for finding in found.blockers)


def test_a_fixed_vmid_that_another_has(lab: Lab, right: ProxmoxFacts) -> None:
    vms = {**lab.vms, W5: lab.vms[W5].model_copy(update={"vmid": 300})}
    fixed = lab.model_copy(update={"vms": vms})
    found = plan(fixed, both(without(W5), more(FOREIGN))(right))
    assert [finding.id for finding in found.blockers] == ["vm.vmid"]
    assert found.changes[0].after["vmid"] == 300
    assert [f.id for f in plan(fixed, right).findings] == ["vm.vmid"]


def test_destroy_of_what_labkit_did_not_make(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, more(FOREIGN)(right), destroy=(FOREIGN.name,))
    assert not found.changes
    assert [finding.id for finding in found.blockers] == ["vm.destroy"]


DRIFT: dict[str, tuple[Edit, str, Severity]] = {
    "host moved": (row(M1, node="atlas"), "vm.host", Severity.WARNING),
    "host moved by HA": (row(M1, node="atlas", ha="started"), "vm.host", Severity.WARNING),
    "disk shrink": (config(M1, scsi0="a:b,size=200G"), "vm.disk", Severity.WARNING),
    "waiting settings": (pending(M1, cpu="host"), "vm.pending", Severity.WARNING),
    "locked": (row(M1, lock="backup"), "vm.lock", Severity.INFO),
    "made by somebody else": (row(M1, tags=()), "vm.taken-over", Severity.WARNING),
    "a dead clone": (
        more(VmRow(vmid=150, name=M1, node="hades", lock="clone")),
        "vm.dead-clone",
        Severity.WARNING,
    ),
    "orphan": (more(ORPHAN), "vm.orphan", Severity.INFO),
    "thin storage that may run full": (
        both(without(W5), storage("venus", avail=14 * GIB)),
        "proxmox.storage-room",
        Severity.INFO,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIFT)
def test_drift_is_told_and_does_not_block(lab: Lab, right: ProxmoxFacts, name: str) -> None:
    edit, expected, severity = DRIFT[name]
    found = plan(lab, edit(right))
    assert [(finding.id, finding.severity) for finding in found.findings] == [(expected, severity)]


def test_a_missing_vm_is_created_and_nothing_else_is_touched(lab: Lab, right: ProxmoxFacts) -> None:
    found = plan(lab, both(without(W5), row(M1, node="atlas"))(right))
    assert [(change.action, change.target) for change in found.changes] == [(Action.CREATE, W5)]
