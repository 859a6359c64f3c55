"""What the report says of the cluster: for each trouble what it must find, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labkit.checks.health import Area, all_checks
from labkit.facts.guesthealth import NodeCertificate
from labkit.facts.kubehealth import (
    BrokenApi,
    Budget,
    ClaimRow,
    CronJobRow,
    DeprecatedUse,
    EndingNamespace,
    JobRow,
    KubeHealth,
    OldVersion,
    QuotaRow,
    ServiceRow,
    ServingCertificate,
    SnapshotRow,
    WebhookRow,
    Workload,
)
from labkit.facts.survey import Unread
from labkit.lab import Lab
from tests.checks.health import test_guests, test_proxmox
from tests.checks.health.trio import (
    DAY,
    LAB,
    NOW,
    OLD,
    Row,
    changed,
    findings,
    found,
    got,
    guests,
    kube,
    limits,
    node,
    pod,
    pve,
    web,
)

WELL = kube()
WEB = "Deployment default/web"
MINUTE = timedelta(minutes=1)
SOON = NOW + 12 * DAY


def nodes(name: str, **values: Any) -> KubeHealth:
    return kube(nodes=changed(WELL.nodes, name, **values))


def pods(*some: Any, wanted: int = 1, ready: int = 0, **values: Any) -> KubeHealth:
    """The pods of default/web in place of the one that runs."""
    others = tuple(one for one in WELL.pods if one.owner != WEB)
    workloads = tuple(web(wanted=wanted, ready=ready, **values) if one.subject == WEB else one
                      for one in WELL.workloads)  # fmt: skip
    return kube(pods=(*others, *some), workloads=workloads)


def snapshot(name: str, hours: float, **values: Any) -> SnapshotRow:
    given = {"name": f"etcd-{name}", "node": name, "location": "file:///x", "created": NOW - timedelta(hours=hours),
             "opens": "same"} | values  # fmt: skip
    return SnapshotRow(**given)


def job(name: str, status: str, hours: float, cronjob: str = "", **values: Any) -> JobRow:
    when = NOW - timedelta(hours=hours)
    return JobRow(namespace="default", name=name, status=status, created=when, cronjob=cronjob, **values)


def cronjob(schedule: str, last: datetime | None, **values: Any) -> CronJobRow:
    return CronJobRow(namespace="default", name="tidy", schedule=schedule, last=last, created=OLD, **values)


def webhook(backends: int, *, fails: bool) -> KubeHealth:
    row = WebhookRow(configuration="guard", kind="validating", service="default/guard", fails=fails, backends=backends)
    return kube(webhooks=(row,))


def budget(**values: Any) -> KubeHealth:
    given = {"namespace": "default", "name": "web", "allowed": 0, "healthy": 1, "desired": 1, "expected": 1,
             "minimum": "1"} | values  # fmt: skip
    return kube(budgets=(Budget(**given),))


CONTROL: dict[str, tuple[KubeHealth, list[Row]]] = {
    "well": (WELL, []),
    "readyz": (kube(unhealthy=("etcd",)), [("api", "error", "Kubernetes API")]),
    "a server's API": (kube(serving=WELL.serving[1:]), [("servers", "error", "server one")]),
    "metrics not allowed": (kube(unread={"metrics": "forbidden"}), [("readable", "info", "Kubernetes API")]),
    "node missing": (kube(nodes=WELL.nodes[:-1]), [("node-missing", "error", "node five")]),
    "node in the other role": (nodes("five", server=True, voter=True), [
        ("node-missing", "error", "node five"), ("quorum", "warning", "host south"),
        ("snapshot-age", "warning", "node five")]),
    "node of nobody": (
        kube(nodes=(*WELL.nodes, node(LAB.machines[4], name="old", ready=False))),
        [("node-unknown", "warning", "node old")],
    ),
    "somebody's node": (
        kube(nodes=(*WELL.nodes, node(LAB.machines[4], name="laptop"))), [("node-unknown", "info", "node laptop")],
    ),
    "agent not ready": (
        nodes("five", ready=False, problem="kubelet stopped posting", since=NOW - 20 * MINUTE),
        [("node-ready", "error", "node five")],
    ),
    "server not ready": (
        nodes("two", ready=False, problem="kubelet stopped posting"),
        [("node-ready", "error", "node two"), ("etcd-spare", "error", "etcd")],
    ),
    "pressure": (nodes("five", pressures=("DiskPressure",)), [("node-pressure", "warning", "node five")]),
    "cordoned": (nodes("five", schedulable=False), [("cordoned", "warning", "node five")]),
    "learner": (nodes("two", voter=False), [
        ("etcd-voter", "error", "node two"), ("quorum", "warning", "host north"), ("quorum", "warning", "host west"),
    ]),
    "sqlite": (kube(nodes=tuple(one.model_copy(update={"voter": None}) for one in WELL.nodes), snapshots=()), []),
    "zone that lies": (
        nodes("five", labels={"topology.kubernetes.io/zone": "west"}), [("zone", "warning", "node five")],
    ),
    "no zone": (nodes("five", labels={}), [("zone", "warning", "node five")]),
    "restart forgotten": (nodes("five", version="v1.33.3+k3s1"), [("version", "warning", "node five")]),
    "newer than a server": (nodes("five", version="v1.34.1+k3s1"), [("version", "error", "node five")]),
    "far behind": (nodes("five", version="v1.29.1+k3s1"), [("version", "error", "node five")]),
}  # fmt: skip

PODS: dict[str, tuple[KubeHealth, list[Row]]] = {
    "crash": (pods(pod(status="CrashLoopBackOff", ready=0, restarts=12, restarted=NOW - MINUTE)),
              [("pod-crash", "error", WEB)]),
    "several crash": (pods(*(pod(f"web-{n}", status="Init:CrashLoopBackOff", ready=0) for n in range(3)), wanted=3),
                      [("pod-crash", "error", WEB)]),
    "exit code": (pods(pod(status="ExitCode:2", ready=0)), [("pod-crash", "error", WEB)]),
    "secret missing": (pods(pod(status="CreateContainerConfigError", ready=0)), [("pod-crash", "error", WEB)]),
    "image": (pods(pod(status="ImagePullBackOff", ready=0)), [("pod-image", "error", WEB)]),
    "pending for a moment": (pods(pod(status="Pending", ready=0, node="", created=NOW - MINUTE)), []),
    "pending": (pods(pod(status="Pending", ready=0, node="", since=NOW - 40 * MINUTE)),
                [("pod-pending", "error", WEB)]),
    "starts": (pods(pod(status="ContainerCreating", ready=0, created=NOW - 5 * MINUTE)), []),
    "starts for long": (pods(pod(status="Init:0/1", ready=0, created=NOW - 50 * MINUTE)),
                        [("pod-starting", "error", WEB)]),
    "unready for a moment": (pods(pod(ready=0, since=NOW - MINUTE)), []),
    "unready": (pods(pod(ready=0, since=NOW - 50 * MINUTE)), [("pod-unready", "error", WEB)]),
    "ends": (pods(pod(status="Terminating", deleting=NOW - MINUTE), pod("web-2"), ready=1), []),
    "never ends": (pods(pod(status="Terminating", deleting=NOW - 50 * MINUTE), pod("web-2"), ready=1),
                   [("pod-terminating", "warning", WEB)]),
    "restarts": (pods(pod(restarts=7, restarted=NOW - 3 * MINUTE), ready=1), [("pod-restarts", "warning", WEB)]),
    "restarted long ago": (pods(pod(restarts=70, restarted=NOW - 3 * DAY), ready=1), []),
    "a few restarts": (pods(pod(restarts=2, restarted=NOW - MINUTE), ready=1), []),
    "evicted": (pods(pod(status="Evicted", ready=0), pod("web-2"), ready=1), [("pod-evicted", "info", WEB)]),
    "completed": (pods(pod(status="Completed", ready=0, owner="Job default/once"), pod("web-2"), ready=1), []),
    "a pod of its own": (pods(pod("alone", status="Error", ready=0, owner=""), pod("web-2"), ready=1),
                         [("pod-crash", "error", "Pod default/alone")]),
    "none at all": (pods(wanted=2), [("replicas", "error", WEB)]),
    "one of two": (pods(pod(), wanted=2, ready=1), [("replicas", "warning", WEB)]),
    "short for a moment": (pods(pod(), wanted=2, ready=1, since=NOW - MINUTE), []),
    "scaled to none": (pods(wanted=0), []),
    "a job's pod": (pods(pod("once", status="Error", ready=0, owner="Job default/once"), pod(), ready=1), []),
}  # fmt: skip

OBJECTS: dict[str, tuple[KubeHealth, list[Row]]] = {
    "job": (kube(jobs=(job("once", "Failed", 5),)), [("job-failed", "warning", "Job default/once")]),
    "job long ago": (kube(jobs=(job("once", "Failed", 24 * 9),)), []),
    "cron's last failed": (
        kube(jobs=(job("tidy-1", "Complete", 9, "tidy"), job("tidy-2", "Failed", 3, "tidy"))),
        [("job-failed", "warning", "CronJob default/tidy")],
    ),
    "cron's last went well": (kube(jobs=(job("t-2", "Failed", 9, "tidy"), job("t-3", "Complete", 3, "tidy"))), []),
    "cron's last runs": (
        kube(jobs=(job("t-2", "Failed", 9, "tidy"), job("t-3", "Running", 1, "tidy"))),
        [("job-failed", "warning", "CronJob default/tidy")],
    ),
    "on time": (kube(cronjobs=(cronjob("0 3 * * *", datetime(2026, 11, 23, 3, 0, tzinfo=UTC)),)), []),
    "just due": (kube(cronjobs=(cronjob("25 6 * * *", datetime(2026, 11, 22, 6, 25, tzinfo=UTC)),)), []),
    "missed": (
        kube(cronjobs=(cronjob("0 3 * * *", datetime(2026, 11, 22, 3, 0, tzinfo=UTC)),)),
        [("cronjob-missed", "warning", "CronJob default/tidy")],
    ),
    "never ran": (
        kube(cronjobs=(cronjob("0 3 * * *", None),)), [("cronjob-missed", "warning", "CronJob default/tidy")],
    ),
    "suspended": (kube(cronjobs=(cronjob("0 3 * * *", None, suspended=True),)), []),
    "runs now": (kube(cronjobs=(cronjob("0 3 * * *", None, active=1),)), []),
    "in its own zone": (
        kube(cronjobs=(cronjob("0 7 * * *", datetime(2026, 11, 22, 6, 0, tzinfo=UTC), zone="Europe/Berlin"),)),
        [("cronjob-missed", "warning", "CronJob default/tidy")],
    ),
    "odd schedule": (kube(cronjobs=(cronjob("every day", None),)), []),
    "claim": (
        kube(claims=(ClaimRow(namespace="default", name="data", status="Pending", created=OLD),)),
        [("claim", "error", "claim default/data")],
    ),
    "claim lost": (
        kube(claims=(ClaimRow(namespace="default", name="data", status="Lost", created=OLD),)),
        [("claim", "error", "claim default/data")],
    ),
    "claim that nobody uses": (
        kube(claims=(ClaimRow(namespace="default", name="data", status="Pending", created=OLD,
                              message="waiting for first consumer to be created before binding"),)), [],
    ),
    "claim of now": (kube(claims=(ClaimRow(namespace="a", name="b", status="Pending", created=NOW),)), []),
    "no address": (
        kube(services=(*WELL.services, ServiceRow(namespace="a", name="b", kind="LoadBalancer", created=OLD))),
        [("service-address", "error", "Service a/b")],
    ),
    "webhook": (webhook(0, fails=True), [("webhook", "error", "validating webhook guard")]),
    "webhook of nobody": (webhook(-1, fails=True), [("webhook", "error", "validating webhook guard")]),
    "webhook that may fail": (webhook(0, fails=False), [("webhook", "warning", "validating webhook guard")]),
    "webhook well": (webhook(1, fails=True), []),
    "API": (
        kube(broken_apis=(BrokenApi(name="v1beta1.metrics.k8s.io", service="kube-system/metrics-server",
                                    reason="MissingEndpoints"),)),
        [("api-service", "error", "APIService v1beta1.metrics.k8s.io")],
    ),
    "budget": (budget(), [("budget", "warning", "PodDisruptionBudget default/web")]),
    "budget with room": (budget(allowed=1), []),
    "budget of what is ill": (budget(healthy=0), []),
    "budget of none": (budget(expected=0, healthy=0), []),
    "Longhorn's budget": (budget(namespace="longhorn-system", name="instance-manager-x"), []),
    "quota": (
        kube(quotas=(QuotaRow(namespace="a", name="q", resource="pods", used="19", hard="20", percent=95.0),)),
        [("quota", "warning", "ResourceQuota a/q")],
    ),
    "namespace": (
        kube(ending=(EndingNamespace(name="gone", since=NOW - DAY),)),
        [("namespace-ending", "warning", "namespace gone")],
    ),
    "namespace that just ends": (kube(ending=(EndingNamespace(name="gone", since=NOW - MINUTE),)), []),
    "removed API": (
        kube(deprecated=(DeprecatedUse(group="flowcontrol.apiserver.k8s.io", version="v1beta3",
                                       resource="flowschemas", removed="1.32"),)),
        [("deprecated", "warning", "API flowschemas.flowcontrol.apiserver.k8s.io/v1beta3")],
    ),
    "Flux's old API": (
        kube(deprecated=(DeprecatedUse(group="source.toolkit.fluxcd.io", version="v1beta2", resource="buckets"),)),
        [("deprecated", "warning", "API buckets.source.toolkit.fluxcd.io/v1beta2")],
    ),
    "endpoints, which stay": (kube(deprecated=(DeprecatedUse(group="", version="v1", resource="endpoints"),)), []),
    "stored": (
        kube(old_versions=(OldVersion(definition="buckets.source.toolkit.fluxcd.io", versions=("v1beta2",),
                                      newest="v1"),)),
        [("stored-version", "warning", "definition buckets.source.toolkit.fluxcd.io")],
    ),
}  # fmt: skip

LASTS: dict[str, tuple[KubeHealth, list[Row]]] = {
    "certificate": (
        kube(serving=(ServingCertificate(server="one", expires=SOON), *WELL.serving[1:])),
        [("certificate", "warning", "node one")],
    ),
    "certificate at once": (
        kube(serving=(ServingCertificate(server="one", expires=NOW + 2 * DAY), *WELL.serving[1:])),
        [("certificate", "error", "node one")],
    ),
    "kubeconfig": (
        kube(kubeconfig_expires=SOON), [("kubeconfig", "warning", "kubeconfig ~/.kube/config")],
    ),
    "kubeconfig ended": (
        kube(kubeconfig_expires=NOW - DAY), [("kubeconfig", "error", "kubeconfig ~/.kube/config")],
    ),
    "no kubeconfig": (kube(kubeconfig=False, kubeconfig_expires=None), []),
    "no snapshot": (kube(snapshots=()), [("snapshot-age", "error", "etcd")]),
    "a new cluster without one": (kube(snapshots=(), created=NOW - timedelta(hours=3)), []),
    "old k3s": (kube(snapshots=None), []),
    "old snapshots": (
        kube(snapshots=tuple(snapshot(one.name, 30) for one in LAB.servers)), [("snapshot-age", "error", "etcd")],
    ),
    "one server's are old": (
        kube(snapshots=(snapshot("one", 1), snapshot("two", 1), snapshot("three", 30))),
        [("snapshot-age", "warning", "node three")],
    ),
    "snapshots in S3": (kube(snapshots=(snapshot("s3", 1, location="s3://backups/etcd"),)), []),
    "one that failed": (
        kube(snapshots=(snapshot("one", 0.1, good=False, error="no space left on device"), *WELL.snapshots)),
        [("snapshot-failed", "warning", "node one")],
    ),
    "one that failed before": (
        kube(snapshots=(*WELL.snapshots, snapshot("one", 30, good=False, error="no space left on device"))), [],
    ),
    "another token": (
        kube(snapshots=tuple(snapshot(one.name, 1, opens="other") for one in LAB.servers)),
        [("snapshot-token", "error", "etcd")],
    ),
    "token not known": (kube(snapshots=tuple(snapshot(one.name, 1, opens="unknown") for one in LAB.servers)), []),
}  # fmt: skip
ALL = CONTROL | PODS | OBJECTS | LASTS


def test_no_name_stands_twice() -> None:
    assert len(ALL) == sum(map(len, (CONTROL, PODS, OBJECTS, LASTS)))


@pytest.mark.parametrize("name", ALL)
def test_each_trouble_is_found_and_nothing_else(name: str) -> None:
    facts, expected = ALL[name]
    assert sorted(found(kubernetes=facts)) == sorted((f"kubernetes.{check}", *rest) for check, *rest in expected)


def test_every_finding_says_what_to_do() -> None:
    for name, (facts, _) in ALL.items():
        given = {"proxmox-health": pve(), "guest-health": guests(), "kubernetes": facts}
        for one in findings(LAB, given):
            assert one.remedy, (name, one.id)
            assert one.expected != one.got, (name, one.id)


def test_every_check_of_the_three_areas_has_a_table() -> None:
    shown = {f"kubernetes.{row[0]}" for _, rows in ALL.values() for row in rows}
    guests_rows = (row for _, rows in test_guests.TABLE.values() for row in rows)
    shown |= {row[0] if "." in row[0] else f"guests.{row[0]}" for row in guests_rows}
    shown |= {f"proxmox.{row[0]}" for _, rows in test_proxmox.TABLE.values() for row in rows}
    elsewhere = {"proxmox.host-online", "proxmox.vm-running", "proxmox.guest-agent", "kubernetes.single-replica",
                 "kubernetes.spread", "kubernetes.snapshot-copy", "guests.filling", "proxmox.filling"}  # fmt: skip
    areas = (Area.PROXMOX, Area.GUESTS, Area.KUBERNETES)
    assert {check.id for check in all_checks() if check.area in areas} == shown | elsewhere


def test_quorum_counts_where_the_vms_really_are() -> None:
    moved = pve(vms=tuple(one.model_copy(update={"node": "north"}) if one.name == "two" else one for one in pve().vms))
    rows = [row for row in found(proxmox_health=moved) if row[0] == "kubernetes.quorum"]
    assert rows == [("kubernetes.quorum", "warning", "host north")]
    assert got("kubernetes.quorum", proxmox_health=moved) == ["1: one, two would be lost with it"]
    unread = Unread(system="proxmox-health", reason="off")
    assert found(proxmox_health=unread) == []


def test_one_host_or_one_server_is_nobodys_surprise() -> None:
    vms = {name: vm.model_copy(update={"host": "north"}) for name, vm in LAB.vms.items()}
    alone = LAB.model_copy(update={"hosts": {"north": LAB.hosts["north"]}, "vms": vms})
    here = pve(vms=tuple(one.model_copy(update={"node": "north"}) for one in pve().vms))
    ids = {row[0] for row in found(alone, proxmox_health=here)}
    assert not ids & {"kubernetes.quorum", "kubernetes.spread"}


def pillars(lab: Lab = LAB, **values: Any) -> list[Row]:
    return found(lab, kubernetes=kube(**values))


def test_pillars_on_one_host_or_alone() -> None:
    together = tuple(one.model_copy(update={"node": "five"}) if one.name == "traefik-0" else one for one in WELL.pods)
    assert pillars(pods=together) == [("kubernetes.spread", "warning", "Deployment traefik/traefik")]
    one_dns = changed(WELL.workloads, "coredns", wanted=1, ready=1)
    fewer = tuple(one for one in WELL.pods if one.name != "coredns-1")
    assert pillars(workloads=one_dns, pods=fewer) == [
        ("kubernetes.single-replica", "info", "Deployment kube-system/coredns")
    ]
    sso = Workload(kind="Deployment", namespace="authelia", name="authelia", wanted=1, ready=1, created=OLD,
                   images=("ghcr.io/authelia/authelia:4.39.20@sha256:0123",))  # fmt: skip
    assert pillars(workloads=(*WELL.workloads, sso)) == [
        ("kubernetes.single-replica", "info", "Deployment authelia/authelia")
    ]


def test_a_node_that_is_down_explains_its_pods() -> None:
    daemons = Workload(kind="DaemonSet", namespace="kube-system", name="speaker", wanted=2, ready=1, created=OLD)
    owner = "DaemonSet kube-system/speaker"
    some = (pod("speaker-1", node="four", namespace="kube-system", owner=owner),
            pod("speaker-2", node="five", namespace="kube-system", owner=owner, ready=0),
            pod("web-2", node="five", status="Terminating", deleting=NOW - DAY))  # fmt: skip
    down = nodes("five", ready=False, problem="Kubelet stopped posting node status.", since=NOW - 3 * DAY)
    facts = down.model_copy(update={"pods": (*WELL.pods, *some), "workloads": (*WELL.workloads, daemons)})
    assert found(kubernetes=facts) == [("kubernetes.node-ready", "error", "node five")]
    assert got("kubernetes.node-ready", kubernetes=facts) == ["Kubelet stopped posting node status for 3 days"]
    off = pve(vms=changed(pve().vms, "five", status="stopped"))
    assert got("kubernetes.node-ready", kubernetes=facts, proxmox_health=off) == ["its VM does not run for 3 days"]


def test_certificates_of_the_nodes_count_as_well() -> None:
    files = (NodeCertificate(file="agent/client-kubelet.crt", expires=SOON),
             NodeCertificate(file="agent/serving-kubelet.crt", expires=SOON + DAY))  # fmt: skip
    old = guests(four={"certificates": files})
    assert found(guest_health=old) == [("kubernetes.certificate", "warning", "node four")]
    assert got("kubernetes.certificate", guest_health=old) == [
        "client-kubelet.crt and 1 other until 2026-12-05 (12 days)"
    ]


def test_snapshots_on_one_host_only() -> None:
    only = kube(snapshots=(snapshot("one", 1),), nodes=tuple(
        one.model_copy(update={"server": one.name == "one", "voter": True if one.name == "one" else None})
        for one in WELL.nodes), serving=WELL.serving)  # fmt: skip
    ids = {row[0] for row in found(kubernetes=only)}
    assert "kubernetes.snapshot-copy" in ids
    assert got("kubernetes.snapshot-copy", kubernetes=only) == ["all of them on north (one)"]


def test_a_virtual_address_that_answers_and_one_that_does_not() -> None:
    network = LAB.network.model_copy(update={"vip": "10.8.0.100"})
    lab = LAB.model_copy(update={"network": network})
    assert found(lab) == [("kubernetes.servers", "error", "virtual address")]
    shown = ServingCertificate(server="virtual address", expires=NOW + 300 * DAY)
    assert found(lab, kubernetes=kube(serving=(*WELL.serving, shown))) == []


def test_words_and_limits() -> None:
    crash = pods(*(pod(f"web-{n}", status="CrashLoopBackOff", ready=0, message="web: Error, exit code 2")
                   for n in range(3)), wanted=3)  # fmt: skip
    assert got("kubernetes.pod-crash", kubernetes=crash) == [
        "CrashLoopBackOff (and 2 pods more): web: Error, exit code 2"
    ]
    often = pods(pod(restarts=7, restarted=NOW - 3 * MINUTE), ready=1)
    assert got("kubernetes.pod-restarts", kubernetes=often) == ["7 restarts, the last 3 minutes ago"]
    assert found(limits("kubernetes", restarts=9), kubernetes=often) == []
    waits = pods(pod(status="Pending", ready=0, node="", since=NOW - 40 * MINUTE))
    assert found(limits("kubernetes", stuck_minutes=60), kubernetes=waits) == []
    aged = kube(snapshots=tuple(snapshot(one.name, 7) for one in LAB.servers))
    assert found(kubernetes=aged) == []
    older = kube(snapshots=tuple(snapshot(one.name, 7.5) for one in LAB.servers))
    assert found(limits("kubernetes", snapshot_hours=1), kubernetes=older) == [
        ("kubernetes.snapshot-age", "error", "etcd")
    ]


def test_a_cordon_names_who_did_it() -> None:
    mark = {"labkit/cordoned-by": "upgrade-k3s"}
    assert got("kubernetes.cordoned", kubernetes=nodes("five", schedulable=False, annotations=mark)) == [
        "cordoned by upgrade-k3s"
    ]
