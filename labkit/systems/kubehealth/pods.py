"""From server-side Tables to pods, workloads, jobs and claims, and to who stands behind which Service. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labkit.facts.kubehealth import ClaimRow, JobRow, PodHealth, ServiceRow, Workload
from labkit.systems.kubehealth.values import fraction, moment, named, restarts
from labkit.systems.kubernetes import Row, Table

_HASH = "pod-template-hash"
NO_TABLE = Table((), ())


@dataclass(frozen=True)
class Backend:
    """A pod as Services see it."""

    labels: Mapping[str, str]
    node: str
    owner: str


def parse_jobs(table: Table) -> tuple[JobRow, ...]:
    """Read a Table of Jobs; before Kubernetes 1.31 it does not say whether one failed."""
    found = []
    for row in table.rows:
        kind, name = controller(row.metadata)
        done, wanted = fraction(table.cell(row, "completions"))
        status = table.cell(row, "status") or ("Complete" if wanted and done >= wanted else "Running")
        found.append(JobRow(**named({"metadata": row.metadata}), status=status,
                            created=moment(row.metadata.get("creationTimestamp")),
                            cronjob=name if kind == "CronJob" else ""))  # fmt: skip
    return tuple(found)


def parse_pods(table: Table, jobs: Iterable[JobRow], now: datetime) -> tuple[PodHealth, ...]:
    """Read a Table of pods."""
    by_job = {(job.namespace, job.name): job.cronjob for job in jobs if job.cronjob}
    return tuple(_pod(table, row, by_job, now) for row in table.rows)


def _pod(table: Table, row: Row, by_job: Mapping[tuple[str, str], str], now: datetime) -> PodHealth:
    meta, node = row.metadata, table.cell(row, "node")
    ready, total = fraction(table.cell(row, "ready"))
    count, last = restarts(table.cell(row, "restarts"), now)
    return PodHealth(
        **named({"metadata": meta}), node="" if node == "<none>" else node, status=table.cell(row, "status"),
        ready=ready, total=total, restarts=count, restarted=last, created=moment(meta.get("creationTimestamp")),
        deleting=moment(meta.get("deletionTimestamp")), owner=owner_of(meta, by_job),
    )  # fmt: skip


def controller(meta: Mapping[str, Any]) -> tuple[str, str]:
    """Return kind and name of what controls an object; empty texts for nothing."""
    owners = meta.get("ownerReferences") or ()
    return next(((str(one["kind"]), str(one["name"])) for one in owners if one.get("controller")), ("", ""))


def owner_of(meta: Mapping[str, Any], by_job: Mapping[tuple[str, str], str]) -> str:
    """Return what a person calls the owner of a pod: the Deployment, not its ReplicaSet; the CronJob, not its Job."""
    kind, name = controller(meta)
    namespace, mark = str(meta.get("namespace") or ""), (meta.get("labels") or {}).get(_HASH)
    if kind in ("", "Node"):
        return ""
    if kind == "ReplicaSet" and mark and name.endswith(f"-{mark}"):
        kind, name = "Deployment", name.removesuffix(f"-{mark}")
    elif kind == "Job" and (namespace, name) in by_job:
        kind, name = "CronJob", by_job[namespace, name]
    return f"{kind} {namespace}/{name}"


def parse_workloads(kind: str, table: Table) -> tuple[Workload, ...]:
    """Read a Table of Deployments, StatefulSets or DaemonSets."""
    found = []
    for row in table.rows:
        ready, wanted = fraction(table.cell(row, "ready"))
        if kind == "DaemonSet":
            ready, wanted = _number(table.cell(row, "ready")), _number(table.cell(row, "desired"))
        images = tuple(image for image in table.cell(row, "images").split(",") if image not in ("", "<none>"))
        found.append(Workload(kind=kind, **named({"metadata": row.metadata}), wanted=wanted, ready=ready,
                              created=moment(row.metadata.get("creationTimestamp")), images=images))  # fmt: skip
    return tuple(found)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def parse_claims(table: Table) -> tuple[ClaimRow, ...]:
    """Read a Table of PersistentVolumeClaims."""
    return tuple(
        ClaimRow(**named({"metadata": row.metadata}), status=table.cell(row, "status"),
                 storage_class=table.cell(row, "storageclass"), created=moment(row.metadata.get("creationTimestamp")))
        for row in table.rows
    )  # fmt: skip


def backends_by_namespace(table: Table, pods: Iterable[PodHealth]) -> dict[str, list[Backend]]:
    """Return the pods that can answer, by namespace; the rows of the table are those of the pods."""
    found: dict[str, list[Backend]] = {}
    for row, pod in zip(table.rows, pods, strict=True):
        if pod.status == "Running" and pod.total and pod.ready == pod.total and pod.deleting is None:
            one = Backend(row.metadata.get("labels") or {}, pod.node, pod.subject)
            found.setdefault(pod.namespace, []).append(one)
    return found


def parse_service(item: Mapping[str, Any], backends: Mapping[str, list[Backend]]) -> ServiceRow:
    """Read a Service, and find the pods behind it."""
    spec, names = item.get("spec") or {}, named(item)
    given = ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    behind = matching(spec.get("selector"), backends.get(names["namespace"], ()))
    return ServiceRow(
        **names,
        kind=str(spec.get("type") or "ClusterIP"),
        addresses=tuple(str(one.get("ip") or one.get("hostname")) for one in given),
        created=moment(item["metadata"].get("creationTimestamp")),
        backends=tuple(one.node for one in behind),
        owners=tuple(dict.fromkeys(one.owner for one in behind)),
    )


def matching(selector: Mapping[str, str] | None, backends: Iterable[Backend]) -> list[Backend]:
    """Return the pods that a Service's selector matches; none for a Service without one."""
    if not selector:
        return []
    wanted = selector.items()
    return [one for one in backends if wanted <= one.labels.items()]
