"""What the report says of Proxmox: nothing of a lab that is well, and for each trouble what it must find, no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from labkit.facts.proxmox import VmRow
from labkit.facts.pvehealth import HostCertificate, HostDisk, HostPool, PveHealth, StorageHealth, TaskRow, VmBackup
from labkit.facts.survey import Unread
from tests.checks.health.trio import DAY, GIB, LAB, NOW, Row, changed, found, got, guests, limits, pve

WELL = pve()
HOURS = timedelta(hours=1)


def test_a_lab_that_is_well_has_no_findings() -> None:
    assert found() == []


def host(name: str, **values: Any) -> PveHealth:
    return pve(hosts=changed(WELL.hosts, name, **values))


def vm(name: str, **values: Any) -> PveHealth:
    return pve(vms=changed(WELL.vms, name, **values))


def storage(node: str, name: str, **values: Any) -> PveHealth:
    return pve(storages=tuple(
        one.model_copy(update=values) if (one.node, one.name) == (node, name) else one for one in WELL.storages
    ))  # fmt: skip


def backups(hours: dict[str, float], jobs: int = 1, **values: Any) -> PveHealth:
    ids = {one.name: one.vmid for one in WELL.vms}
    made = [VmBackup(vmid=ids[name], made=NOW - age * HOURS, storage="nas", **values) for name, age in hours.items()]
    return pve(backups=tuple(sorted(made, key=lambda one: one.made, reverse=True)), backup_jobs=jobs)


def task(status: str, hours: float = 3, **values: Any) -> TaskRow:
    given = {"node": "south", "kind": "vzdump", "started": NOW - hours * HOURS, "status": status} | values
    return TaskRow(**given)


ALL = dict.fromkeys(("one", "two", "three", "four", "five"), 20.0)
SSL = HostCertificate(file="pve-ssl.pem", expires=NOW + 5 * DAY)
CA = HostCertificate(file="pve-root-ca.pem", expires=NOW + 5 * DAY)
TABLE: dict[str, tuple[PveHealth, list[Row]]] = {
    "full": (storage("south", "local-lvm", used=90 * GIB), [("storage-room", "warning", "storage local-lvm on south")]),
    "overfull": (storage("south", "local", used=96 * GIB), [("storage-room", "error", "storage local on south")]),
    "away": (storage("west", "local", available=False), [("storage-available", "error", "storage local on west")]),
    "shared and full": (
        pve(storages=tuple(StorageHealth(node=node, name="nas", shared=True, total=100, used=97)
                           for node in LAB.hosts)),
        [("storage-room", "error", "storage nas")],
    ),
    "shared and away": (
        pve(storages=tuple(StorageHealth(node=node, name="nas", shared=True, available=False) for node in LAB.hosts)),
        [("storage-available", "error", f"storage nas on {node}") for node in ("north", "south", "west")],
    ),
    "no quorum": (pve(quorate=False), [("quorum", "error", "Proxmox cluster")]),
    "a host that was never there": (
        pve(hosts=WELL.hosts[:2]), [("host-online", "error", "host west")],
    ),
    "silent host": (host("west", problem="status: 596"), [("host-answers", "warning", "host west")]),
    "root": (host("west", root_used=85 * GIB), [("root-room", "warning", "host west")]),
    "root full": (host("west", root_used=93 * GIB), [("root-room", "error", "host west")]),
    "memory": (host("north", maxmem=4 * GIB), [("memory", "warning", "host north")]),
    "certificate": (host("west", certificates=(SSL,)), [("certificate", "warning", "host west")]),
    "certificate ended": (
        host("west", certificates=(SSL.model_copy(update={"expires": NOW - DAY}),)),
        [("certificate", "error", "host west")],
    ),
    "the cluster's own certificate, once": (
        pve(hosts=tuple(one.model_copy(update={"certificates": (CA,)}) for one in WELL.hosts)),
        [("certificate", "warning", "Proxmox cluster")],
    ),
    "disk": (
        host("west", disks=(HostDisk(device="/dev/sda", health="FAILED!"),)),
        [("disk-health", "error", "disk /dev/sda on west")],
    ),
    "a disk that does not tell": (host("west", disks=(HostDisk(device="/dev/sda", health="UNKNOWN"),)), []),
    "worn": (
        host("west", disks=(HostDisk(device="/dev/sda", health="PASSED", wear=88),)),
        [("disk-wear", "warning", "disk /dev/sda on west")],
    ),
    "pool": (
        host("west", pools=(HostPool(name="rpool", health="DEGRADED"),)), [("pool", "error", "pool rpool on west")],
    ),
    "pool well": (host("west", pools=(HostPool(name="rpool", health="ONLINE"),)), []),
    "version": (host("west", version="9.0.11", kernel="6.14.1-1-pve"), [("version", "warning", "host west")]),
    "kernel": (host("west", kernel="6.14.11-4-pve"), [("kernel", "info", "host west")]),
    "restarted": (host("west", uptime=7200), [("restarted", "info", "host west")]),
    "template": (
        pve(vms=tuple(one for one in WELL.vms if one.name != "ubuntu-template-north")),
        [("template", "warning", "host north")],
    ),
    "moved": (vm("four", node="west"), [("vm-host", "warning", "VM four")]),
    "small": (vm("four", maxmem=GIB), [("vm-size", "warning", "VM four")]),
    "one core": (vm("four", maxcpu=1), [("vm-size", "warning", "VM four")]),
    "larger disk": (vm("four", maxdisk=900 * GIB), []),
    "locked": (vm("four", lock="backup"), [("vm-lock", "warning", "VM four")]),
    "ha": (vm("four", ha="error"), [("ha", "error", "VM four")]),
    "somebody's VM": (
        pve(vms=(*WELL.vms, VmRow(vmid=500, name="windows", node="north", status="stopped", lock="backup"))), [],
    ),
    "twice": (
        pve(vms=(*WELL.vms, VmRow(vmid=501, name="four", node="west", status="stopped"))),
        [("vm-missing", "warning", "VM four")],
    ),
    "backups on time": (backups(ALL), []),
    "old backup": (backups(ALL | {"four": 24 * 9}), [("backup-age", "warning", "VM four")]),
    "never backed up": (
        backups({name: age for name, age in ALL.items() if name != "four"}), [("backup-age", "warning", "VM four")],
    ),
    "no backup to be seen": (backups({}), [("backup-age", "warning", "backups of VMs")]),
    "nobody backs up VMs": (backups({}, jobs=0), []),
    "broken backup": (
        backups({"four": 20.0}, verified="failed").model_copy(update={"unread": ("storage pbs on west: 500",)}),
        [("backup-read", "warning", "storage pbs on west"), ("backup-verified", "error", "VM four")],
    ),
    "backup failed": (pve(tasks=(task("job errors"),)), [("backup-task", "warning", "backup on south")]),
    "backup went well since": (pve(tasks=(task("OK", 2), task("job errors", 26))), []),
    "backup with warnings": (pve(tasks=(task("WARNINGS: 1"),)), []),
    "failed long ago": (pve(tasks=(task("job errors", 24 * 9),)), []),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_each_trouble_is_found_and_nothing_else(name: str) -> None:
    facts, expected = TABLE[name]
    kept = {"four": "west"} if name == "moved" else {}
    rows = [row for row in found(proxmox_health=facts) if row[0] != "kubernetes.zone" or not kept]
    assert sorted(rows) == sorted((f"proxmox.{check}", *rest) for check, *rest in expected)


def test_a_lock_of_a_running_backup_is_fine() -> None:
    locked = vm("four", lock="backup")
    vmid = str(next(one.vmid for one in locked.vms if one.name == "four"))
    for running in (task("", id=vmid), task("", node="north")):
        assert found(proxmox_health=locked.model_copy(update={"tasks": (running,)})) == []


def test_a_vm_that_is_off_is_one_finding_and_its_guest_none() -> None:
    off = vm("four", status="stopped")
    away = guests(four={"reachable": False, "problem": "no answer"})
    assert found(proxmox_health=off, guest_health=away) == [("proxmox.vm-running", "error", "VM four")]


def test_a_host_that_is_off_takes_its_vms_with_it() -> None:
    off = pve(hosts=changed(WELL.hosts, "north", online=False),
              vms=tuple(one.model_copy(update={"status": "unknown"}) if one.node == "north" else one
                        for one in WELL.vms))  # fmt: skip
    away = guests(one={"reachable": False}, four={"reachable": False})
    assert found(proxmox_health=off, guest_health=away) == [("proxmox.host-online", "error", "host north")]


def test_a_vm_that_is_gone() -> None:
    gone = pve(vms=tuple(one for one in WELL.vms if one.name != "five"))
    away = guests(five={"reachable": False})
    assert found(proxmox_health=gone, guest_health=away) == [("proxmox.vm-missing", "error", "VM five")]


def test_an_agent_that_does_not_run_and_one_of_a_guest_that_is_away() -> None:
    silent = guests(four={"units": {"k3s-agent": guests().guest("four").unit("k3s-agent")}})
    assert found(guest_health=silent) == [("proxmox.guest-agent", "warning", "VM four")]
    away = guests(four={"reachable": False, "units": {}})
    assert found(guest_health=away) == [("guests.reachable", "error", "guest four")]


def test_limits_of_the_lab_file_count() -> None:
    assert found(lab=limits("proxmox", storage_percent=30))[0] == (
        "proxmox.storage-room", "warning", "storage local on north",
    )  # fmt: skip
    assert found(lab=limits("proxmox", backup_hours=10), proxmox_health=backups(ALL)) != []
    assert found(lab=limits("proxmox", memory_percent=200), proxmox_health=host("north", maxmem=4 * GIB)) == []


def test_what_it_got_is_told_in_words() -> None:
    assert got("proxmox.storage-room", proxmox_health=storage("south", "local", used=96 * GIB)) == [
        "96 % of 100 GiB used, 4.0 GiB free"
    ]
    assert got("proxmox.memory", proxmox_health=host("north", maxmem=4 * GIB)) == ["5.0 GiB for 2 VMs: 125 %"]
    assert got("proxmox.backup-age", proxmox_health=backups(ALL | {"four": 24 * 9})) == ["backed up 9 days ago (nas)"]
    assert got("proxmox.vm-size", proxmox_health=vm("four", maxmem=GIB)) == ["memory 1 GiB"]


def test_without_proxmox_the_rest_is_looked_at() -> None:
    unread = Unread(system="proxmox-health", reason="off")
    away = guests(four={"reachable": False})
    assert found(proxmox_health=unread) == []
    assert found(proxmox_health=unread, guest_health=away) == [("guests.reachable", "error", "guest four")]
