"""From answers as real systems give them to facts: tables of what is read and what comes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.facts.kubehealth import DeprecatedUse, PodHealth
from labkit.facts.podstates import PodState, state_of
from labkit.facts.quantities import parse_quantity
from labkit.systems import guesthealth
from labkit.systems.kubehealth import details, pods, rows, values, versions
from labkit.systems.kubernetes import Row, Table
from labkit.systems.proxmox import health

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)

# Proxmox


def test_a_disk_tells_what_is_left_and_is_asked_what_is_used() -> None:
    disks = health.parse_disks([
        {"devpath": "/dev/sdb", "health": "PASSED", "type": "hdd", "wearout": "N/A", "size": 4000787030016,
         "model": "WDC_WD40EFRX ", "serial": "WD-1", "used": "ZFS"},
        {"devpath": "/dev/nvme0n1", "health": "PASSED", "type": "nvme", "wearout": 97, "used": "LVM"},
    ])  # fmt: skip
    assert [(disk.device, disk.wear, disk.used) for disk in disks] == [("/dev/nvme0n1", 3, "LVM"),
                                                                       ("/dev/sdb", None, "ZFS")]  # fmt: skip
    assert disks[1].model == "WDC_WD40EFRX"


def test_the_kernel_is_read_in_old_and_new_answers() -> None:
    new = {"pveversion": "pve-manager/9.1.1/42db4a6cf33dac83", "current-kernel": {"release": "6.17.2-1-pve"},
           "rootfs": {"total": 100, "used": 7}, "uptime": 5}  # fmt: skip
    assert health.parse_status(new) == {"version": "9.1.1", "kernel": "6.17.2-1-pve", "root_total": 100,
                                        "root_used": 7, "uptime": 5}  # fmt: skip
    old = {"pveversion": "pve-manager/7.4-3/9002ab8a", "kversion": "Linux 5.15.102-1-pve #1 SMP PVE"}
    assert health.parse_status(old)["kernel"] == "5.15.102-1-pve"


def test_backups_are_looked_for_once_on_a_shared_storage() -> None:
    resources: list[dict[str, Any]] = [
        {"type": "storage", "node": node, "storage": name, "status": status, "shared": shared, "content": content}
        for node in ("a", "b", "c")
        for name, status, shared, content in (
            ("local", "available", 0, "iso,backup"), ("nas", "available", 1, "backup"),
            ("gone", "unknown", 1, "backup"), ("lvm", "available", 0, "images"),
        )
    ]  # fmt: skip
    found = health.backup_places(health.parse_storages(resources), ["a", "b"])
    assert found == [("a", "local"), ("a", "nas"), ("b", "local")]


def test_a_backup_of_the_backup_server_has_its_verification() -> None:
    row = {"vmid": 100, "ctime": 1795400000, "size": 5, "verification": {"state": "failed", "upid": "..."}}
    assert health.parse_backup("a", "pbs", row).verified == "failed"
    assert health.parse_backup("a", "local", {"vmid": 100, "ctime": 1795400000}).verified == ""


def test_jobs_count_when_they_are_on() -> None:
    assert health.count_jobs([{"enabled": 1}, {}, {"enabled": 0}]) == 2
    assert health.count_jobs(None) is None


def test_a_task_that_runs_has_no_status() -> None:
    row = {"node": "a", "type": "vzdump", "id": "", "starttime": 1795400000}
    assert health.parse_task(row).status == ""
    assert health.parse_task({**row, "endtime": 1795400009, "status": "job errors"}).status == "job errors"


# Guests

UBUNTU = """=#= began
1795400000.250000000
=#= kernel
6.8.0-87-generic
=#= uptime
1209600.11 4838400.00
=#= memory
MemTotal:        4018436 kB
MemFree:          210020 kB
MemAvailable:    2009218 kB
=#= space
Mounted on        1B-blocks        Used       Avail   Inodes  IUsed
/               40517300224 10129325056 30371197952  5160960 184321
/               40517300224 10129325056 30371197952  5160960 184321
/var/lib/longhorn 105089261568 52544630784 47136837632 6553600 123
=#= options
rw,relatime,discard,errors=remount-ro,commit=30
=#= failed
  snapd.service          loaded failed failed Snap Daemon
● fwupd-refresh.service loaded failed failed Refresh fwupd metadata and update motd
=#= units
Id=k3s.service
NRestarts=3
ActiveState=active

Id=k3s-agent.service
NRestarts=0
ActiveState=inactive

