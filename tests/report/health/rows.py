"""Rows and a report with a bit of everything, for the tests of tables, plots and files."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from labkit.facts.overview import (
    BackupRow,
    CapacityRow,
    CertificateRow,
    FluxRow,
    Overview,
    ReplicaRow,
    ResponseRow,
    RestartRow,
    ScoreRow,
)
from labkit.facts.survey import Reading, SurveyCost
from labkit.health import (
    Accepted,
    AreaHealth,
    CheckResult,
    HealthFinding,
    HealthReport,
    Light,
    Movement,
    Outcome,
)
from labkit.plan import Severity

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
GIB = 1024**3
DAY = timedelta(days=1)
ROOT = "Kustomization/flux-system/flux-system"
OVERVIEW = Overview(
    hosts=("hades", "atlas", "venus"),
    pods=60,
    capacity=(
        CapacityRow(name="hades/local-lvm", kind="Proxmox storage", used=312 * GIB, total=572 * GIB, per_day=2.0 * GIB,
                    days_left=130),
        CapacityRow(name="venus/local-lvm", kind="Proxmox storage", used=291 * GIB, total=300 * GIB, per_day=1.2 * GIB,
                    days_left=4.2),
        CapacityRow(name="atlas/local-lvm", kind="Proxmox storage", used=510 * GIB, total=572 * GIB, per_day=0.0),
        CapacityRow(name="pool tank", kind="NAS", used=7 * 1024 * GIB, total=14 * 1024 * GIB),
    ),
    backups=(
        BackupRow(volume="media/karakeep-data", last=NOW - DAY / 8, every_hours=24, copies=7),
        BackupRow(volume="default/memos-data", last=NOW - 2.2 * DAY, every_hours=24, copies=7, problem="late"),
        BackupRow(volume="default/vaultwarden-with-a-name-that-is-far-too-long", every_hours=24),
        BackupRow(volume="media/cache"),
        BackupRow(volume="media/photos", last=NOW - 9 * DAY, copies=1),
    ),
    certificates=(
        CertificateRow(name="auth.efym.net", kind="ingress", expires=NOW + 61 * DAY, renews=NOW + 31 * DAY, also=12),
        CertificateRow(name="kubeconfig here", kind="kubeconfig", expires=NOW + 12 * DAY),
        CertificateRow(name="hades pve-ssl.pem", kind="Proxmox", expires=NOW + 700 * DAY, renews=NOW + 686 * DAY),
        CertificateRow(name="old.efym.net", kind="ingress", expires=NOW - 2 * DAY, renews=NOW - 32 * DAY),
    ),
    restarts=(
        RestartRow(name="media/karakeep-0", count=17, recent=6, last=NOW - DAY / 48, reason="OOMKilled"),
        RestartRow(name="kube-system/metrics-server", count=3, recent=0, last=NOW - 40 * DAY),
        RestartRow(name="default/memos-0", count=0, recent=0),
    ),
    flux=(
        FluxRow(id="GitRepository/flux-system/flux-system", revision="master@sha1:0123456"),
        FluxRow(id=ROOT, parent="GitRepository/flux-system/flux-system", revision="master@sha1:0123456"),
        FluxRow(id="Kustomization/flux-system/infrastructure", parent=ROOT, revision="master@sha1:0123456"),
        FluxRow(id="HelmRelease/traefik/traefik", parent="Kustomization/flux-system/infrastructure",
                state="suspended"),
        FluxRow(id="Kustomization/flux-system/apps", parent="Kustomization/flux-system/infrastructure",
                state="failed", problem="kustomize build failed: accumulating resources: no such file <here>"),
    ),
    replicas=(
        ReplicaRow(volume="media/karakeep-data", wanted=3, hosts={"hades": 1, "atlas": 1, "venus": 1}, state="healthy"),
        ReplicaRow(volume="default/memos-data", wanted=3, hosts={"hades": 1, "atlas": 1}, state="degraded"),
        ReplicaRow(volume="auth/authelia", wanted=2, hosts={"atlas": 2}, state="healthy"),
        ReplicaRow(volume="default/dead", wanted=2, state="faulted"),
    ),
    responses=(
        ResponseRow(host="auth.efym.net", now=45, status=200, low=30, median=41, high=70),
        ResponseRow(host="memos.efym.net", now=1800, status=302, low=60, median=80, high=140),
        ResponseRow(host="media.efym.net", now=9000, problem="no route to host", low=60, median=80, high=140),
    ),
    scores=tuple(
        ScoreRow(at=NOW - (40 - day) * DAY, score=100 if day < 20 else 80, light="good" if day < 20 else "act")
        for day in range(41)
    ),
)  # fmt: skip


REMEDY = 'run `labkit run maintain-host -p host="venus"`'


def finding(name: str, subject: str, severity: Severity, area: str, *, since: datetime = NOW) -> HealthFinding:
    return HealthFinding(id=name, severity=severity, subject=subject, expected="what is right", remedy=REMEDY,
                         got="what is <wrong> & odd", area=area, since=since)  # fmt: skip


OFFLINE = finding("proxmox.host-online", "host venus", Severity.ERROR, "proxmox")
OLD = finding("guests.disk", 'VM "k3s-worker-01"', Severity.WARNING, "guests", since=NOW - 3 * DAY)
KNOWN = finding("git.floating", "chart traefik", Severity.INFO, "git")
UNREAD = HealthFinding(id="report.unread", severity=Severity.ERROR, subject="system nas", expected="an answer",
                       got="no answer within 5 s", area="nas", since=NOW)  # fmt: skip


def result(name: str, area: str, outcome: Outcome, *missing: str) -> CheckResult:
    return CheckResult(id=name, area=area, sentence=f"{name} is as it should be", severity=Severity.WARNING,
                       outcome=outcome, missing=missing)  # fmt: skip


REPORT = HealthReport(
    lab="home",
    made_at=NOW,
    sentence="Lab home needs you: 1 error & more; nas could not be read.",
    light=Light.ACT,
    score=71,
    areas=(
        AreaHealth(area="proxmox", light=Light.ACT, checks=2, passed=1, errors=1),
        AreaHealth(area="guests", light=Light.LOOK, checks=2, passed=1, warnings=1),
        AreaHealth(area="nas", light=Light.UNKNOWN, checks=1, unasked=1, errors=1),
        AreaHealth(area="git", light=Light.GOOD, checks=2, passed=2, infos=1, accepted=1),
    ),
    checks=(
        result("proxmox.host-online", "proxmox", Outcome.FOUND),
        result("proxmox.quorum", "proxmox", Outcome.PASSED),
        result("guests.disk", "guests", Outcome.FOUND),
        result("guests.clock", "guests", Outcome.BROKEN),
        result("nas.pool", "nas", Outcome.UNASKED, "nas"),
        result("git.floating", "git", Outcome.FOUND),
        result("git.plaintext", "git", Outcome.ACCEPTED),
    ),
    findings=(OFFLINE, UNREAD, OLD, KNOWN),
    accepted=(Accepted(finding=finding("git.plaintext", "file a.yaml", Severity.ERROR, "git"),
                       reason="a sample, no secret", until=date(2027, 1, 31)),),
    movement=Movement(before=NOW - DAY, score=97, new=(OFFLINE, UNREAD), gone=(finding(
        "flux.ready", "Kustomization apps", Severity.ERROR, "flux"),)),
    cost=SurveyCost(
        readings=(Reading(system="proxmox", seconds=0.4), Reading(system="nas", seconds=5.0, problem="no answer")),
        seconds=5.1, requests={"kubernetes": 31, "proxmox": 18},
    ),
)  # fmt: skip
WELL = HealthReport(
    lab="home", made_at=NOW, sentence="Lab home is well; 1 of 1 checks passed.", light=Light.GOOD, score=100,
    areas=(AreaHealth(area="proxmox", light=Light.GOOD, checks=1, passed=1),),
    checks=(result("proxmox.quorum", "proxmox", Outcome.PASSED),),
)  # fmt: skip
