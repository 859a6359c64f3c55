"""The report as a text file for node_exporter's textfile collector. Pure.

Format: HELP and TYPE once for each name, then its samples; no timestamps, for the collector refuses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labkit.facts.overview import Overview
from labkit.health import HealthReport, Light, Outcome
from labkit.plan import Severity

_LIGHTS: Mapping[Light, int] = {Light.GOOD: 0, Light.LOOK: 1, Light.ACT: 2, Light.UNKNOWN: 3}


@dataclass
class Metric:
    """One name with its help and its samples: labels and value."""

    name: str
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Add a sample."""
        self.samples.append((labels, value))

    def __str__(self) -> str:
        head = [f"# HELP {self.name} {_help(self.help)}", f"# TYPE {self.name} gauge"]
        return "\n".join([*head, *(_sample(self.name, labels, value) for labels, value in self.samples)])


def prometheus_text(report: HealthReport, overview: Overview) -> str:
    """Return the metrics as text; names without a sample are left out."""
    metrics = [*_of_report(report), *_of_overview(report.lab, overview)]
    return "".join(f"{metric}\n" for metric in metrics if metric.samples)


def _of_report(report: HealthReport) -> Iterator[Metric]:
    lab = report.lab
    made = Metric("labkit_health_report_timestamp_seconds", "When the report was made.")
    made.add(report.made_at.timestamp(), lab=lab)
    points = Metric("labkit_health_score", "100 for a lab without a finding.")
    points.add(report.score, lab=lab)
    lights = Metric("labkit_health_light", "How an area stands: 0 good, 1 worth a look, 2 act, 3 not known.")
    counts = Metric("labkit_health_findings", "Findings by area and severity.")
    for area in report.areas:
        lights.add(_LIGHTS[area.light], lab=lab, area=area.area)
        for severity, number in zip(Severity, (area.infos, area.warnings, area.errors), strict=True):
            counts.add(number, lab=lab, area=area.area, severity=severity)
    passed = Metric("labkit_health_check_passed", "1 for a check that found nothing; absent when it was not asked.")
    for check in report.checks:
        if check.outcome not in (Outcome.UNASKED, Outcome.BROKEN):
            value = check.outcome in (Outcome.PASSED, Outcome.ACCEPTED)
            passed.add(value, lab=lab, area=check.area, check=check.id)
    up = Metric("labkit_health_system_read", "1 for a system that could be read.")
    took = Metric("labkit_health_system_read_seconds", "How long reading a system took.")
    for one in report.cost.readings:
        up.add(not one.problem, lab=lab, system=one.system)
        took.add(one.seconds, lab=lab, system=one.system)
    yield from (made, points, lights, counts, passed, up, took)


def _of_overview(lab: str, overview: Overview) -> Iterator[Metric]:
    used = Metric("labkit_storage_used_bytes", "Used bytes of a storage.")
    total = Metric("labkit_storage_size_bytes", "Size of a storage.")
    full = Metric("labkit_storage_full_days", "Days until a storage is full at the pace of the last weeks.")
    for row in overview.capacity:
        used.add(row.used, lab=lab, storage=row.name)
        total.add(row.total, lab=lab, storage=row.name)
        if row.days_left is not None:
            full.add(row.days_left, lab=lab, storage=row.name)
    backup = Metric("labkit_backup_last_timestamp_seconds", "When the newest backup of a volume was made; 0: never.")
    for one in overview.backups:
        backup.add(_seconds(one.last), lab=lab, volume=one.volume)
    ends = Metric("labkit_certificate_expiry_timestamp_seconds", "When a certificate ends.")
    for certificate in overview.certificates:
        ends.add(_seconds(certificate.expires), lab=lab, certificate=certificate.name)
    restarts = Metric("labkit_pod_restarts", "Restarts of the containers of a pod since it was made.")
    for pod in overview.restarts:
        restarts.add(pod.count, lab=lab, pod=pod.name)
    answers = Metric("labkit_route_response_seconds", "How long a route took to answer.")
    for route in overview.responses:
        if not route.problem:
            answers.add(route.now / 1000, lab=lab, route=route.host)
    yield from (used, total, full, backup, ends, restarts, answers)


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