Id=qemu-guest-agent.service
NRestarts=0
ActiveState=active
=#= synchronized
yes
=#= k3s
k3s version v1.33.4+k3s1 (148243c4)
go version go1.24.5
=#= reboot
1795000000
=#= reboot_for
linux-image-6.8.0-88-generic
linux-base
linux-base
=#= certificates
==> /var/lib/rancher/k3s/agent/client-kubelet.crt <==
no certificate
=#= ended
1795400001.250000000
"""


def test_the_answer_of_a_real_guest() -> None:
    found = guesthealth.parse(guesthealth.split(UBUNTU))
    root, longhorn = found.pop("file_systems")
    assert (root.target, round(root.percent), round(root.inode_percent)) == ("/", 25, 4)
    assert (longhorn.target, round(longhorn.percent)) == ("/var/lib/longhorn", 53)
    units = found.pop("units")
    assert {name: (unit.state, unit.restarts) for name, unit in units.items()} == {
        "k3s": ("active", 3), "k3s-agent": ("inactive", 0), "qemu-guest-agent": ("active", 0),
    }  # fmt: skip
    assert found == {
        "kernel": "6.8.0-87-generic", "uptime": 1209600.11, "memory": 4018436 * 1024, "memory_free": 2009218 * 1024,
        "read_only": False, "failed_units": ("fwupd-refresh", "snapd"), "synchronized": True,
        "k3s_version": "v1.33.4+k3s1", "reboot_since": datetime.fromtimestamp(1795000000, UTC),
        "reboot_for": ("linux-image-6.8.0-88-generic", "linux-base"), "certificates": (),
    }  # fmt: skip


def test_a_guest_without_any_of_it() -> None:
    text = "".join(f"=#= {name}\n" for name in ("began", "kernel", "space", "failed", "units", "k3s", "ended"))
    found = guesthealth.parse(guesthealth.split(text))
    assert found == {"kernel": "", "file_systems": (), "read_only": False, "failed_units": (), "units": {},
                     "reboot_for": (), "certificates": ()}  # fmt: skip


@given(st.text(max_size=300))
def test_any_answer_of_a_guest_is_read(text: str) -> None:
    guesthealth.parse(guesthealth.split(text))


def test_the_clock_is_compared_whatever_the_command_takes() -> None:
    # The guest is 7 s ahead; the way there takes 0.1 s, the command 2 s, the way back 0.3 s.
    answers = {"began": "1007.1", "ended": "1009.1"}
    assert guesthealth._clock(answers, 1000.0, 1002.4) == {"clock_offset": 6.9, "clock_error": 0.2}


# The cluster


@pytest.mark.parametrize(
    ("text", "count", "ago"),
    [("0", 0, None), ("5 (3m2s ago)", 5, 182), ("12 (4h ago)", 12, 14400), ("1 (2y45d ago)", 1, 775 * 86400),
     ("3 (<invalid> ago)", 3, 0), ("", 0, None)],
)  # fmt: skip
def test_restarts(text: str, count: int, ago: int | None) -> None:
    assert values.restarts(text, NOW) == (count, None if ago is None else NOW - timedelta(seconds=ago))


@pytest.mark.parametrize(
    ("text", "number"),
    [("100m", 0.1), ("1Gi", 2**30), ("5", 5), ("1k", 1000), ("1e3", 1000), ("2.5G", 2.5e9), ("none", 0), ("1.2.3", 0)],
)
def test_quantities(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


@pytest.mark.parametrize(
    ("status", "ready", "state"),
    [
        ("Running", 1, PodState.FINE), ("Completed", 0, PodState.FINE), ("Succeeded", 0, PodState.FINE),
        ("CrashLoopBackOff", 0, PodState.CRASHES), ("Init:CrashLoopBackOff", 0, PodState.CRASHES),
        ("Init:Error", 0, PodState.CRASHES), ("ExitCode:137", 0, PodState.CRASHES), ("Signal:9", 0, PodState.CRASHES),
        ("OOMKilled", 0, PodState.CRASHES), ("Init:ErrImagePull", 0, PodState.IMAGE),
        ("Init:0/2", 0, PodState.STARTING),
        ("PodInitializing", 0, PodState.STARTING), ("Pending", 0, PodState.PENDING), ("Running", 0, PodState.UNREADY),
        ("Evicted", 0, PodState.LEFT), ("OutOfephemeral-storage", 0, PodState.LEFT), ("Unknown", 0, PodState.LOST),
        ("Terminating", 1, PodState.ENDING),
    ],
)  # fmt: skip
def test_states_of_pods(status: str, ready: int, state: PodState) -> None:
    assert state_of(PodHealth(namespace="a", name="b", status=status, ready=ready, total=1)) is state


def owned(kind: str, name: str, **labels: str) -> dict[str, Any]:
    owner = {"kind": kind, "name": name, "controller": True}
    return {"namespace": "apps", "name": "x", "ownerReferences": [owner], "labels": labels}


@pytest.mark.parametrize(
    ("meta", "owner"),
    [
        (owned("ReplicaSet", "web-5d4f", **{"pod-template-hash": "5d4f"}), "Deployment apps/web"),
        (owned("ReplicaSet", "lonely"), "ReplicaSet apps/lonely"),
        (owned("StatefulSet", "db"), "StatefulSet apps/db"),
        (owned("Job", "tidy-29103"), "CronJob apps/tidy"),
        (owned("Job", "once"), "Job apps/once"),
        (owned("Node", "one"), ""),
        ({"namespace": "apps", "name": "alone"}, ""),
    ],
)
def test_what_a_pod_belongs_to(meta: dict[str, Any], owner: str) -> None:
    assert pods.owner_of(meta, {("apps", "tidy-29103"): "tidy"}) == owner


def test_jobs_of_an_old_cluster_without_a_status_column() -> None:
    meta = {"namespace": "a", "name": "b"}
    table = Table(("Name", "Completions"), (Row(("b", "1/1"), meta), Row(("b", "0/1"), meta)))
    assert [job.status for job in pods.parse_jobs(table)] == ["Complete", "Running"]


def test_a_snapshot_that_failed_and_one_in_s3() -> None:
    failed = {"metadata": {"name": "x"}, "spec": {"snapshotName": "etcd-1", "nodeName": "one", "location": ""},
              "status": {"error": {"time": "2026-11-23T00:00:05Z", "message": "no space left on device"}}}  # fmt: skip
    row = rows.parse_snapshot(failed, "0123")
    assert (row.good, row.error, row.created) == (
        False,
        "no space left on device",
        NOW.replace(hour=0, minute=0, second=5),
    )
    note = {"annotations": {"etcd.k3s.cattle.io/snapshot-token-hash": "0123"}}
    kept = {"metadata": {"name": "x", **note}, "spec": {"nodeName": "s3", "location": "s3://bucket/etcd-1"},
            "status": {"readyToUse": True, "size": "12Mi", "creationTime": "2026-11-23T00:00:05Z"}}  # fmt: skip
    row = rows.parse_snapshot(kept, "0123")
    assert (row.good, row.elsewhere, row.opens, row.size) == (True, True, "same", 12 * 2**20)
    assert rows.parse_snapshot(kept, "4567").opens == "other"
    assert rows.parse_snapshot(kept, "").opens == "unknown"


def test_webhooks_of_a_service_without_selector_count_as_answered() -> None:
    hook = {"name": "a", "clientConfig": {"service": {"namespace": "n", "name": "outside"}}}
    url = {"name": "b", "clientConfig": {"url": "https://elsewhere"}}
    service = pods.parse_service({"metadata": {"namespace": "n", "name": "outside"}, "spec": {}}, {})
    found = rows.parse_webhooks([{"metadata": {"name": "w"}, "webhooks": [hook, url]}], "mutating", [service],
                                {"n/outside"})  # fmt: skip
    assert [(one.service, one.backends, one.fails) for one in found] == [("n/outside", 1, True)]
    assert (
        rows.parse_webhooks([{"metadata": {"name": "w"}, "webhooks": [hook]}], "mutating", [], set())[0].backends == -1
    )


def test_quotas_are_told_by_resource() -> None:
    item = {"metadata": {"namespace": "a", "name": "q"},
            "status": {"hard": {"requests.memory": "8Gi", "pods": "0"},
                       "used": {"requests.memory": "7680Mi"}}}  # fmt: skip
    (row,) = rows.parse_quotas(item)
    assert (row.resource, row.percent) == ("requests.memory", 93.8)


def test_deprecated_apis_in_metrics() -> None:
    text = b"""# TYPE apiserver_requested_deprecated_apis gauge
