"""From facts to the rows of a report's tables and plots, and from those to the values that its history keeps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

from labkit.cron import CronError, parse_cron
from labkit.facts.apps import RouteFacts, RouteRow
from labkit.facts.certificates import CertificateFacts
from labkit.facts.coverage import Cover
from labkit.facts.flux import FluxFacts, FluxObject
from labkit.facts.guesthealth import GuestHealth, GuestHealthFacts
from labkit.facts.history import HistoryFacts, Point, Sample
from labkit.facts.k3s import K3sFacts
from labkit.facts.kubehealth import KubeHealth
from labkit.facts.longhorn import LonghornFacts, Replica, Volume
from labkit.facts.nas import NasFacts
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
from labkit.facts.pvehealth import PveHealth
from labkit.facts.trends import find_span, find_trend, since
from labkit.lab import Lab
from labkit.rules.coverage import coverage, jobs_of

_PVE_RENEWS = timedelta(days=14)
"""How long before its end a Proxmox host renews the certificate that its own CA has issued."""
_QUIET_SOURCES = ("HelmRepository", "HelmChart", "OCIRepository")
_SCHEDULE = timedelta(days=70)
"""How far back a schedule is looked at: two turns of a monthly one."""
_DAY = timedelta(hours=20)
"""Daily reports are not a full day apart to the second."""
_ON_TIME = (Cover.ON_TIME, Cover.NEW)


def make_overview(lab: Lab, facts: Mapping[str, Any]) -> Overview:
    """Return the rows that facts hold; those of systems that were not read are empty."""
    seen = _Seen(facts)
    hosts = _hosts_of(lab, seen.proxmox)
    return Overview(
        capacity=capacity_of(facts),
        backups=tuple(_backups(seen.longhorn)),
        certificates=tuple(sorted(_certificates(seen), key=lambda row: row.expires)),
        restarts=tuple(_restarts(seen.kubernetes)),
        pods=len(seen.kubernetes.pods) if seen.kubernetes else 0,
        flux=tuple(_flux(seen.flux)),
        replicas=tuple(_replicas(seen.longhorn, hosts)),
        responses=tuple(_response(row) for row in seen.routes.routes) if seen.routes else (),
        hosts=tuple(lab.hosts),
    )


class _Seen:
    """The facts by their kind, whatever the reader was called; None for what was not read."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = tuple(facts.values())
        self.proxmox = self._of(PveHealth)
        self.k3s = self._of(K3sFacts)
        self.flux = self._of(FluxFacts)
        self.longhorn = self._of(LonghornFacts)
        self.routes = self._of(RouteFacts)
        self.nas = self._of(NasFacts)
        self.guests = self._of(GuestHealthFacts)
        self.certificates = self._of(CertificateFacts)
        self.kubernetes = self._of(KubeHealth)

    def _of(self, kind: type[Any]) -> Any:
        return next((facts for facts in self._facts if isinstance(facts, kind)), None)


def _hosts_of(lab: Lab, proxmox: PveHealth | None) -> Mapping[str, str]:
    """Return the physical host of each VM: where it really is, else where the lab file puts it."""
    wanted = {name: vm.host for name, vm in lab.vms.items()}
    return wanted | {vm.name: vm.node for vm in proxmox.vms if vm.name in wanted} if proxmox else wanted


def capacity_of(facts: Mapping[str, Any]) -> tuple[CapacityRow, ...]:
    """Return how full each storage, root file system, pool and disk of a VM is."""
    return tuple(_capacity(_Seen(facts)))


def _capacity(seen: _Seen) -> Iterator[CapacityRow]:
    pve: PveHealth | None = seen.proxmox
    for storage in pve.distinct_storages() if pve else ():
        if storage.total:
            name = storage.name if storage.shared else f"{storage.node}/{storage.name}"
            yield CapacityRow(name=name, kind="Proxmox storage", used=storage.used, total=storage.total)
    for host in pve.hosts if pve else ():
        if host.root_total:
            yield CapacityRow(name=f"{host.name} /", kind="Proxmox host", used=host.root_used, total=host.root_total)
    nas: NasFacts | None = seen.nas
    for pool in nas.pools if nas else ():
        if pool.size:
            yield CapacityRow(name=f"pool {pool.name}", kind="NAS", used=pool.allocated, total=pool.size)
    guests: GuestHealthFacts | None = seen.guests
    for guest in guests.guests if guests else ():
        for disk in guest.file_systems:
            if disk.used + disk.free:  # as df counts: without what only root may use
                name = f"{guest.name} {disk.target}"
                yield CapacityRow(name=name, kind="VM", used=disk.used, total=disk.used + disk.free)


