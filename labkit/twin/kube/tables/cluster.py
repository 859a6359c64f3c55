"""The tables of nodes, namespaces, events, access and the rest of the cluster."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.tables.cells import NONE, UNKNOWN, Cells, created, listed, name_of, since

_ROLE = "node-role.kubernetes.io/"
_BINDING = "Name Role Age Users* Groups* ServiceAccounts*"
COLUMNS = {
    "nodes": "Name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*",
    "namespaces": "Name Status Age",
    "events": "Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count* Name*",
    "secrets": "Name Type Data Age",
    "configmaps": "Name Data Age",
    "serviceaccounts": "Name Secrets Age",
    "leases.coordination.k8s.io": "Name Holder Age",
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
    "priorityclasses.scheduling.k8s.io": "Name Value Global-Default Age PreemptionPolicy",
    "runtimeclasses.node.k8s.io": "Name Handler Age",
    "apiservices.apiregistration.k8s.io": "Name Service Available Age",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": "Name Webhooks Age",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "Name Webhooks Age",
    "validatingadmissionpolicies.admissionregistration.k8s.io": "Name Validations ParamKind Age",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": "Name PolicyName ParamRef Age",
    "certificatesigningrequests.certificates.k8s.io": "Name Age SignerName Requestor RequestedDuration Condition",
    "resourcequotas": "Name Request Limit Age",
}


def _node(obj: Object, now: float) -> list[Any]:
    state = obj.get("status", {})
    info = state.get("nodeInfo", {})
    addresses = {a.get("type"): a.get("address") for a in reversed(state.get("addresses", ()))}
    return [
        name_of(obj),
        _node_status(obj),
        _roles(obj),
        created(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_status(obj: Object) -> str:
    ready = [c for c in obj.get("status", {}).get("conditions", ()) if c.get("type") == "Ready"]
    words = ["Ready" if c.get("status") == "True" else "NotReady" for c in ready] or ["Unknown"]
    if obj.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(obj: Object) -> str:
    labels = obj["metadata"].get("labels", {})
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE) and key != _ROLE}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    return listed(sorted(roles))


def _namespace(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), obj.get("status", {}).get("phase", ""), created(obj, now)]


def _event(obj: Object, now: float) -> list[Any]:
    about = obj.get("involvedObject", {})
    series = obj.get("series") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    source = obj.get("source") or {}
    component = obj.get("reportingComponent") or source.get("component", "")
    host = obj.get("reportingInstance") or source.get("host", "")
    kind = str(about.get("kind", "")).lower()
    return [
        since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath", ""),
        ", ".join(part for part in (component, host) if part),
        str(obj.get("message", "")).strip(),
        since(first, now),
        series.get("count") or obj.get("count") or 1,
        name_of(obj),
    ]


def _secret(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or ()), created(obj, now)]


def _config_map(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), created(obj, now)]


def _service_account(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(obj.get("secrets") or ()), created(obj, now)]


def _lease(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), obj.get("spec", {}).get("holderIdentity") or "", created(obj, now)]


def _binding(obj: Object, now: float) -> list[Any]:
    role, subjects = obj.get("roleRef", {}), obj.get("subjects", ())
    accounts = [f"{s.get('namespace', '')}/{s['name']}" for s in subjects if s.get("kind") == "ServiceAccount"]
    return [
        name_of(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        created(obj, now),
        ", ".join(s["name"] for s in subjects if s.get("kind") == "User"),
        ", ".join(s["name"] for s in subjects if s.get("kind") == "Group"),
        ", ".join(accounts),
    ]


def _priority_class(obj: Object, now: float) -> list[Any]:
    policy = obj.get("preemptionPolicy", "")
    return [name_of(obj), obj.get("value", 0), bool(obj.get("globalDefault")), created(obj, now), policy]


def _runtime_class(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), obj.get("handler", ""), created(obj, now)]


def _api_service(obj: Object, now: float) -> list[Any]:
    service = obj.get("spec", {}).get("service")
    text = f"{service['namespace']}/{service['name']}" if service else "Local"
    found = [c for c in obj.get("status", {}).get("conditions", ()) if c.get("type") == "Available"]
    state = "Unknown"
    if found:
        state = "True" if found[0].get("status") == "True" else f"False ({found[0].get('reason', '')})"
    return [name_of(obj), text, state, created(obj, now)]


def _webhooks(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(obj.get("webhooks") or ()), created(obj, now)]


def _admission_policy(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec", {})
    kind = spec.get("paramKind")
    text = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else "<unset>"
    return [name_of(obj), len(spec.get("validations") or ()), text, created(obj, now)]


def _admission_binding(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec", {})
    return [
        name_of(obj),
        spec.get("policyName", ""),
        (spec.get("paramRef") or {}).get("name", "<unset>"),
        created(obj, now),
    ]


def _signing_request(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec", {}), obj.get("status", {})
    words = [c["type"] for c in state.get("conditions", ()) if c.get("type") in ("Approved", "Denied", "Failed")]
    if state.get("certificate"):
        words.append("Issued")
    length = spec.get("expirationSeconds")
    return [
        name_of(obj),
        created(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        f"{length}s" if length else NONE,
        ",".join(words) or "Pending",
    ]


def _quota(obj: Object, now: float) -> list[Any]:
    state = obj.get("status", {})
    used = state.get("used", {})
    pairs = {key: f"{key}: {used.get(key, 0)}/{limit}" for key, limit in sorted(state.get("hard", {}).items())}
    limits = ", ".join(text for key, text in pairs.items() if key.startswith("limits"))
    return [
        name_of(obj),
        ", ".join(t for k, t in pairs.items() if not k.startswith("limits")),
        limits,
        created(obj, now),
    ]


CELLS: dict[str, Cells] = {
    "nodes": _node,
    "namespaces": _namespace,
    "events": _event,
    "secrets": _secret,
    "configmaps": _config_map,
    "serviceaccounts": _service_account,
    "leases.coordination.k8s.io": _lease,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "priorityclasses.scheduling.k8s.io": _priority_class,
    "runtimeclasses.node.k8s.io": _runtime_class,
    "apiservices.apiregistration.k8s.io": _api_service,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "validatingadmissionpolicies.admissionregistration.k8s.io": _admission_policy,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": _admission_binding,
    "certificatesigningrequests.certificates.k8s.io": _signing_request,
    "resourcequotas": _quota,
}