apiserver_request_total{code="200",group="",verb="GET"} 12
apiserver_requested_deprecated_apis{group="policy",removed_release="1.25",resource="pdbs",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 0
"""
    assert versions.parse_metrics(text) == (
        DeprecatedUse(group="policy", version="v1beta1", resource="pdbs", removed="1.25"),
    )


def test_stored_versions_that_go() -> None:
    def crd(stored: list[str], **old: Any) -> dict[str, Any]:
        known = [{"name": "v1", "served": True, "storage": True}, {"name": "v1beta2", "storage": False, **old}]
        return {"metadata": {"name": "x.y"}, "spec": {"versions": known}, "status": {"storedVersions": stored}}

    assert versions.parse_definitions([crd(["v1"], served=True)]) == ()
    assert versions.parse_definitions([crd(["v1beta2", "v1"], served=True)]) == ()
    assert [one.versions for one in versions.parse_definitions([
        crd(["v1beta2", "v1"], served=False), crd(["v1beta2", "v1"], served=True, deprecated=True),
        crd(["v1alpha1", "v1"], served=True)])] == [("v1beta2",), ("v1beta2",), ("v1alpha1",)]  # fmt: skip


def test_why_a_container_ended_goes_before_that_it_waits() -> None:
    pod = {"status": {
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-23T06:00:00Z"}],
        "containerStatuses": [{
            "name": "web", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}}  # fmt: skip
    assert details.pod_details(pod) == {"message": "web: OOMKilled, exit code 137", "since": NOW.replace(minute=0)}
