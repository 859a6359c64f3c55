"""Read the cluster for the health report: each kind once, side by side, as many questions for 60 pods as for 3,000.

Overviews come as server-side Tables; kinds of which there are few, whole; and a few whole objects of what looks wrong.
A part that the credentials may not read is left out and named, save nodes and pods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from labkit.facts.kubehealth import KubeHealth
from labkit.lab import Lab
from labkit.lab.k3sconfig import token_password
from labkit.systems.access import Access
from labkit.systems.guests import lab_token
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.kubeconfig import expiry, stored_credentials
from labkit.systems.kubehealth import pods, rows, versions
from labkit.systems.kubehealth.details import Closer
from labkit.systems.kubehealth.serving import read_serving
from labkit.systems.kubernetes import Cluster, KubeError, Table

_WIDTH = 12
_TABLES = {
    "pods": "/api/v1/pods",
    "deployments": "/apis/apps/v1/deployments",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "jobs": "/apis/batch/v1/jobs",
    "claims": "/api/v1/persistentvolumeclaims",
    "namespaces": "/api/v1/namespaces",
    "apiservices": "/apis/apiregistration.k8s.io/v1/apiservices",
}
_LISTS = {
    "nodes": "/api/v1/nodes",
    "cronjobs": "/apis/batch/v1/cronjobs",
    "services": "/api/v1/services",
    "budgets": "/apis/policy/v1/poddisruptionbudgets",
    "quotas": "/api/v1/resourcequotas",
    "validating": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "mutating": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "snapshots": "/apis/k3s.cattle.io/v1/etcdsnapshotfiles",
    "definitions": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}
_NEEDED = ("nodes", "pods")
_LONG_AGO = datetime.fromtimestamp(0, UTC)


def read_kubernetes(lab: Lab, access: Access) -> KubeHealth:
    """Return what the API of any server shows.

    Raises:
        SystemDown: no server answers.
        KubeError: nodes or pods may not be read.
    """
    cluster = open_cluster(lab, access)
    with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
        serving = pool.submit(read_serving, lab, access)
        answers = _ask(cluster, pool)
        stored = stored_credentials(lab, access)
        return KubeHealth(
            server=cluster.host,
            kubeconfig=stored is not None,
            kubeconfig_expires=None if stored is None else expiry(stored),
            **_assemble(cluster, pool, answers, _token_hash(lab, access)),
            serving=serving.result(),
            read_at=datetime.now(UTC),
        )


def _ask(cluster: Cluster, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """Ask for every part; a KubeError stands for what is not to be had."""
    asked: dict[str, Future[Any]] = {}
    for name, path in _TABLES.items():  # the long ones first
        asked[name] = pool.submit(_kept, cluster.table, path)
    for name, path in _LISTS.items():
        asked[name] = pool.submit(_kept, _list, cluster, path)
    asked["metrics"] = pool.submit(_kept, _metrics, cluster)
    asked["readyz"] = pool.submit(_kept, cluster.unhealthy)
    return {name: answer.result() for name, answer in asked.items()}


def _kept(ask: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return ask(*arguments)
    except KubeError as exc:
        return exc


def _list(cluster: Cluster, path: str) -> list[dict[str, Any]]:
    return list(cluster.items(path))


def _metrics(cluster: Cluster) -> bytes:
    return cluster.request("GET", "/metrics", accept="text/plain")


def _assemble(
    cluster: Cluster, pool: ThreadPoolExecutor, answers: Mapping[str, Any], token_hash: str
) -> dict[str, Any]:
    """Make the rows, and ask for more of what looks wrong."""
    for name in _NEEDED:
        if isinstance(answers[name], KubeError):
            raise answers[name]
    now = datetime.now(UTC)
    have, closer = _Answers(answers), Closer(cluster, pool, now)
    jobs, table = pods.parse_jobs(have.table("jobs")), have.table("pods")
    seen = pods.parse_pods(table, jobs, now)
    backends = pods.backends_by_namespace(table, seen)
    services = tuple(pods.parse_service(item, backends) for item in have.items("services"))
    loose = rows.without_selector(have.items("services"))
    workloads = (
        *pods.parse_workloads("Deployment", have.table("deployments")),
        *pods.parse_workloads("StatefulSet", have.table("statefulsets")),
        *pods.parse_workloads("DaemonSet", have.table("daemonsets")),
    )
    return {
        "created": rows.parse_creation(have.table("namespaces")),
        "unhealthy": () if "readyz" in have.unread else answers["readyz"],
        "nodes": tuple(sorted((rows.parse_node_health(one) for one in have.items("nodes")), key=lambda one: one.name)),
        "pods": closer.pods(seen),
        "workloads": closer.workloads(workloads),
        "jobs": closer.jobs(jobs),
        "claims": closer.claims(pods.parse_claims(have.table("claims"))),
        "cronjobs": tuple(rows.parse_cronjob(one) for one in have.items("cronjobs")),
        "services": services,
        "webhooks": (*rows.parse_webhooks(have.items("validating"), "validating", services, loose),
                     *rows.parse_webhooks(have.items("mutating"), "mutating", services, loose)),
        "budgets": tuple(rows.parse_budget_health(one) for one in have.items("budgets")),
        "quotas": tuple(row for one in have.items("quotas") for row in rows.parse_quotas(one)),
        "snapshots": None if "snapshots" in have.absent else tuple(sorted(
            (rows.parse_snapshot(one, token_hash) for one in have.items("snapshots")),
            key=lambda one: one.created or _LONG_AGO, reverse=True)),
        "deprecated": versions.parse_metrics(b"" if "metrics" in have.unread else answers["metrics"]),
        "old_versions": versions.parse_definitions(have.items("definitions")),
        "broken_apis": rows.parse_broken_apis(have.table("apiservices")),
        "ending": rows.parse_ending(have.table("namespaces")),
        "unread": have.unread,
    }  # fmt: skip


class _Answers:
    """The answers, with nothing in place of those that are missing.

    Attributes:
        absent: parts that this cluster does not have.
        unread: parts that it has and does not show us, with the reason.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers
        errors = {name: one for name, one in answers.items() if isinstance(one, KubeError)}
        self.absent = frozenset(name for name, one in errors.items() if one.status == 404)
        self.unread = {name: one.said for name, one in errors.items() if one.status != 404 or name == "metrics"}

    def table(self, name: str) -> Table:
        answer = self._answers[name]
        return pods.NO_TABLE if isinstance(answer, KubeError) else answer

    def items(self, name: str) -> list[dict[str, Any]]:
        answer = self._answers[name]
        return [] if isinstance(answer, KubeError) else answer


def _token_hash(lab: Lab, access: Access) -> str:
    """The beginning of the hash of the lab's token, as k3s notes it on each snapshot; empty without a token."""
    token = lab_token(lab, access)
    return "" if token is None else hashlib.sha256(token_password(token).encode()).hexdigest()[:12]