def _backups(longhorn: LonghornFacts | None) -> Iterator[BackupRow]:
    if longhorn is None:
        return
    for row in coverage(longhorn):
        volume = longhorn.volume(row.volume)
        if volume is not None:
            yield BackupRow(volume=row.id, last=row.last_at, copies=row.backups, every_hours=_turn(longhorn, volume),
                            new=row.cover is Cover.NEW,
                            problem="" if row.cover in _ON_TIME else row.cover.value)  # fmt: skip


def _turn(longhorn: LonghornFacts, volume: Volume) -> float | None:
    """Return the longest time between two backups that a volume's schedule leaves, in hours."""
    fires = {fire for job in jobs_of(longhorn, volume) for fire in _fires(job.cron, longhorn.read_at)}
    gaps = [(later - earlier).total_seconds() / 3600 for earlier, later in pairwise(sorted(fires))]
    return max(gaps, default=None)


@lru_cache(maxsize=32)
def _fires(cron: str, now: datetime) -> tuple[datetime, ...]:
    try:
        return tuple(parse_cron(cron).fires(now - _SCHEDULE, now))
    except CronError:
        return ()


def _certificates(seen: _Seen) -> Iterator[CertificateRow]:
    """Certificates of one kind that end on the same day are one row, which names the first to end."""
    known: dict[tuple[str, date], list[CertificateRow]] = {}
    for row in (*_host_certificates(seen.proxmox), *_k3s_certificates(seen), *_ingress_certificates(seen)):
        known.setdefault((row.kind, row.expires.date()), []).append(row)
    for rows in known.values():
        first = min(rows, key=lambda row: (row.expires, row.name))
        yield first.model_copy(update={"also": len({row.name for row in rows}) - 1})


def _host_certificates(pve: PveHealth | None) -> Iterator[CertificateRow]:
    for host in pve.hosts if pve else ():
        for one in host.certificates:
            own = one.file == "pve-ssl.pem"
            yield CertificateRow(name=f"{host.name} {one.file}", kind="Proxmox", expires=one.expires,
                                 renews=one.expires - _PVE_RENEWS if own else None)  # fmt: skip


def _k3s_certificates(seen: _Seen) -> Iterator[CertificateRow]:
    """The one of each node that ends first: k3s renews all of a node at its restart."""
    guests: GuestHealthFacts | None = seen.guests
    for guest in guests.guests if guests else ():
        if first := _first_to_end(guest):
            yield CertificateRow(name=f"k3s on {guest.name}", kind="k3s", expires=first)
    kube: KubeHealth | None = seen.kubernetes
    for one in kube.serving if kube else ():
        yield CertificateRow(name=f"API on {one.server}", kind="k3s", expires=one.expires)
    if kube is not None and kube.kubeconfig_expires is not None:
        yield CertificateRow(name="kubeconfig here", kind="kubeconfig", expires=kube.kubeconfig_expires)
    k3s: K3sFacts | None = seen.k3s
    if k3s is not None and k3s.expires is not None:
        yield CertificateRow(name="administrator of the cluster", kind="k3s", expires=k3s.expires)
    if k3s is not None and k3s.kubeconfig.expires is not None:
        yield CertificateRow(name="kubeconfig here", kind="kubeconfig", expires=k3s.kubeconfig.expires)


def _first_to_end(guest: GuestHealth) -> datetime | None:
    return min((one.expires for one in guest.certificates), default=None)


def _ingress_certificates(seen: _Seen) -> Iterator[CertificateRow]:
    """Those of cert-manager, and what routes show beside them."""
    managed: CertificateFacts | None = seen.certificates
    told: set[datetime] = set()
    for one in managed.certificates if managed else ():
        if one.not_after is not None:
            told.add(one.not_after)
            yield CertificateRow(name=one.id, kind="cert-manager", expires=one.not_after, renews=one.renewal)
    routes: RouteFacts | None = seen.routes
    for row in routes.routes if routes else ():
        if row.expires is not None and row.expires not in told:
            yield CertificateRow(name=row.host, kind="ingress", expires=row.expires)


def _restarts(kubernetes: KubeHealth | None) -> Iterator[RestartRow]:
    for pod in kubernetes.pods if kubernetes else ():
        if pod.restarts:
            yield RestartRow(name=f"{pod.namespace}/{pod.name}", count=pod.restarts, last=pod.restarted,
                             reason=pod.message or pod.status)  # fmt: skip


