"""Objects of the API as rows: Flux's own, and workloads with why their pods do not run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from labkit.facts.flux import SUSPENDED_FOR, Condition, FluxObject, Workload

_WITH_SPEC = ("GitRepository", "Kustomization")
_FINE = ("ContainerCreating", "PodInitializing")
_NOTHING: Mapping[str, str] = {}


def parse_object(item: Mapping[str, Any], kind: str) -> FluxObject:
    """Return a row of a source, a Kustomization or a HelmRelease."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    space = str(metadata.get("namespace"))
    holder = _holder_of_suspend(metadata) if spec.get("suspend") else {}
    static = kind == "HelmRepository" and spec.get("type") == "oci"
    return FluxObject(
        kind=kind,
        namespace=space,
        name=str(metadata["name"]),
        api_version=str(item.get("apiVersion") or ""),
        suspended=bool(spec.get("suspend")),
        suspended_by=str(holder.get("manager") or ""),
        suspended_since=datetime.fromisoformat(holder["time"]) if holder.get("time") else None,
        suspended_for=str((metadata.get("annotations") or {}).get(SUSPENDED_FOR) or "") if spec.get("suspend") else "",
        managers=tuple(sorted({str(m.get("manager")) for m in _fields(metadata) if "f:spec" in _owned(m)})),
        generation=int(metadata.get("generation") or 0),
        observed=int(status.get("observedGeneration") or 0),
        conditions=parse_conditions(status),
        artifact=str((status.get("artifact") or {}).get("revision") or ""),
        applied=str(status.get("lastAppliedRevision") or _deployed(status)),
        attempted=str(status.get("lastAttemptedRevision") or ""),
        handled=str(status.get("lastHandledReconcileAt") or ""),
        source=_source(kind, spec, space),
        needs=tuple(_id(kind, one.get("namespace") or space, one["name"]) for one in spec.get("dependsOn") or ()),
        chart=_chart(kind, metadata, spec, status),
        path=str(spec.get("path") or ""),
        url=str(spec.get("url") or ""),
        branch=str((spec.get("ref") or {}).get("branch") or ""),
        secret=str((spec.get("secretRef") or (spec.get("decryption") or {}).get("secretRef") or {}).get("name") or ""),
        static=static,
        target=str(spec.get("targetNamespace") or space) if kind == "HelmRelease" else "",
        applied_by=_applied_by(metadata),
        spec=dict(spec) if kind in _WITH_SPEC else {},
    )


def _applied_by(metadata: Mapping[str, Any]) -> str:
    labels = metadata.get("labels") or {}
    name, space = (labels.get(f"kustomize.toolkit.fluxcd.io/{word}") for word in ("name", "namespace"))
    return _id("Kustomization", space, name) if name and space else ""


def parse_conditions(status: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Return the conditions of a status."""
    return tuple(
        Condition(type=str(c.get("type")), status=str(c.get("status")), reason=str(c.get("reason") or ""),
                  message=str(c.get("message") or ""))
        for c in status.get("conditions") or ()
    )  # fmt: skip


def _deployed(status: Mapping[str, Any]) -> str:
    """The chart version that a HelmRelease runs."""
    newest: Mapping[str, Any] = next(iter(status.get("history") or ()), {})
    return str(newest.get("chartVersion") or "") if newest.get("status") == "deployed" else ""


def _fields(metadata: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    found: Iterable[Mapping[str, Any]] = metadata.get("managedFields") or ()
    return found


def _owned(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = entry.get("fieldsV1") or {}
    return found


def _holder_of_suspend(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry of the field manager that holds `spec.suspend`; empty when none is known."""
    holders = (m for m in _fields(metadata) if "f:suspend" in (_owned(m).get("f:spec") or {}))
    return next(holders, {})


def _id(kind: str, namespace: object, name: object) -> str:
    return f"{kind}/{namespace}/{name}"


def _source(kind: str, spec: Mapping[str, Any], space: str) -> str:
    if kind == "HelmRelease":
        ref = spec.get("chartRef") or ((spec.get("chart") or {}).get("spec") or {}).get("sourceRef")
    else:
        ref = spec.get("sourceRef")
    return _id(ref.get("kind"), ref.get("namespace") or space, ref.get("name")) if ref else ""


def _chart(kind: str, metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    if kind != "HelmRelease" or "chart" not in spec:
        return ""
    if told := str(status.get("helmChart") or ""):
        return f"HelmChart/{told}"
    space = ((spec["chart"].get("spec") or {}).get("sourceRef") or {}).get("namespace") or metadata.get("namespace")
    return _id("HelmChart", space, f"{metadata.get('namespace')}-{metadata['name']}")


def parse_workload(item: Mapping[str, Any], kind: str, pods: Iterable[Mapping[str, Any]] = (),
                   told: Mapping[str, str] = _NOTHING) -> Workload:  # fmt: skip
    """Return a row of a Deployment, StatefulSet or DaemonSet, with what its pods say, or events tell of them by uid."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    template = (spec.get("template") or {}).get("spec") or {}
    mine = [pod for pod in pods if _belongs(pod, item)]
    if kind == "DaemonSet":
        wanted, ready = status.get("desiredNumberScheduled") or 0, status.get("numberReady") or 0
    else:
        wanted, ready = 1 if spec.get("replicas") is None else spec["replicas"], status.get("readyReplicas") or 0
    updated = status.get("updatedReplicas") or status.get("updatedNumberScheduled") or 0
    current = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
    started = sorted(str(pod["status"]["startTime"]) for pod in mine if (pod.get("status") or {}).get("startTime"))
    return Workload(
        kind=kind,
        namespace=str(metadata.get("namespace")),
        name=str(metadata["name"]),
        wanted=int(wanted),
        ready=int(ready),
        current=current and int(updated) >= int(wanted),
        images=tuple(str(c.get("image") or "") for c in template.get("containers") or ()),
        labels={str(k): str(v) for k, v in (metadata.get("labels") or {}).items()},
        problem=next(filter(None, (pod_problem(pod) or told.get(pod["metadata"]["uid"], "") for pod in mine)), ""),
        started=datetime.fromisoformat(started[0]) if started else None,
        configs=tuple(sorted({str(v["configMap"].get("name")) for v in template.get("volumes") or ()
                              if v.get("configMap")})),
    )  # fmt: skip


def event_time(event: Mapping[str, Any]) -> str:
    """Return when an event was last seen, in a form that sorts."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")


def _belongs(pod: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    selector = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    labels = pod["metadata"].get("labels") or {}
    same = pod["metadata"].get("namespace") == item["metadata"].get("namespace")
    return same and bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def pod_problem(pod: Mapping[str, Any]) -> str:
    """Say why a pod does not run; empty when it does, or has only just begun."""
    status = pod.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _FINE:
            return f"{waiting['reason']}: {waiting.get('message') or one.get('image') or one.get('name')}"
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return f"{one.get('name')} exited with {ended['exitCode']}: {ended.get('reason') or ''}"
    for one in status.get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False" and one.get("message"):
            return f"{one.get('reason')}: {one['message']}"
    return ""
