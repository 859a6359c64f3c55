"""The tables of deployments, sets, jobs and budgets."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.clock import age, parse_stamp
from labkit.twin.kube.door import Object
from labkit.twin.kube.selectors import selector_text
from labkit.twin.kube.tables.cells import NONE, Cells, containers, created, labels_text, name_of, since

_SET = "Name Desired Current Ready Age Containers* Images* Selector*"
COLUMNS = {
    "deployments.apps": "Name Ready Up-to-date Available Age Containers* Images* Selector*",
    "replicasets.apps": _SET,
    "replicationcontrollers": _SET,
    "daemonsets.apps": (
        "Name Desired Current Ready Up-to-date Available Node_Selector Age Containers* Images* Selector*"
    ),
    "statefulsets.apps": "Name Ready Age Containers* Images*",
    "jobs.batch": "Name Status Completions Duration Age Containers* Images* Selector*",
    "cronjobs.batch": ("Name Schedule Timezone Suspend Active Last_Schedule Age Containers* Images* Selector*"),
    "poddisruptionbudgets.policy": "Name Min_Available Max_Unavailable Allowed_Disruptions Age",
    "controllerrevisions.apps": "Name Controller Revision Age",
    "podtemplates": "Name Containers Images Pod_Labels",
    "horizontalpodautoscalers.autoscaling": "Name Reference Targets MinPods MaxPods Replicas Age",
}


def _template(obj: Object) -> Object:
    found: Object = obj["spec"].get("template", {}).get("spec", {})
    return found


def _selector(obj: Object) -> str:
    return selector_text(obj["spec"].get("selector")) or NONE


def _deployment(obj: Object, now: float) -> list[Any]:
    spec, state = obj["spec"], obj.get("status", {})
    return [
        name_of(obj),
        f"{state.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        state.get("updatedReplicas", 0),
        state.get("availableReplicas", 0),
        created(obj, now),
        *containers(_template(obj)),
        _selector(obj),
    ]


def _replica_set(obj: Object, now: float) -> list[Any]:
    spec, state = obj["spec"], obj.get("status", {})
    selector = spec.get("selector") or {}
    text = _selector(obj) if "matchLabels" in selector or "matchExpressions" in selector else labels_text(selector)
    return [
        name_of(obj),
        spec.get("replicas", 0),
        state.get("replicas", 0),
        state.get("readyReplicas", 0),
        created(obj, now),
        *containers(_template(obj)),
        text,
    ]


def _daemon_set(obj: Object, now: float) -> list[Any]:
    state = obj.get("status", {})
    return [
        name_of(obj),
        state.get("desiredNumberScheduled", 0),
        state.get("currentNumberScheduled", 0),
        state.get("numberReady", 0),
        state.get("updatedNumberScheduled", 0),
        state.get("numberAvailable", 0),
        labels_text(_template(obj).get("nodeSelector")),
        created(obj, now),
        *containers(_template(obj)),
        _selector(obj),
    ]


def _stateful_set(obj: Object, now: float) -> list[Any]:
    ready = f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"
    return [name_of(obj), ready, created(obj, now), *containers(_template(obj))]


def _job(obj: Object, now: float) -> list[Any]:
    spec, state = obj["spec"], obj.get("status", {})
    wanted = spec.get("completions")
    parallel = spec.get("parallelism", 0)
    of = wanted if wanted is not None else (f"1 of {parallel}" if parallel > 1 else 1)
    return [
        name_of(obj),
        _job_status(obj),
        f"{state.get('succeeded', 0)}/{of}",
        _duration(state, now),
        created(obj, now),
        *containers(_template(obj)),
        _selector(obj),
    ]


def _job_status(obj: Object) -> str:
    true = {c["type"] for c in obj.get("status", {}).get("conditions", ()) if c.get("status") == "True"}
    if "Complete" in true:
        return "Complete"
    if "Failed" in true:
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    words = {"Suspended": "Suspended", "FailureTarget": "FailureTarget", "SuccessCriteriaMet": "SuccessCriteriaMet"}
    return next((text for word, text in words.items() if word in true), "Running")


def _duration(state: Object, now: float) -> str:
    if not state.get("startTime"):
        return ""
    end = parse_stamp(state["completionTime"]) if state.get("completionTime") else now
    return age(end - parse_stamp(state["startTime"]))


def _cron_job(obj: Object, now: float) -> list[Any]:
    spec, state = obj["spec"], obj.get("status", {})
    template = spec["jobTemplate"]["spec"]
    return [
        name_of(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        str(bool(spec.get("suspend"))),
        len(state.get("active", ())),
        since(state["lastScheduleTime"], now) if state.get("lastScheduleTime") else NONE,
        created(obj, now),
        *containers(template.get("template", {}).get("spec", {})),
        selector_text(template.get("selector")) or NONE,
    ]


def _budget(obj: Object, now: float) -> list[Any]:
    spec = obj["spec"]
    return [
        name_of(obj),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        obj.get("status", {}).get("disruptionsAllowed", 0),
        created(obj, now),
    ]


def _revision(obj: Object, now: float) -> list[Any]:
    owners = [o for o in obj["metadata"].get("ownerReferences", ()) if o.get("controller")]
    owner = NONE
    if owners:
        group = owners[0]["apiVersion"].rpartition("/")[0]
        owner = f"{owners[0]['kind'].lower()}{f'.{group}' if group else ''}/{owners[0]['name']}"
    return [name_of(obj), owner, obj.get("revision", 0), created(obj, now)]


def _pod_template(obj: Object, _now: float) -> list[Any]:
    template = obj.get("template", {})
    return [
        name_of(obj),
        *containers(template.get("spec", {})),
        labels_text(template.get("metadata", {}).get("labels")),
    ]


def _autoscaler(obj: Object, now: float) -> list[Any]:
    spec, state = obj["spec"], obj.get("status", {})
    target = spec.get("scaleTargetRef", {})
    return [
        name_of(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        "<unknown>" if spec.get("metrics") else NONE,
        str(spec.get("minReplicas", UNSET)),
        spec.get("maxReplicas", 0),
        state.get("currentReplicas", 0),
        created(obj, now),
    ]


UNSET = "<unset>"
CELLS: dict[str, Cells] = {
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "replicationcontrollers": _replica_set,
    "daemonsets.apps": _daemon_set,
    "statefulsets.apps": _stateful_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "poddisruptionbudgets.policy": _budget,
    "controllerrevisions.apps": _revision,
    "podtemplates": _pod_template,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
}
