"""From objects of the API to rows: nodes, CronJobs, budgets, quotas, snapshots, webhooks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from labkit.facts.kubehealth import (
    BrokenApi,
    Budget,
    CronJobRow,
    EndingNamespace,
    NodeHealth,
    QuotaRow,
    ServiceRow,
    SnapshotRow,
    WebhookRow,
)
from labkit.facts.quantities import parse_quantity
from labkit.systems.k3s.read import parse_budget, parse_node
from labkit.systems.kubehealth.values import condition, moment, named
from labkit.systems.kubernetes import Table

Item = Mapping[str, Any]
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
_TOKEN_HASH = "etcd.k3s.cattle.io/snapshot-token-hash"  # noqa: S105  # the name of an annotation


def parse_node_health(item: Item) -> NodeHealth:
    """Read a Node with what presses on it."""
    pressing = tuple(kind for kind in _PRESSURES if condition(item, kind).get("status") == "True")
    since = moment(condition(item, "Ready").get("lastTransitionTime"))
    return NodeHealth(**parse_node(item).model_dump(), pressures=pressing, since=since)


def parse_cronjob(item: Item) -> CronJobRow:
    """Read a CronJob."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    return CronJobRow(
        **named(item), schedule=str(spec.get("schedule") or ""), zone=str(spec.get("timeZone") or ""),
        suspended=bool(spec.get("suspend")), active=len(status.get("active") or ()),
        created=moment(item["metadata"].get("creationTimestamp")),
        last=moment(status.get("lastScheduleTime")), succeeded=moment(status.get("lastSuccessfulTime")),
    )  # fmt: skip


def parse_budget_health(item: Item) -> Budget:
    """Read a PodDisruptionBudget with what it asks for."""
    spec = item.get("spec") or {}
    texts = {"minimum": spec.get("minAvailable"), "most": spec.get("maxUnavailable")}
    return Budget(**parse_budget(item).model_dump(), **{k: "" if v is None else str(v) for k, v in texts.items()})


def parse_quotas(item: Item) -> Iterator[QuotaRow]:
    """Read a ResourceQuota: a row for each resource that it limits."""
    status = item.get("status") or {}
    used = status.get("used") or {}
    for resource, hard in (status.get("hard") or {}).items():
        most, now = parse_quantity(hard), parse_quantity(used.get(resource, "0"))
        if most > 0:
            yield QuotaRow(**named(item), resource=resource, used=str(used.get(resource, "0")), hard=str(hard),
                           percent=round(100 * now / most, 1))  # fmt: skip


def parse_snapshot(item: Item, token_hash: str) -> SnapshotRow:
    """Read an ETCDSnapshotFile; `token_hash` is that of the lab's token, empty when it is not known."""
    spec, status, meta = item.get("spec") or {}, item.get("status") or {}, item.get("metadata") or {}
    error, made_with = status.get("error") or {}, (meta.get("annotations") or {}).get(_TOKEN_HASH)
    opens: Literal["same", "other", "unknown"] = "unknown"
    if made_with and token_hash:
        opens = "same" if made_with == token_hash else "other"
    return SnapshotRow(
        name=str(spec.get("snapshotName") or meta.get("name") or ""),
        node=str(spec.get("nodeName") or ""),
        location=str(spec.get("location") or ""),
        created=moment(status.get("creationTime") or error.get("time") or meta.get("creationTimestamp")),
        size=int(parse_quantity(status.get("size") or 0)),
        good=bool(status.get("readyToUse")) and not error,
        error=str(error.get("message") or ""),
        opens=opens,
    )


def parse_webhooks(
    items: Iterable[Item], kind: Literal["validating", "mutating"], services: Iterable[ServiceRow], open_ended: set[str]
) -> tuple[WebhookRow, ...]:
    """Read webhook configurations: a row for each Service; `open_ended` are those without a selector."""
    known = {f"{one.namespace}/{one.name}": one for one in services}
    found: dict[tuple[str, str], WebhookRow] = {}
    for item in items:
        name = str(item["metadata"]["name"])
        for hook in item.get("webhooks") or ():
            asked = (hook.get("clientConfig") or {}).get("service")
            if not asked:
                continue
            service = f"{asked.get('namespace')}/{asked.get('name')}"
            there = known.get(service)
            backends = -1 if there is None else 1 if service in open_ended else len(there.backends)
            fails = (hook.get("failurePolicy") or "Fail") == "Fail"
            before = found.get((name, service))
            found[name, service] = WebhookRow(configuration=name, kind=kind, service=service, backends=backends,
                                              fails=fails or (before is not None and before.fails))  # fmt: skip
    return tuple(found.values())


def without_selector(items: Iterable[Item]) -> set[str]:
    """Return the Services whose endpoints somebody else keeps."""
    places = ((named(item), (item.get("spec") or {}).get("selector")) for item in items)
    return {f"{place['namespace']}/{place['name']}" for place, selector in places if not selector}


def parse_broken_apis(table: Table) -> tuple[BrokenApi, ...]:
    """Read a Table of APIServices: those that are not available."""
    found = []
    for row in table.rows:
        said = table.cell(row, "available")
        if said and said != "True":
            reason = said.partition("(")[2].rstrip(")") or said
            name = str(row.metadata.get("name"))
            found.append(BrokenApi(name=name, service=table.cell(row, "service"), reason=reason))
    return tuple(found)


def parse_creation(table: Table) -> datetime | None:
    """Return when a cluster was made: its namespace kube-system is as old as it."""
    found = (row.metadata for row in table.rows if row.metadata.get("name") == "kube-system")
    return next((moment(meta.get("creationTimestamp")) for meta in found), None)


def parse_ending(table: Table) -> tuple[EndingNamespace, ...]:
    """Read a Table of namespaces: those that are being deleted."""
    return tuple(
        EndingNamespace(name=str(row.metadata["name"]), since=since)
        for row in table.rows
        if (since := moment(row.metadata.get("deletionTimestamp"))) is not None
    )
