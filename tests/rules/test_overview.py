"""Facts to rows, rows to what the history keeps, and back as trends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from labkit.facts.apps import RouteFacts, RouteRow
from labkit.facts.certificates import CertificateFacts
from labkit.facts.certificates import CertificateRow as Managed
from labkit.facts.flux import Condition, FluxFacts, FluxObject
from labkit.facts.guesthealth import FileSystem, GuestHealth, GuestHealthFacts, NodeCertificate
from labkit.facts.history import HistoryFacts, PastReport, Point
from labkit.facts.kubehealth import KubeHealth, PodHealth, ServingCertificate
from labkit.facts.longhorn import (
    DRIVER,
    Backup,
    BackupTarget,
    Claim,
    LonghornFacts,
    PersistentVolume,
    RecurringJob,
    Replica,
    Volume,
)
from labkit.facts.nas import NasFacts, Pool
from labkit.facts.overview import CapacityRow, Overview, ResponseRow, RestartRow
from labkit.facts.proxmox import VmRow
from labkit.facts.pvehealth import HostCertificate, HostHealth, PveHealth, StorageHealth
from labkit.facts.survey import Unread
from labkit.lab import load_lab
from labkit.rules.overview import add_trends, make_overview, samples_of

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
DAY = timedelta(days=1)
LAB = load_lab(Path(__file__).parents[1] / "data" / "e2e" / "lab.yaml")


def test_of_systems_that_were_not_read_there_are_no_rows() -> None:
    made = make_overview(LAB, {"nas": Unread(system="nas", reason="no answer")})
    assert made == Overview(hosts=("north", "south"))


def test_capacity_of_hosts_storages_vms_and_pools() -> None:
    def storage(node: str, name: str, *, shared: bool = False, total: int = 100) -> StorageHealth:
        return StorageHealth(node=node, name=name, shared=shared, total=total, used=40)

    pve = PveHealth(
        hosts=(HostHealth(name="north", online=True, root_total=50, root_used=5),
               HostHealth(name="south", online=False)),
        storages=(storage("north", "lvm"), storage("north", "nas", shared=True), storage("south", "nas", shared=True),
                  storage("south", "odd", total=0)),
        read_at=NOW,
    )  # fmt: skip
    guests = GuestHealthFacts(
        guests=(GuestHealth(name="one", file_systems=(FileSystem(target="/", total=100, used=60, free=30),)),),
        read_at=NOW,
    )
    nas = NasFacts(pools=(Pool(name="tank", status="ONLINE", healthy=True, size=1000, allocated=700),), read_at=NOW)
    rows = make_overview(LAB, {"p": pve, "g": guests, "n": nas}).capacity
    assert [(row.name, row.kind, row.used, row.total) for row in rows] == [
        ("north/lvm", "Proxmox storage", 40, 100), ("nas", "Proxmox storage", 40, 100),
        ("north /", "Proxmox host", 5, 50), ("pool tank", "NAS", 700, 1000), ("one /", "VM", 60, 90),
    ]  # fmt: skip


def test_certificates_that_end_together_are_one() -> None:
    def expires(days: float) -> datetime:
        return NOW + days * DAY

    hosts = tuple(
        HostHealth(name=name, online=True, certificates=(HostCertificate(file="pve-root-ca.pem", expires=expires(3000)),
                                                         HostCertificate(file="pve-ssl.pem", expires=expires(500 + n))))
        for n, name in enumerate(("north", "south"))
    )  # fmt: skip
    leaf = NodeCertificate(file="server/tls/serving.crt", expires=expires(200))
    old = NodeCertificate(file="server/tls/admin.crt", expires=expires(100))
    made = make_overview(LAB, {
        "p": PveHealth(hosts=hosts, read_at=NOW),
        "g": GuestHealthFacts(guests=(GuestHealth(name="one", certificates=(leaf, old)),), read_at=NOW),
        "k": KubeHealth(serving=(ServingCertificate(server="one", expires=expires(100.1)),),
                        kubeconfig_expires=expires(300), read_at=NOW),
        "c": CertificateFacts(certificates=(Managed(namespace="auth", name="wildcard", secret="tls",
                                                    not_after=expires(60), renewal=expires(30)),), read_at=NOW),
        "r": RouteFacts(routes=(RouteRow(host="b.lab", expires=expires(60)),
                                RouteRow(host="old.lab", expires=expires(5)), RouteRow(host="silent.lab")),
                        read_at=NOW),
    })  # fmt: skip
    assert [(row.name, row.kind, row.days(NOW), row.also) for row in made.certificates] == [
        ("old.lab", "ingress", 5, 0), ("auth/wildcard", "cert-manager", 60, 0), ("k3s on one", "k3s", 100, 1),
        ("kubeconfig here", "kubeconfig", 300, 0), ("north pve-ssl.pem", "Proxmox", 500, 0),
        ("south pve-ssl.pem", "Proxmox", 501, 0), ("north pve-root-ca.pem", "Proxmox", 3000, 1),
    ]  # fmt: skip
    assert made.certificates[1].renews == expires(30)


def flux(kind: str, name: str, status: str = "True", **fields: object) -> FluxObject:
    condition = Condition(type="Ready", status=status, reason="Why", message="it is\n so")
    return FluxObject(kind=kind, namespace="flux-system", name=name, conditions=(condition,), **fields)  # type: ignore[arg-type]


def test_flux_is_a_tree_from_its_source_down() -> None:
    source, root, base = (
        "GitRepository/flux-system/lab",
        "Kustomization/flux-system/root",
        "Kustomization/flux-system/base",
    )
    facts = FluxFacts(objects=(
        flux("GitRepository", "lab", artifact="main@sha1:0123456789abcdef", applied_by=root),
        flux("Kustomization", "root", source=source, applied_by=root),
        flux("Kustomization", "base", source=source, applied_by=root),
        flux("Kustomization", "apps", "False", source=source, needs=(base,), applied_by=root),
        flux("HelmRelease", "traefik", suspended=True, applied_by=base),
        flux("HelmRepository", "traefik", applied_by=base),
        flux("HelmRepository", "broken", "False", applied_by=base),
        flux("Kustomization", "slow", "Unknown", source=source),
    ), read_at=NOW)  # fmt: skip
    rows = {row.id.split("/")[-1]: row for row in make_overview(LAB, {"f": facts}).flux if "traefik" not in row.id}
    assert {name: (row.parent, row.state) for name, row in rows.items()} == {
        "lab": ("", "ready"), "root": (source, "ready"), "base": (root, "ready"), "apps": (base, "failed"),
        "broken": (base, "failed"), "slow": (source, "working"),
    }  # fmt: skip
    assert rows["lab"].revision == "main@sha1:0123456"
    assert rows["apps"].problem == "it is so"


def test_backups_and_replicas_of_claims() -> None:
    def volume(name: str, **fields: object) -> Volume:
        return Volume(name=name, size=1, replicas=2, state="attached", robustness="healthy", namespace="media",
                      claim=f"{name}-data", created_at=NOW - 30 * DAY, **fields)  # type: ignore[arg-type]  # fmt: skip

    def claim(name: str) -> Claim:
        return Claim(namespace="media", name=f"{name}-data", volume=f"pv-{name}")

    def pv(name: str) -> PersistentVolume:
        return PersistentVolume(name=f"pv-{name}", driver=DRIVER, handle=name)

    def replica(name: str, node: str, **fields: object) -> Replica:
        return Replica(name=f"{name}-{node}", volume=name, node=node, running=True, **fields)  # type: ignore[arg-type]

    facts = LonghornFacts(
        volumes=(volume("photos"), volume("notes")),
        claims=(claim("photos"), claim("notes"), Claim(namespace="media", name="films", volume="pv-nfs")),
        pvs=(pv("photos"), pv("notes"), PersistentVolume(name="pv-nfs", driver="nfs")),
        replicas=(replica("photos", "one"), replica("photos", "two"), replica("notes", "one"),
                  replica("notes", "two", failed_at="2026-11-23")),
        jobs=(RecurringJob(name="daily", task="backup", cron="0 2 * * *", groups=("default",)),),
        backups=(Backup(name="b", volume="photos", state="Completed", created=NOW - DAY / 6),),
        targets=(BackupTarget(name="default", url="nfs://nas.lan:/backups", available=True),),
        read_at=NOW,
    )  # fmt: skip
    moved = PveHealth(vms=(VmRow(vmid=1, name="two", node="north"),), read_at=NOW)
    made = make_overview(LAB, {"l": facts, "p": moved})
    assert [(row.volume, row.last, row.every_hours, row.problem) for row in made.backups] == [
        ("media/notes-data", None, 24, "never backed up"), ("media/photos-data", NOW - DAY / 6, 24, ""),
    ]  # fmt: skip
    assert [(row.volume, dict(row.hosts), row.count, row.in_one_place) for row in made.replicas] == [
        ("media/photos-data", {"north": 2}, 2, True), ("media/notes-data", {"north": 1}, 1, True)
    ]  # fmt: skip


def test_routes_and_restarts() -> None:
    routes = RouteFacts(routes=(
        RouteRow(host="a.lab", reachable=True, verified=True, status=200, milliseconds=12.5),
        RouteRow(host="b.lab", reachable=True, verified=True, status=404, server_says="404 page not found"),
        RouteRow(host="c.lab", problem="certificate has expired"),
    ), read_at=NOW)  # fmt: skip
    pods = KubeHealth(pods=(PodHealth(namespace="a", name="calm", restarts=0), PodHealth(namespace="a", name="odd",
                      restarts=3, status="CrashLoopBackOff", restarted=NOW - DAY)), read_at=NOW)  # fmt: skip
    made = make_overview(LAB, {"r": routes, "k": pods})
    assert [(row.host, row.now, row.problem) for row in made.responses] == [
        ("a.lab", 12.5, ""), ("b.lab", 0, "nothing behind it: status 404"), ("c.lab", 0, "certificate has expired"),
    ]  # fmt: skip
    assert made.pods == 2
    assert [(row.name, row.count, row.last, row.reason) for row in made.restarts] == [
        ("a/odd", 3, NOW - DAY, "CrashLoopBackOff")
    ]


ROWS = Overview(
    capacity=(
        CapacityRow(name="lvm", kind="x", used=140, total=200),
        CapacityRow(name="new", kind="x", used=1, total=2),
    ),
    restarts=(
        RestartRow(name="a/odd", count=7),
        RestartRow(name="a/anew", count=2),
        RestartRow(name="a/first", count=1),
    ),
    responses=(ResponseRow(host="a.lab", now=500, status=200), ResponseRow(host="b.lab", now=0, problem="silent")),
)


def test_the_history_keeps_values_but_none_of_what_did_not_answer() -> None:
    assert {(one.series, one.subject): one.value for one in samples_of(ROWS)} == {
        ("used", "lvm"): 140, ("total", "lvm"): 200, ("used", "new"): 1, ("total", "new"): 2, ("restarts", "a/odd"): 7,
        ("restarts", "a/anew"): 2, ("restarts", "a/first"): 1, ("response", "a.lab"): 500,
    }  # fmt: skip


def past(values: list[float]) -> tuple[Point, ...]:
    return tuple(Point(at=NOW - (len(values) - n) * DAY, value=value) for n, value in enumerate(values))


def test_the_history_comes_back_as_trends() -> None:
    reports = tuple(PastReport(at=NOW - day * DAY, score=90 + day, light="look") for day in (4, 3, 2, 1))
    history = HistoryFacts(reports=reports, series={
        "used": {"lvm": past([100, 110, 120, 130])},
        "restarts": {"a/odd": past([4, 5]), "a/anew": past([9])},
        "response": {"a.lab": past([40, 50, 60, 50, 45])},
    })  # fmt: skip
    made = add_trends(ROWS, history, NOW)
    assert (made.capacity[0].per_day, made.capacity[0].days_left) == (10, 6)
    assert (made.capacity[1].per_day, made.capacity[1].days_left) == (None, None)
    assert [row.recent for row in made.restarts] == [2, 2, 1]
    assert (made.responses[0].low, made.responses[0].median, made.responses[0].high) == (42, 50, 56)
    assert made.responses[1].median is None
    assert [row.score for row in made.scores] == [94, 93, 92, 91]


def test_without_a_report_of_yesterday_nobody_knows_what_restarted_since() -> None:
    old = HistoryFacts(reports=(PastReport(at=NOW - 9 * DAY, score=90, light="look"),))
    assert [row.recent for row in add_trends(ROWS, old, NOW).restarts] == [None, None, None]