def _flux(flux: FluxFacts | None) -> Iterator[FluxRow]:
    shown = [one for one in flux.objects if one.kind not in _QUIET_SOURCES or not one.is_ready] if flux else []
    for one in sorted(shown, key=lambda one: (one.kind, one.namespace, one.name)):
        trouble = one.trouble
        failed = trouble is not None and not one.suspended
        state = "suspended" if one.suspended else "ready" if one.is_ready else "failed" if failed else "working"
        problem = (trouble.message or trouble.reason) if trouble is not None and failed else ""
        yield FluxRow(id=one.id, parent=_parent(one), state=state, revision=_short(one.applied or one.artifact),
                      problem=" ".join(problem.split()))  # fmt: skip


def _parent(one: FluxObject) -> str:
    """What an object waits for, else what applies it, else where its content comes from; a source stands on top."""
    if one.kind == "GitRepository":  # Flux applies the one that it itself comes from
        return ""
    applied_by = one.applied_by if one.applied_by != one.id else ""
    needs = one.needs[0] if one.needs and one.kind == "Kustomization" else ""
    return needs or applied_by or one.source


def _short(revision: str) -> str:
    head, colon, digest = revision.partition(":")
    return f"{head}{colon}{digest[:7]}" if colon else revision


def _replicas(longhorn: LonghornFacts | None, hosts: Mapping[str, str]) -> Iterator[ReplicaRow]:
    for volume in longhorn.volumes if longhorn else ():
        found: dict[str, int] = {}
        for replica in longhorn.replicas if longhorn else ():
            if replica.volume == volume.name and _is_sound(replica, volume):
                host = hosts.get(replica.node, replica.node)
                found[host] = found.get(host, 0) + 1
        name = f"{volume.namespace}/{volume.claim}" if volume.claim else volume.name
        state = volume.robustness if volume.state == "attached" else volume.state
        yield ReplicaRow(volume=name, wanted=volume.replicas, hosts=found, state=state)


def _is_sound(replica: Replica, volume: Volume) -> bool:
    return bool(replica.node) and not replica.failed_at and (replica.running or volume.state == "detached")


def _response(row: RouteRow) -> ResponseRow:
    problem = "" if row.verified else row.problem or "no valid certificate"
    if not problem and not row.is_routed:
        problem = f"nothing behind it: status {row.status}"
    return ResponseRow(host=row.host, now=row.milliseconds, status=row.status, problem=problem)


def samples_of(overview: Overview) -> tuple[Sample, ...]:
    """Return the values that the history keeps of a report."""
    found = {("used", row.name): float(row.used) for row in overview.capacity}
    found |= {("total", row.name): float(row.total) for row in overview.capacity}
    found |= {("restarts", row.name): float(row.count) for row in overview.restarts}
    found |= {("response", row.host): row.now for row in overview.responses if not row.problem}
    return tuple(Sample(series=series, subject=name, value=value) for (series, name), value in found.items())


def add_trends(overview: Overview, history: HistoryFacts, now: datetime) -> Overview:
    """Return the rows with what the history adds: days until full, restarts since yesterday, usual response times.

    Values of the report that is being made count as the newest ones.
    """
    past = [ScoreRow(at=one.at, score=one.score, light=one.light) for one in history.reports]
    return overview.model_copy(update={
        "capacity": with_trends(overview.capacity, history, now),
        "restarts": tuple(
            row.model_copy(update={"recent": _more(row.count, _yesterday(row.name, history, now))})
            for row in overview.restarts
        ),
        "responses": tuple(_with_span(row, history, now) for row in overview.responses),
        "scores": tuple(past),
    })  # fmt: skip


def with_trends(rows: Iterable[CapacityRow], history: HistoryFacts, now: datetime) -> tuple[CapacityRow, ...]:
    """Return rows with how fast they grow and when they are full, as far as the history tells."""
    return tuple(_with_trend(row, history, now) for row in rows)


def _with_trend(row: CapacityRow, history: HistoryFacts, now: datetime) -> CapacityRow:
    points = [*history.points("used", row.name), Point(at=now, value=float(row.used))]
    trend = find_trend(points, now, limit=float(row.total))
    if trend is None:
        return row
    return row.model_copy(update={"per_day": trend.per_day, "days_left": trend.days_left})


def _yesterday(name: str, history: HistoryFacts, now: datetime) -> float | None:
    """Return a pod's restarts of about a day ago: 0 when a report of then does not name it."""
    if not any(_DAY <= now - one.at <= 2 * _DAY for one in history.reports):
        return None
    return since(history.points("restarts", name), now, _DAY) or 0.0


def _more(count: int, before: float | None) -> int | None:
    """Return how many more there are than before; a pod that was made anew has counted from 0."""
    return None if before is None else count if count < before else count - int(before)


def _with_span(row: ResponseRow, history: HistoryFacts, now: datetime) -> ResponseRow:
    span = find_span(history.points("response", row.host), now)
    return row if span is None else row.model_copy(update={"low": span.low, "median": span.median, "high": span.high})
